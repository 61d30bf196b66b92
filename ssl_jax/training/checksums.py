"""Checksums of the arrays of a checkpoint: neither Orbax nor the file system notices a flipped bit.

TensorStore checks the index of its files but not the numbers in them, so that a damaged
checkpoint is restored without a word.
"""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np


def of_tree(tree: Any) -> dict[str, int]:
  """Returns the CRC-32 of the bytes of each array, by its path such as 'student/params/kernel'."""
  checksums = {}
  for name, array in _named(tree):
    # As bytes, because bfloat16 is no type of Python's buffers.
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    checksums[name] = zlib.crc32(content.data)
  return checksums


def layout(tree: Any) -> dict[str, tuple]:
  """Returns the shape and the type of each array, by its path."""
  return {name: (np.shape(array), str(array.dtype)) for name, array in _named(tree)}


def _named(tree: Any) -> Iterator[tuple[str, Any]]:
  for path, array in jax.tree_util.tree_leaves_with_path(tree):
    yield '/'.join(_word(key) for key in path), array


def _word(key: Any) -> str:
  """One word of a path, the same for a NamedTuple as for the dict that it is stored as."""
  for attribute in ('key', 'name', 'idx'):
    if hasattr(key, attribute):
      return str(getattr(key, attribute))
  return str(key)


def first_difference(stored: Mapping[str, int], tree: Any) -> str | None:
  """Returns the path of the first array that is not what was stored; None if all are."""
  now = of_tree(tree)
  for name in sorted({*stored, *now}):
    if stored.get(name) != now.get(name):
      return name
  return None
