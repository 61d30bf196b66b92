"""What a config may do to any data set before it is used: smaller images, incomplete masks."""

import abc
import functools

import numpy as np
from jaxtyping import Int32, Integer
from scipy import ndimage

from ssl_jax.data.masks import instances
from ssl_jax.data.source_sizes import sizes_of
from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.types import BACKGROUND, IGNORE, MASKS, Record, Source, Splits

CACHED = 512
"""Records that a modified source keeps, those asked for last."""

NEIGHBORS = np.ones((3, 3), int)
"""Pixels that touch by a side or a corner belong to one instance."""


class _ModifiedSource(abc.ABC):
  """A Source whose records are made from another's; the last of them are kept."""

  def __init__(self, source: Source):
    self._source = source
    self._cached = functools.lru_cache(CACHED)(self._modify)

  def __len__(self) -> int:
    return len(self._source)

  def __getitem__(self, index: int) -> Record:
    # -1 and the last index share one entry. A shallow copy, so that callers may add keys to theirs.
    return self._cached(int(index) % len(self)).copy()

  def sizes(self) -> list[tuple[int, int]]:
    """Returns the rows and columns of each image; nothing where they are not known."""
    return list(sizes_of(self._source))

  @abc.abstractmethod
  def _modify(self, index: int) -> Record:
    """Makes the record of an index."""


class Downscaled(_ModifiedSource):
  """Images and masks made smaller by a factor: areas are averaged, class ids picked."""

  def __init__(self, source: Source, scale: float | int):
    super().__init__(source)
    self._scale = scale

  def sizes(self) -> list[tuple[int, int]]:
    """Returns the rows and columns of each smaller image; nothing where they are not known."""
    return [self._smaller(*size) for size in super().sizes()]

  def _smaller(self, height: int, width: int) -> tuple[int, int]:
    # A very small scale must not shrink an image to nothing.
    return max(round(height * self._scale), 1), max(round(width * self._scale), 1)

  def _modify(self, index: int) -> Record:
    record = self._source[index].copy()
    size = self._smaller(*record['image'].shape[:2])
    # Means of areas, as a microscope of lower magnification would give, and no aliasing.
    record['image'] = images.resize(record['image'], size, smooth=True)
    if 'instances' in record:
      # The border is made anew: at another scale the old one could be gone, or cut bodies.
      record['instances'] = instances.resize(record['instances'], size)
      record['label'] = instances.to_classes(record['instances'])
    elif 'label' in record:
      # Nearest: a mean of class ids would be another class.
      record['label'] = images.resize(np.asarray(record['label']), size, smooth=False)
    return record


class InstancesDropped(_ModifiedSource):
  """Masks from which some instances are missing, always the same ones.

  Instances are the connected components of a class.

  Args:
    source: has complete masks.
    fraction: the probability that an instance is dropped.
    seed: of the draw.
    min_pixels: smaller instances stay.
    complete: True leaves the masks complete and adds 'removed' [H, W], which numbers (1, 2, ...)
      the instances that are missing otherwise.
  """

  def __init__(
    self,
    source: Source,
    fraction: float | int,
    seed: int,
    min_pixels: int,
    complete: bool = False,
  ):
    super().__init__(source)
    self._fraction = fraction
    self._seed = seed
    self._min_pixels = min_pixels
    self._complete = complete

  def _modify(self, index: int) -> Record:
    record = self._source[index].copy()
    label = np.asarray(record['label'])
    # A generator for each image: what is dropped does not depend on the order in which images are
    # asked for.
    rng = np.random.default_rng([self._seed, index])
    removed = draw_instances(label, self._fraction, rng, self._min_pixels)
    # `draw_instances` drew the same instances for both kinds, as seed and index are the same.
    if self._complete:
      record['removed'] = removed
    else:
      # As annotators miss cells: the network is told that they are background.
      record['label'] = np.where(removed > 0, BACKGROUND, label).astype(np.uint8)
    return record


