"""CRCHistoPhenotypes: nuclei of colorectal cancer in H&E, a point and a class each.

Sirinukunwattana et al. 2016, "Locality Sensitive Deep Learning for Detection and Classification of
Nuclei in Routine Colon Cancer Histology Images"; images of 500 x 500 pixels at 0.55 um a pixel.
"""

from pathlib import Path

from ssl_jax.data import image_source, patch_splits
from ssl_jax.datasets.microscopy import folder_of
from ssl_jax.types import Splits

NAME = 'crchisto'
HOW = (
  'give the folder that holds crchisto/images/NAME.png and crchisto/points/NAME.csv (x, y, class), '
  'made of the published images and their lists of points.'
)
CLASSES = ('epithelial', 'inflammatory', 'fibroblast', 'others')


def load(
  *,
  root: str | Path | None,
  labels: int | None = None,
  holdout: float | int = 0.3,
  seed: int = 0,
  size: int = 41,
  jitter: int = 6,
  background: float | int = 1.0,
  clear: float | int = 10.0,
  balance: str = 'labeled',
) -> Splits:
  """Loads the folder `root`/crchisto; a share of its images, drawn by `seed`, is the test.

  The knobs are those of points.load. Cells without a class ('unlabelled') are among the unlabeled
  patches, and no background is drawn near them.
  """
  return patch_splits.read(
    {'labeled': folder_of(root, NAME, HOW)},
    None,
    CLASSES,
    labels=labels,
    holdout=holdout,
    seed=seed,
    cutting=patch_splits.Cutting(size, jitter, background, clear, balance),
    percentiles=image_source.PERCENTILES,
  )
