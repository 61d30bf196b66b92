"""Synthetic blood smears: seeded, instant, and hard enough that a few labels do not suffice."""

from itertools import pairwise

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from ssl_jax.errors import UserError
from ssl_jax.types import Draw, Record, Splits

CLASSES = ('background', 'cytoplasm', 'nucleus')
SPLITS = {'labeled': 0, 'unlabeled': 1, 'val': 2, 'test': 3}
"""The number of each split in the seed of its images."""

Random = np.random.Generator
Image = Float[np.ndarray, 'h w 3']
Plane = Float[np.ndarray, 'h w']
Grid = Float[np.ndarray, '2 h w']
Stain = dict[str, np.ndarray]
"""Absorbance (red, green, blue) of each part of the smear."""


class Smears:
  """A Source of synthetic smears; each record depends on seed, split and index alone."""

  def __init__(self, count: int, size: int, seed: int, split: str, with_label: bool, draw: int = 0):
    self._count = count
    self._size = size
    self._seed = seed
    self._split = split
    self._draw = draw
    self._with_label = with_label
    self._made: dict[int, Record] = {}

  def __len__(self) -> int:
    return self._count

  def __getitem__(self, index: int) -> Record:
    # Iteration over a sequence ends with this error.
    if not -self._count <= index < self._count:
      raise IndexError(index)
    index = int(index) % self._count
    if index not in self._made:
      # The split is part of the seed, so no image of the test is ever one of training.
      drawn = [self._draw] if self._draw else []
      rng = np.random.default_rng([self._seed, SPLITS[self._split], index, *drawn])
      image, label = smear(self._size, rng)
      numbers = [f'{number:04d}' for number in (*drawn, index)]
      record = Record(image=image, name='_'.join([self._split, *numbers]))
      if self._with_label:
        record['label'] = label
      # Drawing takes far longer than looking up, and every epoch asks again.
      self._made[index] = record
    return self._made[index].copy()


def load(
  *,
  labeled: int = 8,
  unlabeled: int = 128,
  val: int = 0,
  test: int = 64,
  size: int = 96,
  seed: int = 0,
  draw: int = 0,
) -> Splits:
  """Makes images that look like blood smears.

  Args:
    labeled: number of images.
    unlabeled: number of images; 0: none.
    val: number of images; 0: none.
    test: number of images; 0: none.
    size: pixels a side.
    seed: other images for another seed.
    draw: number of the repetition, each with other labeled and test images.

  Raises:
    UserError: if there are no labeled images, or the size is below 32.
  """
  counts = {'labeled': labeled, 'unlabeled': unlabeled, 'val': val, 'test': test}
  if labeled < 1 or min(counts.values()) < 0:
    raise UserError(
      f'synthetic data needs at least 1 labeled image and no negative counts: {counts}.'
    )
  if size < 32:
    raise UserError(
      f'data.size={size} leaves no room for a cell; make synthetic images at least 32 wide.'
    )

  def smears(split: str, with_label: bool = True) -> Smears | None:
    if not counts[split]:
      return None
    # The unlabeled images are the same in all repetitions, as a lab's are.
    of_draw = draw if split != 'unlabeled' else 0
    return Smears(counts[split], size, seed, split, with_label, of_draw)

  return Splits(
    labeled=Smears(labeled, size, seed, 'labeled', True, draw),
    unlabeled=smears('unlabeled', with_label=False),
    val=smears('val'),
    test=smears('test'),
    # The same seeds as `unlabeled`, so the same images, this time with labels.
    truth=smears('unlabeled'),
    classes=CLASSES,
    notes=('the images are synthetic, not of real blood',),
    # Of draw 0 it is that of earlier versions, whose runs go on.
    digest=f'{counts} {size} {seed}' + (f' {draw}' if draw else ''),
    synthetic=True,
    # Made, not taken from a pool: repetitions share nothing.
    draw=Draw(0.0, own_test=True),
  )


