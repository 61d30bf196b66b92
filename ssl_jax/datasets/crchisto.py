"""CRCHistoPhenotypes: nuclei of colorectal cancer in H&E, a point and a class each.

Sirinukunwattana et al. 2016, "Locality Sensitive Deep Learning for Detection and Classification of
Nuclei in Routine Colon Cancer Histology Images"; images of 500 x 500 pixels at 0.55 um a pixel.
"""

from pathlib import Path

from ssl_jax.data import image_source, patch_splits
from ssl_jax.datasets.microscopy import find_folder
from ssl_jax.types import Splits

NAME = 'crchisto'
HOW = (
  'give the folder that holds crchisto/images/NAME.png and crchisto/points/NAME.csv (x, y, class), '
  'made from the published images and their lists of points.'
)
# Class ids follow this order, from 1; background, drawn between the nuclei, is 0.
CLASSES = ('epithelial', 'inflammatory', 'fibroblast', 'others')


def load(
  *,
  root: str | Path | None,
  num_labeled: int | None = None,
  test_fraction: float | int = 0.3,
  seed: int = 0,
  draw: int = 0,
  size: int = 41,
  jitter: int = 6,
  background: float | int = 1.0,
  min_distance: float | int = 10.0,
  balance: str = 'labeled',
) -> Splits:
  """Loads patches around nuclei; cells without a class are among the unlabeled patches.

  Args:
    root: the folder that holds crchisto/.
    num_labeled: as in datasets/points.py, like all that follow.
    test_fraction: of the images.
    seed: of all draws.
    draw: number of the repetition, each with other patches labeled and, without a test folder,
      other images held out.
    size: of a patch.
    jitter: of a cell in its patch.
    background: patches of it.
    min_distance: of those to every cell, also to cells without a class.
    balance: of the classes.

  Raises:
    UserError: naming the file, or the line of a CSV, that is missing, broken or unclear.
  """
  return patch_splits.make_splits(
    # There is no published test, so a fraction of the images is held out.
    {'labeled': find_folder(root, NAME, HOW)},
    None,
    CLASSES,
    num_labeled=num_labeled,
    test_fraction=test_fraction,
    seed=seed,
    draw=draw,
    settings=patch_splits.PatchSettings(size, jitter, background, min_distance, balance),
    # Not used, because the images have 8 bits.
    percentiles=image_source.PERCENTILES,
  )
