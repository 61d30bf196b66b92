"""Your own marked cells: images, and for each a CSV of points (x, y, class)."""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data import image_source, patch_splits
from ssl_jax.types import Splits


def load(
  *,
  labeled: str | Path,
  unlabeled: str | Path | None = None,
  val: str | Path | None = None,
  test: str | Path | None = None,
  classes: Sequence[str] | None = None,
  labels: int | None = None,
  holdout: float | int = 0.25,
  seed: int = 0,
  size: int = 41,
  jitter: int = 6,
  background: float | int = 1.0,
  clear: float | int = 10.0,
  balance: str = 'labeled',
  percentiles: Sequence[float | int] = image_source.PERCENTILES,
) -> Splits:
  """Loads marked cells as patches; `labeled`, `val` and `test` each hold images/ and points/.

  A CSV has the columns x (pixels from the left edge), y (from the top edge) and class; a cell of
  class 'unlabelled' is one that nobody named. `unlabeled` is a folder of images only. Without
  `test`, the share `holdout` of the labeled images is set aside for it. `labels` patches keep their
  label (None: all), equally many of each class, and the others are shown without.

  A patch has `size` pixels a side; its cell lies at most `jitter` beside the middle, on either
  axis. There are `background` times as many background patches as an average class has, with no
  cell within `clear` pixels of their middle. `balance` adds turned copies of rarer classes, to the
  'labeled' patches, to 'all' before labels are drawn (as in the paper of HydraMix-Net), or 'none'.
  Raises UserError naming the file, and the line of a CSV, that is missing, broken or unclear.
  """
  return patch_splits.read(
    {'labeled': labeled, 'val': val, 'test': test},
    unlabeled,
    classes,
    labels=labels,
    holdout=holdout,
    seed=seed,
    cutting=patch_splits.Cutting(size, jitter, background, clear, balance),
    percentiles=percentiles,
  )
