"""Membranes in sections of the ventral nerve cord of a Drosophila larva, one channel.

The ISBI 2012 challenge: Cardona et al. 2010, Arganda-Carreras et al. 2015; one stack of 512 x 512
pixels (4 nm; 50 nm between sections).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.types import Splits

HOW = (
  'put the sections of the labeled stack in images/ and their labels, under the same names, in '
  'masks/, other sections in unlabeled/, and give the folder as --config.data.root=FOLDER.'
)
PUBLISHED_CELL = 255
"""The inside of cells in the published labels, whose membranes are 0."""


def load(
  *,
  root: str | Path | None = None,
  labeled: float | int = 1.0,
  val: int = 0,
  test: float | int = 1 / 3,
  seed: int = 0,
  draw: int = 0,
  percentiles: Sequence[float | int] = (0, 100),
) -> Splits:
  """Loads membranes against the rest.

  Sections are split by depth, because neighbors are nearly equal: the last are the test, those
  before them val.

  Args:
    root: the folder, or the one that holds `em_isbi2012`.
    labeled: how many of the training sections are labeled: a number, or a fraction. The others,
      and those of unlabeled/, have no labels.
    val: how many sections are val.
    test: how many sections are the test.
    seed: of the draw of the labeled ones.
    draw: number of the repetition, each with other labeled images.
    percentiles: of the training images' raw values; they become 0 and 1 (0, 100: minimum and
      maximum).

  Raises:
    UserError: if a file is missing or an amount impossible.
  """
  folder = microscopy.find_folder(root, 'em_isbi2012', HOW)
  sections = microscopy.split_by_depth(folder, val, test, HOW)
  return microscopy.make_splits(
    sections.training,
    sections.test,
    labeled=labeled,
    val=sections.val,
    seed=seed,
    draw=draw,
    read_mask=read_mask,
    percentiles=percentiles,
    classes=('background', 'membrane'),
    notes=[sections.note],
  )


def read_mask(path: Path) -> UInt8[np.ndarray, 'h w']:
  """Reads a mask: 1 where there is a membrane.

  Masks hold 1 at membranes and 0 elsewhere, or, as published, 0 at membranes and 255 elsewhere.

  Raises:
    UserError: if the mask holds another value.
  """
  values = masks.read_mask(path)
  unknown = {*np.unique(values).tolist()} - {0, 1, PUBLISHED_CELL}
  if unknown:
    raise UserError(f'{path} holds {min(unknown)}, which is no label of this data set; {HOW}')
  if values.max() == PUBLISHED_CELL:
    return (values == 0).astype(np.uint8)
  return values.astype(np.uint8)