def smear(size: int, rng: Random) -> tuple[UInt8[np.ndarray, 'h w 3'], UInt8[np.ndarray, 'h w']]:
  """Draws one smear of size x size pixels; returns the image and the class ids.

  It is drawn as absorbance, which adds up where cells overlap, and photographed at the end.
  """
  # [2, H, W] row and column of each pixel
  grid = np.mgrid[:size, :size].astype(np.float32)
  # Lengths below are in pixels of an image of 96; the factor varies the magnification.
  scale = size / 96 * rng.uniform(0.8, 1.25)
  stain = _stain(rng)
  # From here on `image` is absorbance [H, W, 3]; order matters, as later cells lie on top.
  image = _plasma(grid, stain, rng)
  image = _red_cells(image, grid, scale, stain, rng)
  label = np.zeros((size, size), np.uint8)
  # How far from the middle a white cell may lie, as a fraction of the side.
  spreads = (0.25, 0.5) if rng.random() < 0.2 else (0.25,)  # a second cell now and then
  for spread in spreads:
    image, label = _white_cell(image, label, grid, scale, spread, stain, rng)
  image = _platelets(image, grid, scale, stain, rng)
  return _photograph(image, grid, rng), label


def _stain(rng: Random) -> Stain:
  """Absorbances (red, green, blue) of this slide's two dyes, and of its parts.

  They vary so much that one slide's cytoplasm has the color of another's red cells.
  """
  # Eosin is pink: it absorbs green and blue. Azure is violet-blue: it absorbs red and green.
  eosin = np.array([0.12, 0.55, 0.38]) * rng.uniform(0.4, 1.6, 3)
  azure = np.array([0.75, 0.95, 0.30]) * rng.uniform(0.6, 1.4, 3)
  blue = rng.beta(0.8, 1.2)  # of the cytoplasm: 0 stains as red cells do, 1 as nuclei do
  cytoplasm = rng.uniform(0.2, 1.0) * (1 - blue) * eosin + rng.uniform(0.1, 0.6) * blue * azure
  stain = {
    'red': eosin * rng.uniform(0.35, 1.1) + azure * rng.uniform(0, 0.25),
    'cytoplasm': cytoplasm,
    'granule': (eosin if rng.random() < 0.5 else azure) * rng.uniform(0.2, 0.7),
    'nucleus': azure * rng.uniform(0.35, 1.3) + rng.uniform(0, 0.8) * eosin,
    'platelet': azure * rng.uniform(0.4, 1.0) + rng.uniform(0, 0.5) * eosin,
    'plasma': eosin * rng.uniform(0.0, 0.25) + azure * rng.uniform(0.0, 0.1),
  }
  return {part: color.astype(np.float32) for part, color in stain.items()}


def _field(shape: tuple[int, int], sigma: float, rng: Random) -> Plane:
  """Smooth noise of mean 0 and deviation 1."""
  # `wrap` makes the noise as strong at the borders as in the middle.
  noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma, mode='wrap')
  return (noise - noise.mean()) / (noise.std() + 1e-6)


def _blob(
  grid: Grid, center: Float[np.ndarray, '2'], radius: float, wobble: float, rng: Random
) -> Plane:
  """Distance from a center in units of a wobbly radius: below 1 inside, 1 on the outline."""
  # Python floats, so that the planes stay float32.
  dy = grid[0] - float(center[0])
  dx = grid[1] - float(center[1])
  radius = float(radius)
  angle = np.arctan2(dy, dx)
  # A Fourier series in the angle: 1 is a circle, and waves of higher order are weaker.
  outline = np.ones_like(angle)
  for k in (2, 3, 4, 5):
    outline += wobble / (k - 1) * rng.uniform(-1, 1) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
  return np.hypot(dy, dx) / (radius * outline)


def _box(center: Float[np.ndarray, '2'], radius: float, size: int) -> tuple[slice, slice]:
  """The part of the image that a blob can reach."""
  # 1.4 radii leave room for nearly any wobble, and 2 or 3 pixels for the soft edge.
  low = np.clip(np.floor(center - 1.4 * radius - 2), 0, size).astype(int)
  high = np.clip(np.ceil(center + 1.4 * radius + 3), 0, size).astype(int)
  return slice(low[0], high[0]), slice(low[1], high[1])


