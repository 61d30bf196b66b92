"""Pairs of image and mask that stages wrote, and the buffer out of which they are drawn."""

import csv
from pathlib import Path

import numpy as np

from ssl_jax.io import images
from ssl_jax.types import Source

FILE = 'candidates.csv'
"""What became of every crop that was looked at, in their order; the names of the accepted ones."""


class Pairs:
  """A Source of the images/NAME.png of a folder, with masks/NAME.png where labels were given.

  Where the folder has a record of candidates, those accepted are it, in the order of acceptance.
  """

  def __init__(self, folder: Path):
    if (folder / FILE).exists():
      with (folder / FILE).open(newline='') as file:
        names = [row['candidate'] for row in csv.DictReader(file) if row['accepted'] == '1']
      self._files = [folder / 'images' / f'{name}.png' for name in names]
    else:
      self._files = images.list_images(folder / 'images')

  def __len__(self) -> int:
    return len(self._files)

  def __getitem__(self, index: int) -> dict:
    path = self._files[index]
    mask = path.parents[1] / 'masks' / path.name
    label = {'label': images.read_mask(mask).astype(np.uint8)} if mask.exists() else {}
    return {'image': images.read_image(path), 'name': path.stem, **label}


class ReplayBuffer:
  """What is drawn, one after another, from a replay buffer of the newest `size` of some pairs.

  With probability `renew` a draw is a new pair, for which the oldest leaves the buffer; else it is
  any of those in the buffer. When all pairs have come, the buffer stays as it is. The draw of an
  index is a pure function of it and the seed, so a training that goes on after a kill sees the same
  buffer; after `draws` it begins again (Hann 2021, section 4.2).
  """

  def __init__(self, pairs: Source, size: int, renew: float | int, draws: int, seed: int):
    rng = np.random.default_rng(seed)
    size = min(size, len(pairs))
    wanted = np.cumsum(rng.random(draws) < renew)
    oldest = np.minimum(wanted, len(pairs) - size)
    new = np.diff(oldest, prepend=0) > 0
    place = np.where(new, size - 1, rng.integers(0, size, draws))
    self._pairs, self.drawn = pairs, oldest + place

  def __len__(self) -> int:
    return len(self.drawn)

  def __getitem__(self, index: int) -> dict:
    return self._pairs[int(self.drawn[index])]
