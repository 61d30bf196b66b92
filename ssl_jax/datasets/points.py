"""Your own marked cells: images, and for each a CSV of points (x, y, class)."""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data import patch_splits
from ssl_jax.types import Splits


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: Sequence[str] | None = None,
  num_labeled: int | None = None,
  test_fraction: float | int = 0.25,
  seed: int = 0,
  draw: int = 0,
  group: str = '',
  size: int = 41,
  jitter: int = 6,
  background: float | int = 1.0,
  min_distance: float | int = 10.0,
  balance: str = 'labeled',
  percentiles: Sequence[float | int] = (0.1, 99.9),
) -> Splits:
  """Loads marked cells as patches.

  A CSV has the columns x (pixels from the left edge), y (from the top edge) and class; a cell of
  class 'unlabelled' is of unknown class.

  Args:
    labeled: a folder with images/ and points/ in it.
    unlabeled: a folder of images only.
    val: as `labeled`.
    test: as `labeled`; None: `test_fraction` of the labeled images are the test.
    classes: names, without the background, or one string with commas between them; None: those in
      the CSVs, in alphabetical order.
    num_labeled: how many patches keep their label, equally many of each class; None: all. The
      others become unlabeled.
    test_fraction: of the labeled images, set aside for the test where there is no folder for it.
    seed: of all draws.
    draw: number of the repetition, each with other patches labeled and, without a test folder,
      other images held out.
    group: regular expression whose first group, or match, in a file's name is the patient (animal,
      slide), or a CSV file (name, group), so that no patient is in training and test; empty: images
      are independent.
    size: of a patch, in pixels a side.
    jitter: a cell lies at most this many pixels beside the middle of its patch, on either axis.
    background: how many background patches there are for each patch of an average class.
    min_distance: from the middle of a background patch to the nearest cell, in pixels.
    balance: adds turned copies of rarer classes: to the 'labeled' patches, to 'all' before labels
      are drawn (as in the paper of HydraMix-Net), or 'none'.
    percentiles: of the raw values of training images deeper than 8 bits; they become 0 and 1.

  Raises:
    UserError: naming the file, or the line of a CSV, that is missing, broken or unclear.
  """
  # The shell gives 'a,b' as one word.
  if isinstance(classes, str):
    classes = [classes]
  if classes is not None:
    classes = [name.strip() for words in classes for name in words.split(',') if name.strip()]
  return patch_splits.make_splits(
    {'labeled': labeled, 'val': val, 'test': test},
    unlabeled,
    classes,
    num_labeled=num_labeled,
    test_fraction=test_fraction,
    seed=seed,
    draw=draw,
    group=group,
    settings=patch_splits.PatchSettings(size, jitter, background, min_distance, balance),
    percentiles=percentiles,
  )
