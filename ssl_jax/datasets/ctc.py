"""Recordings of the Cell Tracking Challenge (2-D): cells against background, one channel.

Maska et al. 2014; Ulman et al. 2017; celltrackingchallenge.net.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data.image_mask_pairs import ImageFile, list_files
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.types import Splits

HOW = (
  'unpack a 2-D training data set of celltrackingchallenge.net and give its folder (the one with '
  '01/ and 01_GT/ in it) as --config.data.root=FOLDER.'
)
SUFFIXES = {'silver': '_ST', 'gold': '_GT'}
"""Of the challenge's folders of masks: fused from programs' answers, and drawn by people."""

PLAIN_FOLDERS = {'silver': 'masks', 'gold': 'masks_gold'}
"""The same where masks lie beside images/."""


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
  draw: int = 0,
  percentiles: Sequence[float | int] = (0, 100),
) -> Splits:
  """Loads recordings as published (NN/, NN_GT/SEG/, NN_ST/SEG/), or images/ with masks/ beside it.

  The last frames of each recording are the test, because neighbors in time are nearly equal. All
  frames before them, and recordings without any mask, are for training.

  Args:
    root: the folder, or the one that holds `set`.
    set: the name of the folder in `root`.
    masks: 'silver', the fused ones of every frame, or 'gold', the drawn ones of some.
    labeled: how many of the training frames with masks are labeled: a number, or a fraction.
    val: how many of them are val.
    test: how many of the frames with masks of each recording are the test.
    margin: pixels at the border that are ignored: cells that it cuts are often not annotated.
    recordings: names of those to keep; None: all.
    seed: of the draws.
    draw: number of the repetition, each with other labeled images.
    percentiles: of the training images' raw values; they become 0 and 1 (0, 100: minimum and
      maximum).

  Raises:
    UserError: if a file is missing or an amount impossible.
  """
  if masks not in SUFFIXES:
    raise UserError(f'data.masks={masks!r} is not one of {", ".join(SUFFIXES)}.')
  folder = microscopy.find_folder(root, set, HOW)
  # Recordings of the challenge are folders of two digits: 01/, 02/.
  if any(folder.glob('[0-9][0-9]')):
    files_of = _list_published(folder, SUFFIXES[masks])
  else:
    files_of = _list_plain(folder, PLAIN_FOLDERS[masks])
  if recordings is not None:
    for name in recordings:
      if name not in files_of:
        raise UserError(f'data.recordings: {folder} has no {name}; it has {", ".join(files_of)}.')
    files_of = {name: files_of[name] for name in recordings}
  training = []
  held_out = []
  # Each recording is split on its own, so that all of them are in the test.
  for name, files in files_of.items():
    masked = [file for file in files if file.mask]
    # Recordings without masks, such as those of the challenge's own test, are unlabeled images.
    if not masked:
      training += files
      continue
    if len(masked) < 2:
      raise UserError(f'{folder}: recording {name} has one mask, and a test needs one of its own.')
    # At least one frame with a mask is left for training.
    count = microscopy.count_images(test, len(masked) - 1, 'data.test')
    # Names end in the frame's number with leading zeros, so their order is that of time. Frames
    # without masks after `first` go nowhere: they look like the test frames beside them.
    first = masked[-count].name
    training += [file for file in files if file.name < first]
    held_out += [file for file in masked if file.name >= first]
  if not held_out:
    raise UserError(f'{folder} holds no {masks} masks; {HOW}')
  return microscopy.make_splits(
    training,
    held_out,
    labeled=labeled,
    val=val,
    seed=seed,
    draw=draw,
    # Instance ids or 0 and 1: all but 0 is cell.
    read_mask=microscopy.foreground_reader(margin),
    percentiles=percentiles,
    classes=('background', 'cell'),
    notes=[f'test: the last {len(held_out)} frames; {margin} pixels at the border are ignored'],
  )


def _list_published(folder: Path, suffix: str) -> dict[str, list[ImageFile]]:
  """Frames in the challenge's own layout, by recording, in the order of time."""
  files_of = {}
  for path in sorted(folder.glob('[0-9][0-9]')):
    recording = path.name
    # Frames of all recordings are called tNNN; names have to differ within a data set.
    files = [file._replace(name=f'{recording}_{file.name}') for file in list_files(path)]

    # The default binds this recording; without it the function would use the loop's last one.
    def frame_of(mask: Path, recording: str = recording) -> str:
      """The name of a mask's frame: man_seg007.tif is the mask of t007.tif."""
      return f'{recording}_t{re.sub("[^0-9]", "", mask.stem)}'

    mask_folder = folder / f'{recording}{suffix}' / 'SEG'
    files_of[recording] = microscopy.match_masks(files, mask_folder, frame_of)
  return files_of


def _list_plain(folder: Path, mask_folder: str) -> dict[str, list[ImageFile]]:
  """Frames called RECORDING_tNNN in images/, and in unlabeled/ those without masks."""
  files = microscopy.match_masks(
    list_files(folder / 'images'), folder / mask_folder, lambda path: path.stem
  )
  # An image without _t in its name is a recording of its own.
  files_of: dict[str, list[ImageFile]] = {}
  for file in files:
    recording = file.name.rpartition('_t')[0] or file.name
    files_of.setdefault(recording, []).append(file)
  # As one more recording, without masks.
  if (folder / 'unlabeled').is_dir():
    files_of['unlabeled'] = list_files(folder / 'unlabeled')
  return files_of
