"""DSB 2018: nuclei in fluorescence and in stained tissue, color, images of many sizes.

Stage 1 of the Data Science Bowl 2018 (BBBC038; Caicedo et al. 2019), CC0.
"""

from pathlib import Path

from ssl_jax.data.image_mask_pairs import list_files
from ssl_jax.datasets import microscopy
from ssl_jax.types import Splits

HOW = (
  'put the images of stage1_train into images/ and a mask of all nuclei of each, of the same name, '
  'into masks/, and give the folder that holds the two as --config.data.root=FOLDER.'
)


def load(
  *,
  root: str | Path | None = None,
  labeled: float | int = 0.1,
  val: float | int = 0,
  test: float | int = 1 / 3,
  seed: int = 0,
  draw: int = 0,
  instances: bool = False,
  min_size: int | None = None,
) -> Splits:
  """Loads nuclei against background, or each nucleus as an instance.

  Args:
    root: holds images/ and masks/, in which everything but 0 is a nucleus; or the folder `dsb2018`
      that does.
    labeled: how many of the training images are labeled: a number, or a fraction of them.
    val: the same of val.
    test: the same of the test, of all images.
    seed: of the draws.
    draw: number of the repetition, each with other labeled images.
    instances: whether the network learns background, body and border of each nucleus, and predicts
      each apart; ids are read from instances/, or else are regions of one color in masks/.
    min_size: of instances, see datasets/folder.py.

  Raises:
    UserError: if a file is missing or an amount impossible.
  """
  folder = microscopy.find_folder(root, 'dsb2018', HOW)
  files, masks = microscopy.find_masks(list_files(folder / 'images'), folder, HOW, instances)
  training, test_files = microscopy.draw_test(files, test, seed)
  return microscopy.make_splits(
    training,
    test_files,
    labeled=labeled,
    val=val,
    seed=seed,
    draw=draw,
    read_mask=microscopy.foreground_reader(),
    # Of 8 bits, so that no value is stretched.
    percentiles=(0, 100),
    classes=('background', 'nucleus'),
    masks=masks,
    min_size=min_size,
  )
