"""Arrays in files that are mapped into memory, so that a crop is read without the rest.

A folder holds one .npy file for each array. What is looked at comes from the disk, so that a
thousand volumes take no more memory than one.
"""

import bisect
import errno
import functools
import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.types import BACKGROUND, IGNORE

FOREGROUND: Final = 'foreground'
"""The array, and the key of a record, that holds the flat indices of a label's foreground."""


def write_arrays(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
  """Writes all of the arrays or none; if another process has written the folder, its stays."""
  # A folder is renamed in one step, so others see all arrays or no folder. A random name keeps two
  # writers apart; it does not hold that of the folder, which may be as long as names can be.
  temporary = folder.with_name(f'.{uuid.uuid4().hex[:12]}.part')
  temporary.mkdir(parents=True)
  try:
    for name, array in arrays.items():
      _save(temporary / f'{name}.npy', array)
    temporary.rename(folder)
  # The rename fails if another process was faster. Its arrays come from the same input.
  except OSError:
    if not folder.is_dir():
      raise
  finally:
    # Does nothing after the rename.
    shutil.rmtree(temporary, ignore_errors=True)


def _save(path: Path, array: np.ndarray) -> None:
  try:
    np.save(path, array)
  except OSError as error:
    # NumPy says how many bytes it could not write, but not why.
    if error.errno is None:
      raise OSError(errno.ENOSPC, 'No space left on device', str(path)) from error
    raise


def read_arrays(folder: Path, exclude: Sequence[str] = ()) -> dict[str, np.ndarray]:
  """Returns the arrays of a folder by name, mapped into memory, without those in `exclude`."""
  paths = [path for path in folder.glob('*.npy') if path.stem not in exclude]
  return {path.stem: _map(path) for path in paths}


class _Layout(NamedTuple):
  """How an array lies in its file: the arguments of np.memmap."""

  dtype: np.dtype
  shape: tuple[int, ...]
  order: str
  offset: int


def _map(path: Path) -> np.ndarray:
  """Maps the array of a file into memory."""
  layout = _layout(path, path.stat().st_mtime_ns)
  return np.memmap(path, layout.dtype, 'r', layout.offset, layout.shape, layout.order)


@functools.lru_cache(maxsize=100_000)
def _layout(path: Path, changed: int) -> _Layout:
  """Reads the head of a file, once for each of its times of change."""
  # NumPy reads it with Python's own parser, which two threads of Python 3.11 cannot use at a time:
  # now and then one gets a SystemError ("AST constructor recursion depth mismatch").
  with _PARSING:
    mapped = np.load(path, mmap_mode='r')
  order = 'F' if np.isfortran(mapped) else 'C'
  return _Layout(mapped.dtype, mapped.shape, order, mapped.offset)


_PARSING = threading.Lock()


def with_foreground(label: UInt8[np.ndarray, '*space']) -> dict[str, np.ndarray]:
  """Returns a label and its foreground indices, as a record holds them.

  Looking for the foreground once saves reading a whole volume each time a crop of it is drawn.
  """
  return {'label': label, FOREGROUND: foreground_indices(label)}


def foreground_indices(label: Integer[np.ndarray, '*space']) -> Integer[np.ndarray, ' n']:
  """Returns the flat indices, in order, of all that is neither background nor IGNORE."""
  # Sorted, which `draw_index` relies on.
  indices = np.flatnonzero((label != BACKGROUND) & (label != IGNORE))
  # uint32 halves the file of a volume.
  return indices.astype(np.uint32) if label.size <= 2**32 else indices


def draw_index(
  foreground: Integer[np.ndarray, ' n'],
  size: int,
  rng: np.random.Generator,
  foreground_prob: float | int,
) -> int:
  """Draws a flat index: of the foreground with probability `foreground_prob`, else of the rest.

  Where there is none of the kind that was drawn, it is any index.

  Args:
    foreground: flat indices, in order. Only those that the search looks at are read from the disk.
    size: the number of pixels or voxels in all.
    rng: is used for exactly two draws.
    foreground_prob: in 0..1.
  """
  # Always two draws, so that the random numbers that follow do not depend on the mask.
  in_foreground = rng.random() < foreground_prob
  count = len(foreground) if in_foreground else size - len(foreground)
  # If there is no pixel of the kind that was drawn, all pixels are candidates.
  nth = int(rng.integers(count or size))
  if not count:
    return nth
  if in_foreground:
    return int(foreground[nth])
  # The nth index outside of the foreground is n plus the number of foreground indices before it.
  # foreground[i] - i is how many other indices lie before foreground[i]; it never decreases.
  before = bisect.bisect_right(range(len(foreground)), nth, key=lambda i: int(foreground[i]) - i)
  return nth + before
