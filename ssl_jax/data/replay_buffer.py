"""Generated images with masks that stages wrote, and the buffer out of which they are drawn."""

import csv
from pathlib import Path

import numpy as np

from ssl_jax.io import images, masks
from ssl_jax.io.folders import listing
from ssl_jax.types import Record, Source

CANDIDATES = 'candidates.csv'
"""What became of every crop that was looked at, in their order, and the names of the accepted."""


class StoredPairs:
  """A Source of the images/NAME.png of a folder, with masks/NAME.png where they have labels.

  If the folder lists candidates, only accepted candidates, in order.
  """

  def __init__(self, folder: Path):
    if (folder / CANDIDATES).exists():
      with (folder / CANDIDATES).open(newline='') as file:
        # The CSV keeps the order in which pairs were accepted, which the replay buffer needs.
        # Sorted file names would not.
        names = [row['candidate'] for row in csv.DictReader(file) if row['accepted'] == '1']
      self._files = [folder / 'images' / f'{name}.png' for name in names]
    else:
      self._files = listing.list_images(folder / 'images')

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> Record:
    path = self._files[index]
    record = Record(image=images.read_image(path), name=path.stem)
    mask = path.parents[1] / 'masks' / path.name
    if mask.exists():
      record['label'] = masks.read_mask(mask).astype(np.uint8)
    return record


class ReplayBuffer:
  """A Source of draws, one after another, from a buffer of the newest `size` pairs.

  With probability `renew` a draw is a new pair, for which the oldest leaves the buffer; otherwise
  it is any pair in the buffer. When all pairs have come, the buffer stays as it is. What an index
  draws depends on it and the seed alone, so a training that resumes sees the same buffer. After
  `draws` it begins again. Hann 2021, section 4.2.

  Args:
    pairs: in the order in which they come.
    size: of the buffer; at first it holds that many of the first pairs.
    renew: the probability that a draw is a new pair.
    draws: the length of this source.
    seed: of the draws.
  """

  def __init__(self, pairs: Source, size: int, renew: float | int, draws: int, seed: int):
    rng = np.random.default_rng(seed)
    # At draw t the buffer holds the pairs oldest[t] .. oldest[t] + size - 1. All draws are computed
    # beforehand, so that any index can be asked for without replaying those before it.
    size = min(size, len(pairs))
    # How many pairs have left the buffer by each draw, which is the index of its oldest pair.
    renewals = np.cumsum(rng.random(draws) < renew)
    # [draws]; it stops where the buffer holds the last `size` pairs, since none is left to come.
    oldest = np.minimum(renewals, len(pairs) - size)
    # A draw at which the buffer moved on is the new pair, the last in the buffer.
    is_new = np.diff(oldest, prepend=0) > 0
    position = np.where(is_new, size - 1, rng.integers(0, size, draws))
    self._pairs = pairs
    self.drawn = oldest + position
    """The index of the pair that each draw is."""

  def __len__(self) -> int:
    return len(self.drawn)

  def __getitem__(self, index: int) -> Record:
    return self._pairs[int(self.drawn[index])]
