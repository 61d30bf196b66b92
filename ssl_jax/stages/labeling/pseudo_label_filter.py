"""Which pseudo-labels are worth learning from: whole images are kept or left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion
from ssl_jax.io import mask_store
from ssl_jax.types import IGNORE


class Filter(NamedTuple):
  """Leaves out images in which an organ is too small, or whose labels have changed too much."""

  classes: Sequence[str]
  min_voxels: int = 0  # of every class but the background (Gao et al. 2022: 2000)
  before: Path | None = None  # an earlier stage's folder of the same seed
  agreement: float = 0.0  # least Dice in 0..1 with its labels, mean over the classes

  def passes(self, mask: UInt8[np.ndarray, '*space'], name: str) -> bool:
    """Returns whether the labels of an image are kept.

    An image that the earlier stage left out is left out again.
    """
    # [classes - 1]: pixels of each class without the background.
    counts = np.bincount(mask[mask != IGNORE], minlength=len(self.classes))[1:]
    if counts.size and counts.min() < self.min_voxels:
      return False
    if self.before is None:
      return True
    try:
      earlier = mask_store.read_mask(self.before, name)
    except UserError:
      return False
    return self._dice(earlier, mask) >= self.agreement

  def _dice(self, earlier: UInt8[np.ndarray, '*space'], mask: UInt8[np.ndarray, '*space']) -> float:
    """The Dice in 0..1 of two masks, mean over the classes but the background that either holds."""
    # Pixels below the threshold count as background here, which may lower the agreement.
    known = np.where(mask == IGNORE, 0, mask)
    matrix = confusion.confusion_matrix(earlier, known, len(self.classes))
    scores = confusion.per_image(matrix[None], self.classes)
    dice = [value for name, value in scores.items() if name.startswith('dice_per_image/')]
    # Two masks of background alone agree.
    return float(np.mean(dice)) / 100 if dice else 1.0
