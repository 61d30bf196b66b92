"""Slices of volumes, for networks of two dimensions, and the volumes that such networks score."""

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Num, UInt8

from ssl_jax.io import images
from ssl_jax.types import Record, Source

Size = Sequence[int] | None
"""Rows and columns of a slice as a network sees it; None: as it is."""

CACHE_BYTES = 1 << 29
"""Slices kept in memory, of each source; the others are cut out and resized whenever asked for."""

OPEN_VOLUMES = 512
"""Volumes of each source whose files stay mapped into memory."""


class SliceSource:
  """A Source of the slices [y, x] of volumes, from the first to the last slice of each.

  A slice is called after its volume and its number: heart-z03 is the fourth of `heart`.

  Args:
    volumes: images [z, y, x, C], with or without labels.
    size: rows and columns that every slice is resized to; None: as it is.
  """

  def __init__(self, volumes: Source, size: Size = None):
    # Finding the files of a volume again would take longer than to read a slice of it.
    self._volume = functools.lru_cache(OPEN_VOLUMES)(volumes.__getitem__)
    self._size = size
    self._count = len(volumes)
    self._places: list[tuple[int, int]] = []  # number of the volume, and of the slice in it
    for index in range(self._count):
      depth = len(self._volume(index)['image'])
      self._places += [(index, z) for z in range(depth)]
    self._kept: dict[int, Record] = {}
    self._free_bytes = CACHE_BYTES
    # Two threads read ahead.
    self._lock = threading.Lock()

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> Record:
    index = int(index) % len(self)
    record = self._kept.get(index)
    if record is None:
      record = self._cut(*self._places[index])
      self._keep(index, record)
    # A shallow copy, so that callers may add keys to theirs.
    return record.copy()

  def sizes(self) -> list[tuple[int, int]]:
    """Returns the rows and columns of each slice as a network sees it."""
    if self._size is not None:
      return [(self._size[0], self._size[1])] * len(self)
    of_volumes = [self._volume(index)['image'].shape[1:3] for index in range(self._count)]
    return [of_volumes[index] for index, _ in self._places]

  def _cut(self, volume: int, z: int) -> Record:
    whole = self._volume(volume)
    # Two digits at least, so that the order of names is that of slices.
    digits = max(len(str(len(whole['image']) - 1)), 2)
    record = Record(
      name=f'{whole["name"]}-z{z:0{digits}}', image=resize_image(whole['image'][z], self._size)
    )
    if 'label' in whole:
      record['label'] = resize_ids(np.asarray(whole['label'])[z], self._size)
    return record

  def _keep(self, index: int, record: Record) -> None:
    arrays: list[Any] = [value for value in record.values() if isinstance(value, np.ndarray)]
    for array in arrays:
      array.flags.writeable = False  # one copy serves every epoch
    size = sum(array.nbytes for array in arrays)
    with self._lock:
      if index not in self._kept and size <= self._free_bytes:
        self._free_bytes -= size
        self._kept[index] = record


class SlicedVolumes:
  """A Source of whole volumes whose records say that they are predicted slice by slice.

  `slice_size` of a record is the size at which the network sees a slice; None: as it is.
  """

  def __init__(self, volumes: Source, size: Size = None):
    self.volumes = volumes
    self.size = size

  def __len__(self) -> int:
    return len(self.volumes)

  def __getitem__(self, index: int) -> Record:
    record = self.volumes[index].copy()
    record['slice_size'] = self.size
    return record

  def slices(self) -> SliceSource:
    """Returns the slices of the volumes, as images of their own."""
    return SliceSource(self.volumes, self.size)


def resize_image(image: Num[np.ndarray, 'y x c'], size: Size) -> Num[np.ndarray, 'h w c']:
  """Returns a copy of a slice with `size` rows and columns (bilinear); None: its own."""
  if size is None or tuple(size) == image.shape[:2]:
    return np.array(image)
  return images.resize(np.asarray(image), size, smooth=True)


def resize_ids(ids: UInt8[np.ndarray, 'y x'], size: Size) -> UInt8[np.ndarray, 'h w']:
  """Returns a copy of the class ids of a slice, resized as `resize_image` does (nearest)."""
  if size is None or tuple(size) == ids.shape:
    return np.array(ids)
  return np.array(images.resize(np.asarray(ids), size, smooth=False))