def _soft(distance: Plane, radius: float) -> Plane:
  """Coverage 0..1 of a blob, its edge about 1.5 pixels wide."""
  # `1 - distance` is in radii; times the radius it is in pixels.
  return np.clip((1 - distance) * (float(radius) / 1.5) + 0.5, 0, 1)


def _plasma(grid: Grid, stain: Stain, rng: Random) -> Image:
  """Absorbance of the smear between the cells."""
  shape = grid.shape[1:]
  # Slow waves from the staining and fine grain.
  uneven = 1 + 0.25 * _field(shape, shape[0] / 6, rng) + 0.06 * _field(shape, 1.0, rng)
  return uneven[..., None] * stain['plasma']


def _red_cells(image: Image, grid: Grid, scale: float, stain: Stain, rng: Random) -> Image:
  """Adds touching and overlapping discs with pale centers; overlaps absorb twice."""
  size = grid.shape[1]
  crowd = rng.uniform(0.3, 1.6)
  pallor = rng.uniform(0.2, 0.95)  # of the cells' centers
  # The mean number of cells is `crowd` times the squares of a cell's diameter that fit into the
  # image.
  radius = 11.5 * scale
  for _ in range(rng.poisson(crowd * (size / (2 * radius)) ** 2)):
    # Cells may be cut by the border.
    center = rng.uniform(-radius / 2, size + radius / 2, 2)
    r = radius * rng.uniform(0.82, 1.12)
    # Only the part that the cell reaches is computed: there are dozens of cells.
    box = _box(center, r, size)
    distance = _blob(grid[:, *box], center, r, 0.07, rng)
    # Red cells are thinner in the middle and absorb less there.
    dent = 1 - pallor * rng.uniform(0.6, 1.2) * np.exp(-((distance / 0.5) ** 2))
    # Absorbances add up (Beer-Lambert), so two cells on top of each other are darker.
    image[box] += (_soft(distance, r) * dent * rng.uniform(0.8, 1.15))[..., None] * stain['red']
  return image


def _white_cell(
  image: Image,
  label: UInt8[np.ndarray, 'h w'],
  grid: Grid,
  scale: float,
  spread: float,
  stain: Stain,
  rng: Random,
) -> tuple[Image, UInt8[np.ndarray, 'h w']]:
  """Lays a white cell over the rest; returns the image and the class ids."""
  size = grid.shape[1]
  radius = scale * rng.uniform(17, 27)
  center = size / 2 + rng.uniform(-spread, spread, 2) * size
  distance = _blob(grid, center, radius, 0.09, rng)
  body = _soft(distance, radius)
  # Times `body`, as the nucleus cannot leave its cell.
  nucleus = _nucleus(grid, center, radius, rng) * body
  grain = _field(grid.shape[1:], rng.uniform(0.6, 1.2) * scale, rng)
  # Only the peaks of the noise become granules.
  grain = np.clip(grain - rng.uniform(0.2, 1.2), 0, None) * rng.uniform(0.0, 1.3)
  texture = 1 + 0.12 * _field(grid.shape[1:], 4 * scale, rng)
  cell = texture[..., None] * stain['cytoplasm'] + grain[..., None] * stain['granule']
  chromatin = 1 + rng.uniform(0.08, 0.22) * _field(grid.shape[1:], 1.6 * scale, rng)
  cell = cell + (nucleus * chromatin)[..., None] * stain['nucleus']
  # A white cell is thick: what lies under it hardly shows.
  image = image * (1 - 0.9 * body[..., None]) + cell * body[..., None]
  # Classes: 1 cytoplasm, 2 nucleus. A pixel belongs to what covers more than half of it.
  label = np.where(body > 0.5, 1, label)
  return image, np.where(nucleus > 0.5, 2, label).astype(np.uint8)


