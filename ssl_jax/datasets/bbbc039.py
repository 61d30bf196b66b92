"""BBBC039: nuclei of U2OS cells in fluorescence (Hoechst), 520 x 696 pixels, 16 bits, one channel.

Image set BBBC039v1 of the Broad Bioimage Benchmark Collection (Ljosa et al. 2012), CC0.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ssl_jax.data.image_mask_pairs import Item, files_in
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.types import Splits

HOW = (
  'unpack images.zip, masks.zip and metadata.zip of bbbc.broadinstitute.org/BBBC039 into one '
  'folder and give it as --config.data.root=FOLDER.'
)
LISTS = {'training': 'training.txt', 'val': 'validation.txt', 'test': 'test.txt'}


def load(
  *,
  root: str | Path | None = None,
  labeled: float | int = 0.1,
  val: float | int = 0,
  test: float | int = 1 / 3,
  seed: int = 0,
  percentiles: Sequence[float | int] = (0, 100),
) -> Splits:
  """Loads nuclei against background; `labeled` is a share or a number of the training images.

  `root` holds images/ and masks/ as published (or with class ids), and metadata/ with the lists of
  BBBC, which then say what is training, val and test. Without them `test` and `val` are shares or
  numbers, drawn by `seed`. `percentiles` of the training images' raw values become 0 and 1 (0, 100:
  minimum and maximum). Raises UserError for a missing file or an impossible share.
  """
  folder = microscopy.folder_of(root, 'bbbc039', HOW)
  items = files_in(folder / 'images')
  items = microscopy.match(items, folder / 'masks', lambda path: path.stem)
  if bare := [item.name for item in items if item.mask is None]:
    raise UserError(f'{folder}/masks has no mask of {bare[0]}; {HOW}')
  lists = {role: folder / 'metadata' / name for role, name in LISTS.items()}
  if all(path.is_file() for path in lists.values()):
    parts, notes = {role: _listed(items, path) for role, path in lists.items()}, []
    val = parts['val']
  else:
    order = np.random.default_rng([seed, 0]).permutation(len(items))
    count = microscopy.count_of(test, len(items) - 1, 'data.test')
    drawn = [items[i] for i in order]
    parts = {'test': drawn[:count], 'training': drawn[count:]}
    notes = [f'no lists in metadata/: {count} of {len(items)} images drawn as test']
  return microscopy.splits(
    parts['training'],
    parts['test'],
    labeled=labeled,
    val=val,
    seed=seed,
    read_mask=microscopy.foreground(),
    percentiles=percentiles,
    classes=('background', 'nucleus'),
    notes=notes,
  )


def _listed(items: Sequence[Item], path: Path) -> list[Item]:
  at = {item.name: item for item in items}
  names = [Path(line.strip()).stem for line in path.read_text().splitlines() if line.strip()]
  if lost := [name for name in names if name not in at]:
    raise UserError(f'{path} names {lost[0]}, which is not in images/; {HOW}')
  return [at[name] for name in names]
