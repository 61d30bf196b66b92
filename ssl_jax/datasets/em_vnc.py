"""Sections of the ventral nerve cord of a Drosophila larva in the electron microscope, one channel.

Gerhard et al. 2013, figshare 856713: two stacks of 1024 x 1024 pixels (4.6 nm; 45 to 50 nm between
sections), the first with labels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ssl_jax.data.image_mask_pairs import files_in
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import Splits

HOW = (
  'put the sections of stack 1 (github.com/unidesigner/groundtruth-drosophila-vnc) in images/ and '
  'their labels, under the same names, in masks/, those of stack 2 in unlabeled/, and give the '
  'folder as --config.data.root=FOLDER.'
)
CLASSES = ('intracellular', 'membrane', 'extracellular', 'mitochondrion', 'synapse')
MERGED = {255: 0, 0: 1, 32: 1, 64: 1, 96: 1, 128: 1, 159: 2, 191: 3, 223: 4}
"""Values of the published merged labels -> CLASSES."""
TARGETS = {
  'cell': ('intracellular', 'mitochondrion', 'synapse'),
  **{name: (name,) for name in CLASSES[1:]},
}
"""What may be looked for -> the classes that it is made of."""


def load(
  *,
  root: str | Path | None = None,
  set: str = 'em_vnc',
  target: str = 'mitochondrion',
  labeled: float | int = 1.0,
  val: int = 1,
  test: float | int = 1 / 3,
  seed: int = 0,
  percentiles: Sequence[float | int] = (0, 100),
) -> Splits:
  """Loads `target` ('cell', 'mitochondrion', ...; 'all': five classes) against the rest.

  The folder is `root` or `root`/`set`. Sections are split by depth, because neighbours are nearly
  equal: the last `test` (a share or a number) are the test, the `val` before them validation.
  `labeled` is a share or a number of the others; those left over, and unlabeled/, have no labels.
  Raises UserError for a missing file or an impossible share.
  """
  if target not in (*TARGETS, 'all'):
    raise UserError(f'data.target={target!r} is not one of all, {", ".join(TARGETS)}.')
  folder = microscopy.folder_of(root, set, HOW)
  items = microscopy.match(files_in(folder / 'images'), folder / 'masks', lambda path: path.stem)
  if bare := [item.name for item in items if item.mask is None]:
    raise UserError(f'{folder}/masks has no mask of {bare[0]}; {HOW}')
  held = microscopy.count_of(test, len(items) - 1, 'data.test')
  above = microscopy.count_of(val, len(items) - held - 1, 'data.val', least=0)
  first = len(items) - held - above
  more = files_in(folder / 'unlabeled') if (folder / 'unlabeled').is_dir() else []
  return microscopy.splits(
    [*items[:first], *more],
    items[first + above :],
    labeled=labeled,
    val=items[first : first + above],
    seed=seed,
    read_mask=lambda path: read_mask(path, target),
    percentiles=percentiles,
    classes=CLASSES if target == 'all' else ('background', target),
    notes=[f'test: the last {held} sections, val: the {above} before them'],
  )


def read_mask(path: Path, target: str = 'all') -> UInt8[np.ndarray, 'h w']:
  """Reads a mask of CLASSES, or of the published merged labels; a target is 1, the rest 0."""
  values = images.read_mask(path)
  if values.max() >= len(CLASSES):
    if lost := {*np.unique(values).tolist()} - {*MERGED}:
      raise UserError(f'{path} holds {min(lost)}, which is no label of this data set; {HOW}')
    table = np.zeros(256, np.uint8)
    table[[*MERGED]] = [*MERGED.values()]
    values = table[values]
  if target == 'all':
    return values.astype(np.uint8)
  wanted = [CLASSES.index(name) for name in TARGETS[target]]
  return np.isin(values, wanted).astype(np.uint8)
