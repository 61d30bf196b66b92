import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy import ndimage

from ssl_jax.views import photometric

pytestmark = pytest.mark.gpu

KEY = jax.random.key(0)
RGB = np.random.default_rng(0).integers(0, 256, (3, 12, 14, 3), np.uint8)
ALL = jnp.ones((3, 12, 14), bool)
FACTORS = jnp.asarray([0.3, 1.0, 1.7])


def planes(image):
  image = jnp.asarray(image, jnp.float32) / 255
  return [image[..., c] for c in range(image.shape[-1])]


def adjust(name, image, amount, valid):
  adjusted = photometric.ADJUST[name](planes(image), jnp.asarray(amount), valid)
  return np.asarray(jnp.stack(adjusted, -1))


@functools.partial(jax.jit, static_argnames=('name', 'kwargs'))
def apply(name, key, image, valid, kwargs):
  return getattr(photometric, name)(key, image, valid, **dict(kwargs))


def run(name, image, valid=None, key=KEY, **kwargs):
  valid = jnp.ones(image.shape[:-1], bool) if valid is None else valid
  return np.asarray(apply(name, key, image, valid, tuple(kwargs.items())))


@pytest.mark.parametrize(
  ('name', 'enhance'),
  [
    ('brightness', ImageEnhance.Brightness),
    ('contrast', ImageEnhance.Contrast),
    ('saturation', ImageEnhance.Color),
  ],
)
def test_adjustments_follow_pillow(name, enhance):
  got = adjust(name, RGB, FACTORS, ALL) * 255
  for i, factor in enumerate(FACTORS):
    want = np.asarray(enhance(Image.fromarray(RGB[i])).enhance(float(factor)), np.float32)
    # Pillow rounds the gray level (0.5, times |1 - factor|) and cuts off the result (1).
    assert np.abs(got[i] - want).max() <= 1 + 0.51 * abs(1 - factor)


def test_contrast_looks_at_valid_pixels_only_and_at_each_channel_apart():
  image = np.zeros((1, 2, 2, 2), np.uint8)
  image[0, 0] = [[50, 200], [100, 220]]
  valid = jnp.asarray([[[True, True], [False, False]]])
  got = adjust('contrast', image, [2.0], valid) * 255
  np.testing.assert_allclose(got[0, 0], [[25, 190], [125, 230]], atol=1e-3)


def test_hue_of_pure_colors_by_hand():
  image = np.zeros((1, 1, 5, 3), np.uint8)
  image[0, 0] = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 100], [90, 90, 90]]
  valid = jnp.ones((1, 1, 5), bool)
  third = adjust('hue', image, [1 / 3], valid) * 255
  want = [[0, 255, 0], [0, 0, 255], [255, 0, 0], [100, 200, 100], [90, 90, 90]]
  np.testing.assert_allclose(third[0, 0], want, atol=1e-3)
  sixth = adjust('hue', image, [-1 / 6], valid) * 255
  want = [[255, 0, 255], [255, 255, 0], [0, 255, 255], [200, 100, 200], [90, 90, 90]]
  np.testing.assert_allclose(sixth[0, 0], want, atol=1e-3)


def test_hue_is_a_circle_and_keeps_the_brightest_and_the_darkest():
  for shift in (0.0, 1.0):
    got = adjust('hue', RGB, [shift] * 3, ALL)
    np.testing.assert_allclose(got, RGB / 255, atol=2e-6)
  there = np.asarray(adjust('hue', RGB, [0.37] * 3, ALL))
  np.testing.assert_allclose(there.max(-1), RGB.max(-1) / 255, atol=2e-6)
  np.testing.assert_allclose(there.min(-1), RGB.min(-1) / 255, atol=2e-6)
  back = adjust('hue', np.asarray(there * 255, np.float64), [-0.37] * 3, ALL)
  np.testing.assert_allclose(back, RGB / 255, atol=1e-5)


def test_jitter_happens_with_its_probability_within_its_range():
  image = jnp.full((4000, 1, 1, 1), 0.5)
  got = run('jitter', image, p=0.8, brightness=0.5)[:, 0, 0, 0] / 0.5
  assert abs((got != 1).mean() - 0.8) < 0.02
  assert 0.5 <= got.min() < 0.51
  assert 1.49 < got.max() <= 1.5
  drawn = got[got != 1]
  np.testing.assert_allclose(np.histogram(drawn, 4)[0] / drawn.size, 0.25, atol=0.03)


def test_a_pair_is_the_range_of_the_factor():
  image = jnp.asarray([[[[0.4], [0.6]]]])
  np.testing.assert_allclose(
    run('jitter', image, contrast=(2, 2))[0, 0, :, 0], [0.3, 0.7], atol=1e-6
  )
  red = jnp.asarray([[[[1.0, 0, 0]]]])
  np.testing.assert_allclose(run('jitter', red, hue=(0.5, 0.5))[0, 0, 0], [0, 1, 1], atol=1e-6)
  assert run('jitter', red, brightness=3.0).max() <= 1  # max(0, 1 - 3) = 0


def test_each_example_has_its_own_order():
  # Brightness 2 then contrast 0.5 clips first; contrast first does not.
  image = jnp.tile(jnp.asarray([0.2, 0.8]).reshape(1, 1, 2, 1), (200, 1, 1, 1))
  got = run('jitter', image, brightness=(2, 2), contrast=(0.5, 0.5))[:, 0, :, 0]
  kinds, counts = np.unique(np.round(got, 4), axis=0, return_counts=True)
  np.testing.assert_allclose(kinds, [[0.55, 0.85], [0.7, 1.0]], atol=1e-4)
  assert counts.min() > 70