def draw_instances(
  mask: Integer[np.ndarray, 'h w'],
  fraction: float | int,
  rng: np.random.Generator,
  min_pixels: int,
) -> Int32[np.ndarray, 'h w']:
  """Draws the instances to drop from a mask; returns their numbers 1, 2, ..., and 0 elsewhere.

  Each instance of at least `min_pixels` is drawn with probability `fraction`, whatever its size.
  """
  removed = np.zeros(mask.shape, np.int32)
  for value in np.unique(mask):
    if value in (BACKGROUND, IGNORE):
      continue
    # [H, W]: 0 outside of the class, then 1..count.
    components, count = ndimage.label(mask == value, NEIGHBORS)
    # Small instances draw a number, too, so that min_pixels does not change what becomes of others.
    drawn = rng.random(count + 1) < fraction
    large = np.bincount(components.ravel(), minlength=count + 1) >= min_pixels
    drawn &= large
    drawn[0] = False  # component 0 is everything else
    # By component: numbers that go on after those of the classes before, and 0 where it stays.
    numbers = np.where(drawn, np.cumsum(drawn) + removed.max(), 0)
    # Components do not overlap, so adding never mixes two numbers.
    removed += numbers[components]
  return removed


def downscale(splits: Splits, scale: float | int) -> Splits:
  """Returns a data set with all images and masks made smaller by `scale`, above 0 and up to 1.

  Raises:
    UserError: if the scale is outside this range, or the data set has points or volumes.
  """
  if not 0 < scale <= 1:
    raise UserError(f'data.scale={scale} is not above 0 and at most 1.')
  if splits.task != MASKS:
    raise UserError('data.scale is for masks; patches around marked cells are cut at native size.')
  if splits.preprocessing is not None:
    raise UserError('data.scale is for images; of volumes set data.spacing, of slices data.size.')

  def smaller(source: Source | None) -> Downscaled | None:
    return None if source is None else Downscaled(source, scale)

  return splits._replace(
    labeled=Downscaled(splits.labeled, scale),
    unlabeled=smaller(splits.unlabeled),
    val=smaller(splits.val),
    test=smaller(splits.test),
    truth=smaller(splits.truth),
    scale=float(scale),
    instances=splits.instances and {'min_size': splits.instances['min_size'] * scale**2},
    # The digest must change: a resumed run may not continue on images of another scale.
    digest=f'{splits.digest} scale {scale}',
  )


def drop_instances(
  splits: Splits, fraction: float | int = 0.0, seed: int = 0, min_pixels: int | float = 16
) -> Splits:
  """Returns a data set with a fraction of the instances missing from its labeled masks.

  `complete` has all of them. The masks of val and test stay complete.

  Args:
    splits: the data set.
    fraction: the probability that an instance is dropped.
    seed: of the draw.
    min_pixels: smaller instances stay.

  Raises:
    UserError: if the fraction is outside 0..1, or the data set has points instead of masks.
  """
  if not 0 <= fraction < 1:
    raise UserError(
      f'data.drop_instances.fraction={fraction} must be at least 0 and below 1, a fraction of the '
      'instances.'
    )
  if splits.task != MASKS:
    raise UserError('data.drop_instances removes instances from masks, but these data have points.')
  if splits.instances is not None:
    raise UserError('data.drop_instances is for masks of classes; leave out data.instances or it.')
  least = int(min_pixels)
  note = f'{fraction:.0%} of the instances were removed from labeled masks (data.drop_instances)'
  return splits._replace(
    # Both are made from the same masks with the same seed.
    labeled=InstancesDropped(splits.labeled, fraction, seed, least),
    complete=InstancesDropped(splits.labeled, fraction, seed, least, complete=True),
    notes=(*splits.notes, note),
    digest=f'{splits.digest} missing {(fraction, seed, least)}',
  )
