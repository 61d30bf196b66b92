"""RandAugment's operations against PIL, bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from ssl_jax.datasets import synthetic
from ssl_jax.views import randaugment
from ssl_jax.views.randaugment import OPERATIONS

MAGNITUDES = range(1, 10)
ENHANCE = dict(
  contrast=ImageEnhance.Contrast,
  color=ImageEnhance.Color,
  brightness=ImageEnhance.Brightness,
  sharpness=ImageEnhance.Sharpness,
)
operate = jax.jit(randaugment.operate, static_argnames='solarize')


def pil(name, image, magnitude):
  picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
  if name in ENHANCE:
    changed = ENHANCE[name](picture).enhance(magnitude * 1.8 / 10 + 0.1)
  elif name == 'solarize':
    changed = ImageOps.solarize(picture, 256 - int(magnitude / 10 * 256))
  else:
    changed = getattr(ImageOps, name)(picture)
  return np.asarray(changed).reshape(image.shape)


def pictures(channels):
  """Noise, low contrast, a bell, one level, two levels, and cells."""
  rng, shape = np.random.default_rng(0), (40, 52, channels)
  cells = synthetic.load(labeled=1, unlabeled=0, test=0, size=52).labeled[0]['image'][:40]
  images = [
    rng.integers(0, 256, shape),
    rng.integers(30, 190, shape),
    rng.normal(120, 20, shape).clip(0, 255),
    np.full(shape, 7),
    np.where(rng.random(shape) < 0.01, 9, 8),
    cells[..., :channels],
  ]
  return np.stack(images).astype(np.uint8)


@pytest.mark.parametrize('channels', [1, 3])
def test_every_operation_equals_pil_bit_for_bit(channels):
  images = pictures(channels)
  count, valid = len(images), np.ones(images.shape[:3], bool)
  for which, name in enumerate(OPERATIONS):
    for magnitude in MAGNITUDES:
      got = operate(images.astype(int), valid, np.full(count, which), np.full(count, magnitude))
      expected = [pil(name, image, magnitude) for image in images]
      np.testing.assert_array_equal(got, expected, err_msg=f'{name} {magnitude}')


def test_solarize_falls_as_in_uda_or_rises_as_in_the_later_randaugment():
  # At magnitude 1 UDA's threshold is 256 - 25 = 231, RandAugment's 25.
  levels = np.array([0, 24, 25, 230, 231, 255]).reshape(1, 1, 6, 1)
  which = np.array([OPERATIONS.index('solarize')])
  given = levels, np.ones((1, 1, 6), bool), which, np.array([1])
  np.testing.assert_array_equal(operate(*given).ravel(), [0, 24, 25, 230, 24, 0])
  rising = operate(*given, solarize='rising').ravel()
  np.testing.assert_array_equal(rising, [0, 24, 230, 25, 24, 0])


def test_every_autocontrast_of_two_levels_equals_pil():
  """Where float64 falls below a whole number, PIL loses a level; so do we."""
  low, high = (x.reshape(-1) for x in np.mgrid[:256:5, :256:3])
  low, high = low[low < high], high[low < high]
  ramp = np.clip(np.arange(256), low[:, None], high[:, None]).astype(np.uint8)
  image = jnp.asarray(ramp[:, None, :, None], jnp.int32)
  got = randaugment.autocontrast(image, jnp.ones((len(ramp), 1, 256), bool))
  looked_up = np.take_along_axis(np.asarray(got)[:, 0], ramp.astype(int), -1)
  expected = [np.asarray(ImageOps.autocontrast(Image.fromarray(row[None])))[0] for row in ramp]
  np.testing.assert_array_equal(looked_up, expected)


def test_statistics_are_of_valid_pixels():
  image = pictures(3)[1:2]
  wide = np.concatenate([image, np.zeros_like(image)], axis=2).astype(int)
  valid = np.arange(wide.shape[2]) < image.shape[2]
  valid = np.broadcast_to(valid, wide.shape[:3])
  for which, name in enumerate(OPERATIONS):
    if name == 'sharpness':  # looks at neighbors, so its border differs
      continue
    got = operate(wide, valid, np.array([which]), np.array([4]))[:, :, : image.shape[2]]
    np.testing.assert_array_equal(got[0], pil(name, image[0], 4), err_msg=name)


def test_examples_draw_their_own_operations_and_p_0_draws_none():
  image = jnp.asarray(np.repeat(pictures(3)[1:2], 16, 0)) / 255
  valid = jnp.ones(image.shape[:3], bool)
  augment = jax.jit(randaugment.randaugment, static_argnames=('n', 'p', 'magnitude'))
  same = augment(jax.random.key(0), image, valid, p=0.0)
  np.testing.assert_allclose(same, image, atol=1e-6)
  changed = np.asarray(augment(jax.random.key(0), image, valid, n=2, p=1.0))
  assert len({x.tobytes() for x in changed}) > 8
  assert changed.min() >= 0
  assert changed.max() <= 1
  np.testing.assert_allclose(changed * 255, np.round(changed * 255), atol=1e-4)


def test_contrast_of_stains_is_about_the_level_of_each():
  drawn = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 2))
  levels = jnp.asarray(drawn // np.array([1, 9]), jnp.int32)
  contrast = jnp.full(2, OPERATIONS.index('contrast'))
  rest = jnp.ones((2, 8, 8), bool), contrast, jnp.full(2, 5)
  both = operate(levels, *rest)
  for c in range(2):
    np.testing.assert_array_equal(both[..., c : c + 1], operate(levels[..., c : c + 1], *rest))