@pytest.mark.parametrize('channels', [1, 2, 4])
def test_color_is_only_for_three_channels(channels):
  image = jax.random.uniform(KEY, (2, 5, 5, channels))
  np.testing.assert_array_equal(run('jitter', image, saturation=0.9, hue=0.5), image)
  np.testing.assert_array_equal(run('grayscale', image), image)
  assert np.abs(run('jitter', image, brightness=0.5) - image).max() > 0
  chex.assert_equal_shape([run('blur', image), image])


def test_grayscale_is_luma_with_its_probability():
  image = jnp.tile(jnp.asarray([1.0, 0.5, 0.25]), (2000, 1, 1, 1))
  got = run('grayscale', image, p=0.2)[:, 0, 0]
  gray = np.ptp(got, -1) == 0
  np.testing.assert_allclose(got[gray], 0.299 + 0.587 * 0.5 + 0.114 * 0.25, atol=1e-6)
  assert abs(gray.mean() - 0.2) < 0.03


@pytest.mark.parametrize('size', [(30, 31), (13, 14, 15)])
def test_gaussian_equals_scipy_for_each_sigma(size):
  image = jax.random.uniform(KEY, (2, *size, 2))
  valid = jnp.ones((2, *size), bool)
  sigmas = [0.7, 2.0]
  got = np.asarray(
    jax.jit(photometric.gaussian, static_argnums=3)(image, valid, jnp.asarray(sigmas), 6)
  )
  for i, sigma in enumerate(sigmas):
    smooth = functools.partial(ndimage.gaussian_filter, sigma=sigma, radius=6, mode='constant')
    weight = smooth(np.ones(size))
    for c in range(2):
      want = smooth(np.asarray(image[i, ..., c], np.float64)) / weight
      np.testing.assert_allclose(got[i, ..., c], want, atol=1e-5)


def test_blur_does_not_reach_into_padding():
  valid = jnp.zeros((1, 12, 12), bool).at[:, :5, :7].set(True)
  image = jnp.where(valid[..., None], 0.6, jnp.ones((1, 12, 12, 1)))
  got = run('blur', image, valid, sigma=(2, 2))
  np.testing.assert_allclose(got[np.asarray(valid)], 0.6, atol=1e-6)


def test_blur_happens_with_its_probability():
  image = jnp.tile(jnp.eye(4)[..., None], (2000, 1, 1, 1))
  got = run('blur', image, p=0.5, sigma=(0.5, 1.0))
  changed = (got != np.asarray(image)).any((1, 2, 3))
  assert abs(changed.mean() - 0.5) < 0.04
  peak = got[changed][:, 1, 1, 0]
  assert peak.max() - peak.min() > 0.1  # sigma differs between examples


def test_noise_comes_with_the_blur_and_only_with_it():
  image = jnp.full((400, 6, 6, 2), 0.5)
  got = run('blur', image, p=0.25, sigma=(0.5, 1.0), noise=0.1)
  changed = (got != 0.5).any((1, 2, 3))
  assert abs(changed.mean() - 0.25) < 0.08
  assert (got != 0.5).any(-1)[changed].all()  # every pixel of those blurred
  assert abs(got[changed].std() - 0.1) < 0.01
  assert 0 <= got.min() <= got.max() <= 1


def test_added_noise_has_its_mean_and_deviation():
  image = jnp.full((500, 5, 5, 5, 1), 0.4)  # volumes
  valid = jnp.ones(image.shape[:-1], bool)
  got = run('noise', image, valid, p=0.5, mean=(0.1, 0.1), std=(0.02, 0.02))
  changed = (got != np.float32(0.4)).any((1, 2, 3, 4))
  assert abs(changed.mean() - 0.5) < 0.08
  assert abs(got[changed].mean() - 0.5) < 0.002
  assert abs(got[changed].std() - 0.02) < 0.002


def test_gamma_bends_between_the_ends_of_what_is_valid():
  image = jnp.tile(jnp.linspace(0.2, 0.6, 9).reshape(1, 3, 3, 1), (2, 1, 1, 1)).at[:, 0, 0].set(0.9)
  valid = jnp.ones((2, 3, 3), bool).at[:, 0, 0].set(False)
  got = run('gamma', image, valid, power=(2, 2))
  low, high = 0.25, 0.6
  part = (np.asarray(image)[0, 1, 1, 0] - low) / (high - low)
  assert got[0, 1, 1, 0] == pytest.approx(low + (high - low) * part**2, rel=1e-5)
  assert got[0, 2, 2, 0] == pytest.approx(high)
  np.testing.assert_allclose(
    run('gamma', image, valid, power=(1, 1))[:, 1:], image[:, 1:], rtol=1e-5
  )


def test_a_shift_moves_all_values_alike():
  image = jnp.tile(jnp.linspace(0, 0.8, 4).reshape(1, 2, 2, 1), (300, 1, 1, 1))
  got = run('shift', image, offset=(0.05, 0.3))
  moved = got - np.asarray(image)
  assert (np.ptp(moved[:, 0, :, 0], axis=1) < 1e-6).all()
  assert 0.05 <= moved[:, 0, 0, 0].min() < 0.1
  assert 0.25 < moved[:, 0, 0, 0].max() <= 0.3
  assert got.max() <= 1
