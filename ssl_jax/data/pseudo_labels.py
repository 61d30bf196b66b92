"""Unlabeled images with the masks that an earlier stage predicted for them."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.io import mask_store, memmap_arrays
from ssl_jax.types import Record, Source


class PseudoLabeled:
  """A Source of the unlabeled images for which stages wrote pseudo-labels.

  Args:
    source: the unlabeled images.
    folders: of the stages. Each holds masks/ and labels.csv, whose first two columns are the index
      of an image in `source` and its name.
  """

  def __init__(self, source: Source, folders: Sequence[Path]):
    self._source = source
    # One entry for each pseudo-labeled image: its index in the source, the stage's folder, its
    # name.
    self._rows: list[tuple[int, Path, str]] = []
    for folder in folders:
      with (folder / 'labels.csv').open(newline='') as file:
        for row in csv.DictReader(file):
          self._rows.append((int(row['index']), folder, row['name']))

  def __len__(self) -> int:
    return len(self._rows)

  def __getitem__(self, index: int) -> Record:
    image_index, folder, name = self._rows[index]
    record = self._source[image_index].copy()
    # The source may know the foreground of a hidden truth: only that of the pseudo-label counts.
    record.pop('foreground', None)
    # Masks are read when asked for, as there may be thousands.
    arrays = mask_store.read_training_mask(folder, name)
    record['label'] = arrays['label']
    if memmap_arrays.FOREGROUND in arrays:
      record['foreground'] = arrays[memmap_arrays.FOREGROUND]
    return record
