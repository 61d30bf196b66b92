"""Arrays of volumes in files of which a piece is read without the rest.

A folder holds one .npy for each array; they are mapped into memory, so that what is looked at comes
from the disk, and a thousand volumes take no more room than one.
"""

import bisect
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.types import BACKGROUND, IGNORE

MARKED = 'foreground'
"""The array that `labelled` adds to a label, and to a record."""


def write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes all of the arrays or none; what another process has written meanwhile stays."""
  part = folder.with_name(f'{folder.name}.{os.getpid()}.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  for name, array in arrays.items():
    np.save(part / f'{name}.npy', array)
  try:
    part.rename(folder)
  except OSError:
    if not folder.is_dir():
      raise
    shutil.rmtree(part)


def read(folder: Path, *but: str) -> dict[str, np.ndarray]:
  """The arrays of a folder by name, `but` some, none of them in memory yet."""
  files = (path for path in folder.glob('*.npy') if path.stem not in but)
  return {path.stem: np.load(path, mmap_mode='r') for path in files}


def labelled(label: UInt8[np.ndarray, '*space']) -> dict[str, np.ndarray]:
  """A label, and where its foreground is: looked for once, not whenever a piece is drawn."""
  return {'label': label, MARKED: foreground(label)}


def foreground(label: Integer[np.ndarray, '*space']) -> Integer[np.ndarray, ' n']:
  """Flat indices, in order, of what is neither background nor IGNORE."""
  found = np.flatnonzero((label != BACKGROUND) & (label != IGNORE))
  return found.astype(np.uint32) if label.size <= 2**32 else found


def draw(
  marked: Integer[np.ndarray, ' n'], size: int, rng: np.random.Generator, share: float | int
) -> int:
  """A flat index below `size`: with probability `share` one of the `marked`, else of the others.

  Any index, where there is none of that kind. The marked ones are in order, and only those at which
  the search looks are read.
  """
  inside = rng.random() < share
  count = len(marked) if inside else size - len(marked)
  nth = int(rng.integers(count or size))
  if not count:
    return nth
  if inside:
    return int(marked[nth])
  return nth + bisect.bisect_right(range(len(marked)), nth, key=lambda i: int(marked[i]) - i)
