"""Recordings of the Cell Tracking Challenge (2-D): cells against background, one channel.

Maska et al. 2014; Ulman et al. 2017; celltrackingchallenge.net.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data.image_mask_pairs import Item, files_in
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.types import Splits

HOW = (
  'unpack a 2-D training data set of celltrackingchallenge.net and give its folder (the one with '
  '01/ and 01_GT/ in it) as --config.data.root=FOLDER.'
)
FOLDERS = {'silver': ('_ST', 'masks'), 'gold': ('_GT', 'masks_gold')}


def load(
  *,
  root: str | Path | None = None,
  set: str = '',
  masks: str = 'silver',
  labeled: float | int = 0.1,
  val: float | int = 0,
  test: float | int = 1 / 3,
  margin: int = 50,
  recordings: Sequence[str] | None = None,
  seed: int = 0,
  percentiles: Sequence[float | int] = (0, 100),
) -> Splits:
  """Loads a data set as published (NN/, NN_GT/SEG/, NN_ST/SEG/), or images/ with masks/ beside it.

  The folder is `root` or `root`/`set`. `masks` 'silver' are the fused ones of every frame, 'gold'
  the drawn ones of some. The last `test` frames with masks of each recording (a share or a number)
  are the test: neighbours in time are nearly equal. `labeled` is a share or a number of the other
  frames with masks; all frames before the test, and recordings without any mask, are unlabeled.
  Pixels within `margin` of the border do not count: cells that it cuts are often not annotated.
  `recordings` keeps only those whose name is given. Raises UserError for a missing file or an
  impossible share.
  """
  if masks not in FOLDERS:
    raise UserError(f'data.masks={masks!r} is not one of {", ".join(FOLDERS)}.')
  folder = microscopy.folder_of(root, set, HOW)
  found = _published(folder, masks) if any(folder.glob('[0-9][0-9]')) else _plain(folder, masks)
  if recordings is not None:
    if lost := [name for name in recordings if name not in found]:
      raise UserError(f'data.recordings: {folder} has no {lost[0]}; it has {", ".join(found)}.')
    found = {name: found[name] for name in recordings}
  training, held_out = [], []
  for name, items in found.items():
    masked = [item for item in items if item.mask]
    if not masked:
      training += items
      continue
    if len(masked) < 2:
      raise UserError(f'{folder}: recording {name} has one mask, and a test needs one of its own.')
    first = masked[-microscopy.count_of(test, len(masked) - 1, 'data.test')]
    training += [item for item in items if item.name < first.name]
    held_out += [item for item in masked if item.name >= first.name]
  if not held_out:
    raise UserError(f'{folder} holds no {masks} masks; {HOW}')
  return microscopy.splits(
    training,
    held_out,
    labeled=labeled,
    val=val,
    seed=seed,
    read_mask=microscopy.foreground(margin),
    percentiles=percentiles,
    classes=('background', 'cell'),
    notes=[f'test: the last {len(held_out)} frames; {margin} pixels at the border do not count'],
  )


def _published(folder: Path, masks: str) -> dict[str, list[Item]]:
  """Frames of the challenge's own layout, by recording, in the order of time."""
  found = {}
  for path in sorted(folder.glob('[0-9][0-9]')):
    items = [item._replace(name=f'{path.name}_{item.name}') for item in files_in(path)]
    truth = folder / f'{path.name}{FOLDERS[masks][0]}' / 'SEG'
    # man_seg007.tif is the mask of t007.tif
    name_of = lambda mask, of=path.name: f'{of}_t{re.sub("[^0-9]", "", mask.stem)}'  # noqa: E731
    found[path.name] = microscopy.match(items, truth, name_of)
  return found


def _plain(folder: Path, masks: str) -> dict[str, list[Item]]:
  """Frames called RECORDING_tNNN in images/, and in unlabeled/ those without masks."""
  items = microscopy.match(
    files_in(folder / 'images'), folder / FOLDERS[masks][1], lambda path: path.stem
  )
  found: dict[str, list[Item]] = {}
  for item in items:
    found.setdefault(item.name.rpartition('_t')[0] or item.name, []).append(item)
  if (folder / 'unlabeled').is_dir():
    found['unlabeled'] = files_in(folder / 'unlabeled')
  return found
