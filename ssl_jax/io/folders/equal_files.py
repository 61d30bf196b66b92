"""Finds files of one content, reading few bytes of those that have no copy."""

import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import NamedTuple

PEEKED = 16_384
"""Bytes that are compared at either end of files of one size, before all of them are."""


class EqualFiles(NamedTuple):
  """What was found among some files."""

  groups: list[list[int]]  # indices of files of one content, at least two in each
  unreadable: list[str]  # a sentence for each file that could not be read


def find(paths: Sequence[Path]) -> EqualFiles:
  """Returns which files are equal byte for byte; a path that occurs twice is equal to itself."""
  unreadable: dict[Path, str] = {}
  groups = [list(range(len(paths)))]
  # The cheapest first: most files have no copy, and are told apart by a few bytes.
  for key_of in (_size, _ends, _digest):
    split: list[list[int]] = []
    for group in groups:
      split += _split(group, paths, key_of, unreadable)
    groups = split
  return EqualFiles(sorted(groups), list(unreadable.values()))


def _split(
  group: Sequence[int],
  paths: Sequence[Path],
  key_of: Callable[[Path], Hashable],
  unreadable: dict[Path, str],
) -> list[list[int]]:
  """The parts of a group that agree in a key, without those of one file."""
  parts: dict[Hashable, list[int]] = {}
  for index in group:
    path = paths[index]
    try:
      parts.setdefault(key_of(path), []).append(index)
    except OSError as error:
      unreadable[path] = f'{path} cannot be read ({error.strerror}).'
  return [part for part in parts.values() if len(part) > 1]


def _size(path: Path) -> int:
  return path.stat().st_size


def _ends(path: Path) -> bytes:
  with path.open('rb') as file:
    head = file.read(PEEKED)
    file.seek(-min(PEEKED, file.seek(0, os.SEEK_END)), os.SEEK_END)
    return head + file.read()


def _digest(path: Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
