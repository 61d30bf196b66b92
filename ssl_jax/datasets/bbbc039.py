"""BBBC039: nuclei of U2OS cells in fluorescence (Hoechst), 520 x 696 pixels, 16 bits, one channel.

Image set BBBC039v1 of the Broad Bioimage Benchmark Collection (Ljosa et al. 2012), CC0.
"""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data.image_mask_pairs import ImageFile, list_files
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.types import Splits

HOW = (
  'unpack images.zip, masks.zip and metadata.zip of bbbc.broadinstitute.org/BBBC039 into one '
  'folder and give it as --config.data.root=FOLDER.'
)
LISTS = {'training': 'training.txt', 'val': 'validation.txt', 'test': 'test.txt'}
"""The lists of BBBC, in metadata/."""


def load(
  *,
  root: str | Path | None = None,
  labeled: float | int = 0.1,
  val: float | int = 0,
  test: float | int = 1 / 3,
  seed: int = 0,
  draw: int = 0,
  percentiles: Sequence[float | int] = (0, 100),
  instances: bool = False,
  min_size: int | None = None,
) -> Splits:
  """Loads nuclei against background, or each nucleus as an instance.

  Args:
    root: holds images/ and masks/ as published (or with class ids), and perhaps metadata/ with the
      lists of BBBC, which then say what is training, val and test.
    labeled: how many of the training images are labeled: a number, or a fraction of them.
    val: the same of val, where there are no lists.
    test: the same of the test, where there are no lists.
    seed: of the draws.
    draw: number of the repetition, each with other labeled images.
    percentiles: of the training images' raw values; they become 0 and 1 (0, 100: minimum and
      maximum).
    instances: whether the network learns background, body and border of each nucleus, and predicts
      each apart; ids are read from instances/, or else are regions of one color in masks/.
    min_size: of instances, see datasets/folder.py.

  Raises:
    UserError: if a file is missing or an amount impossible.
  """
  folder = microscopy.find_folder(root, 'bbbc039', HOW)
  files, masks = microscopy.find_masks(list_files(folder / 'images'), folder, HOW, instances)
  lists = {role: folder / 'metadata' / name for role, name in LISTS.items()}
  val_files = val
  notes = []
  # All three lists or none, so that a split is never partly published and partly drawn.
  if all(path.is_file() for path in lists.values()):
    # Only listed images are used.
    training = _listed(files, lists['training'])
    val_files = _listed(files, lists['val'])
    test_files = _listed(files, lists['test'])
  else:
    training, test_files = microscopy.draw_test(files, test, seed)
    notes.append(f'no lists in metadata/: {len(test_files)} of {len(files)} images drawn as test')
  return microscopy.make_splits(
    training,
    test_files,
    labeled=labeled,
    val=val_files,
    seed=seed,
    draw=draw,
    # Published masks are RGBA: a pixel is nucleus if its first channel is not 0.
    read_mask=microscopy.foreground_reader(),
    percentiles=percentiles,
    classes=('background', 'nucleus'),
    notes=notes,
    masks=masks,
    min_size=min_size,
  )


def _listed(files: Sequence[ImageFile], path: Path) -> list[ImageFile]:
  """The files that a list names, in its order; it names them with any ending."""
  file_of = {file.name: file for file in files}
  listed = []
  for line in path.read_text().splitlines():
    if not line.strip():
      continue
    # The lists name .png files, the images are .tif.
    name = Path(line.strip()).stem
    if name not in file_of:
      raise UserError(f'{path} names {name}, which is not in images/; {HOW}')
    listed.append(file_of[name])
  return listed
