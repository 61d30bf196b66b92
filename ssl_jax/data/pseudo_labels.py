"""Unlabeled images with the masks that an earlier stage wrote for them."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.io import mask_store, memmap_arrays
from ssl_jax.types import Source


class PseudoLabeled:
  """A Source of unlabeled images with the masks that a stage wrote for some of them.

  Each of `folders` holds masks/ and labels.csv, whose first two columns are the index of an
  image in `source` and its name.
  """

  def __init__(self, source: Source, folders: Sequence[Path]):
    self._source, self._rows = source, []
    for folder in folders:
      with (folder / 'labels.csv').open(newline='') as file:
        rows = [(int(row['index']), row['name']) for row in csv.DictReader(file)]
      self._rows += [(index, folder, name) for index, name in rows]

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> dict:
    at, folder, name = self._rows[index]
    record = {key: value for key, value in self._source[at].items() if key != memmap_arrays.MARKED}
    return record | mask_store.read_training_mask(folder, name)
