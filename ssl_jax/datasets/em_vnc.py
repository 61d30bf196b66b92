"""Sections of the ventral nerve cord of a Drosophila larva in the electron microscope, one channel.

Gerhard et al. 2013, figshare 856713: two stacks of 1024 x 1024 pixels (4.6 nm; 45 to 50 nm between
sections), the first with labels.
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
  'put the sections of stack 1 (github.com/unidesigner/groundtruth-drosophila-vnc) in images/ and '
  'their labels, under the same names, in masks/, those of stack 2 in unlabeled/, and give the '
  'folder as --config.data.root=FOLDER.'
)
CLASSES = ('intracellular', 'membrane', 'extracellular', 'mitochondrion', 'synapse')
# 0 to 128 are all membranes, by orientation and at junctions; 159 is glia or extracellular space.
PUBLISHED_VALUES = {255: 0, 0: 1, 32: 1, 64: 1, 96: 1, 128: 1, 159: 2, 191: 3, 223: 4}
"""Values of the published merged labels -> indices of CLASSES."""

# The inside of a cell includes its organelles.
TARGETS = {
  'cell': ('intracellular', 'mitochondrion', 'synapse'),
  'membrane': ('membrane',),
  'extracellular': ('extracellular',),
  'mitochondrion': ('mitochondrion',),
  'synapse': ('synapse',),
}
"""What may be segmented -> the classes that it consists of."""


def load(
  *,
  root: str | Path | None = None,
  set: str = 'em_vnc',
  target: str = 'mitochondrion',
  labeled: float | int = 1.0,
  val: int = 1,
  test: float | int = 1 / 3,
  seed: int = 0,
  draw: int = 0,
  percentiles: Sequence[float | int] = (0, 100),
) -> Splits:
  """Loads one target against the rest, or all five classes.

  Sections are split by depth, because neighbors are nearly equal: the last are the test, those
  before them val.

  Args:
    root: the folder, or the one that holds `set`.
    set: the name of the folder in `root`.
    target: 'cell', 'mitochondrion' or another of TARGETS; 'all': five classes.
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
  if target not in (*TARGETS, 'all'):
    raise UserError(f'data.target={target!r} is not one of all, {", ".join(TARGETS)}.')
  folder = microscopy.find_folder(root, set, HOW)
  sections = microscopy.split_by_depth(folder, val, test, HOW)
  return microscopy.make_splits(
    sections.training,
    sections.test,
    labeled=labeled,
    val=sections.val,
    seed=seed,
    draw=draw,
    read_mask=lambda path: read_mask(path, target),
    percentiles=percentiles,
    classes=CLASSES if target == 'all' else ('background', target),
    notes=[sections.note],
  )


def read_mask(path: Path, target: str = 'all') -> UInt8[np.ndarray, 'h w']:
  """Reads a mask with indices of CLASSES, or with the values of the published merged labels.

  Returns class ids for the target 'all'; for another target 1 where it is, 0 elsewhere.

  Raises:
    UserError: if the mask holds another value.
  """
  values = masks.read_mask(path)
  # Indices of CLASSES are 0 to 4. Larger values are published ones.
  if values.max() >= len(CLASSES):
    # [256], indexed by a mask it gives the class of each pixel.
    table = np.zeros(256, np.uint8)
    for value, index in PUBLISHED_VALUES.items():
      table[value] = index
    unknown = {*np.unique(values).tolist()} - {*PUBLISHED_VALUES}
    if unknown:
      raise UserError(f'{path} holds {min(unknown)}, which is no label of this data set; {HOW}')
    values = table[values]
  if target == 'all':
    return values.astype(np.uint8)
  wanted = [CLASSES.index(name) for name in TARGETS[target]]
  return np.isin(values, wanted).astype(np.uint8)
