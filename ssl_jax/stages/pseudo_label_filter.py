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
  """Left out is an image of which an organ is too small, or whose labels have changed too much.

  `least` pixels (voxels) of every class but the background are asked for (Gao et al. 2022: 2000);
  `agreement` is the Dice in 0..1, mean over those classes, with the labels that an earlier stage
  wrote in `before` (its folder of the same seed); an image that it left out does not agree.
  """

  classes: Sequence[str]
  least: int = 0
  before: Path | None = None
  agreement: float = 0.0

  def passes(self, mask: UInt8[np.ndarray, '*space'], name: str) -> bool:
    """Whether the labels of an image are kept."""
    counts = np.bincount(mask[mask != IGNORE], minlength=len(self.classes))[1:]
    if counts.size and counts.min() < self.least:
      return False
    return self.before is None or self._agreement(mask, name) >= self.agreement

  def _agreement(self, mask: np.ndarray, name: str) -> float:
    try:
      earlier = mask_store.read(self.before, name)
    except UserError:
      return -1.0
    matrix = confusion.confusion_matrix(
      earlier, np.where(mask == IGNORE, 0, mask), len(self.classes)
    )
    scores = confusion.per_image(matrix[None], self.classes)
    each = [scores[f'dice_per_image/{name}'] for name in self.classes[1:]]
    return float(np.mean(each)) / 100