def _nucleus(grid: Grid, center: Float[np.ndarray, '2'], radius: float, rng: Random) -> Plane:
  """Coverage of 1 to 4 lobes on an arc, joined to their neighbors by bridges."""
  lobes = int(rng.integers(1, 5))
  if lobes == 1:
    r = radius * rng.uniform(0.5, 0.88)
    # The nucleus may lie off the center, but stays inside the cell.
    off = rng.uniform(-1, 1, 2) * (radius - r) * 0.6
    nucleus = _soft(_blob(grid, center + off, r, 0.12, rng), r)
    if rng.random() < 0.35:  # a kidney's dent, as monocytes have
      turn = rng.uniform(0, 2 * np.pi)
      dent = center + off + r * np.array([np.sin(turn), np.cos(turn)])
      nucleus = nucleus * (1 - _soft(_blob(grid, dent, 0.5 * r, 0.1, rng), 0.5 * r))
    return nucleus
  # Lobes lie on an arc around the center, as in neutrophils.
  ring = radius * rng.uniform(0.36, 0.48)
  start = rng.uniform(0, 2 * np.pi)
  # Two lobes lie nearly opposite each other (2.2 times 0.9 to 1.4 radians).
  step = rng.uniform(0.9, 1.4) * (2.2 if lobes == 2 else 1)
  angles = start + step * np.arange(lobes)
  centers = center + ring * np.stack([np.sin(angles), np.cos(angles)], -1)
  r = radius * rng.uniform(0.28, 0.42)
  parts = []
  for lobe in centers:
    parts.append(_soft(_blob(grid, lobe, r * rng.uniform(0.85, 1.15), 0.15, rng), r))
  for lobe, neighbor in pairwise(centers):
    bridge = (lobe + neighbor) / 2
    parts.append(_soft(_blob(grid, bridge, 0.5 * r, 0.1, rng), 0.5 * r))
  # A union: overlapping lobes are not darker.
  return np.max(parts, axis=0)


def _platelets(image: Image, grid: Grid, scale: float, stain: Stain, rng: Random) -> Image:
  """Adds specks of the nuclei's dye, and clots of it now and then; all belong to the background."""
  size = grid.shape[1]
  # Pixels of an image of 96: about 2 platelets, and a clot in three images of ten.
  radii = [*rng.uniform(1.5, 3.5, rng.poisson(2)), *rng.uniform(4, 9, rng.poisson(0.35))]
  for r in scale * np.array(radii):
    center = rng.uniform(0, size, 2)
    box = _box(center, r, size)
    speck = _soft(_blob(grid[:, *box], center, r, 0.25, rng), r)
    image[box] += speck[..., None] * stain['platelet']
  return image


def _photograph(absorbance: Image, grid: Grid, rng: Random) -> UInt8[np.ndarray, 'h w 3']:
  """Light through the smear, out of focus now and then, unevenly lit, with the camera's noise."""
  size = grid.shape[1]
  # Beer-Lambert: transmitted light is exp(-absorbance).
  light = np.exp(-absorbance * rng.uniform(0.8, 1.2))
  # Pixels of an image of 96; three images in ten are out of focus.
  sigma = rng.uniform(0.3, 0.8) if rng.random() < 0.7 else rng.uniform(1.0, 2.4)
  light = ndimage.gaussian_filter(light, (sigma * size / 96, sigma * size / 96, 0))
  slope = rng.uniform(-0.12, 0.12, 2).tolist()
  y, x = grid / size - 0.5
  # [H, W, 1] brightness of the lamp: a slope, and darker towards the corners.
  lamp = (1 + slope[0] * y + slope[1] * x - rng.uniform(0, 0.3) * (y**2 + x**2))[..., None]
  # Exposure and white balance of the camera.
  balance = rng.uniform(0.78, 1.0) * rng.uniform(0.9, 1.08, 3).astype(np.float32)
  # The power is the camera's gamma.
  light = np.clip(light * lamp * balance, 0, 1) ** rng.uniform(0.85, 1.2)
  noise = rng.standard_normal(light.shape, np.float32) * rng.uniform(0.005, 0.03)
  return (np.clip(light + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
