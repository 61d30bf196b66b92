import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from ssl_jax.types import Mix, View
from ssl_jax.views import affine, geometry

pytestmark = pytest.mark.gpu

KEY = jax.random.key(0)


def extents(*sizes):
  return jnp.asarray(sizes, jnp.int32)


FIELDS = (
  'size',
  'resize_long_side',
  'scale',
  'rotate',
  'rotate_p',
  'shear',
  'translate',
  'flip',
  'flip_vertical',
  'quarter_turns',
)


@functools.partial(jax.jit, static_argnames=FIELDS)
def draw(extent, size, **kwargs):
  return affine.random_affine(KEY, extent, size, **kwargs)


# Compiled whole: operation by operation the tests would take three times as long.
sample = jax.jit(geometry.sample, static_argnames='nearest')
locate = jax.jit(geometry.locate, static_argnames='size')
boxes = jax.jit(geometry.random_boxes, static_argnames=('b', 'size', 'p', 'area', 'ratio'))


def warp(dense, source, target, **kwargs):
  # The views are closed over: as arguments they would no longer share a geometry object.
  return jax.jit(lambda dense: geometry.warp(dense, source, target, **kwargs))(dense)


def view_of(affine, size, valid=None, mix=None):
  valid = jnp.ones((affine.shape[0], *size), bool) if valid is None else valid
  return View(image=jnp.zeros((*valid.shape, 1)), valid=valid, geometry=affine, mix=mix)


def waves(size, b=1):
  """A smooth image: two pixels apart it changes little."""
  axes = np.meshgrid(*[np.arange(s) for s in size], indexing='ij')
  image = sum(np.sin((0.11 + 0.03 * a) * axis + a) for a, axis in enumerate(axes))
  return jnp.asarray(np.repeat(image[None], b, 0), jnp.float32)


@pytest.mark.parametrize('n', [2, 3])
def test_invert_and_compose_cancel(n):
  linear = jax.random.normal(KEY, (5, n, n + 1)) + 3 * jnp.eye(n, n + 1)
  both = affine.compose(affine.invert(linear), linear)
  np.testing.assert_allclose(both, np.tile(np.eye(n, n + 1), (5, 1, 1)), atol=1e-5)


def test_compose_by_hand():
  outer = jnp.asarray([[[2.0, 0, 1], [0, 3, 0]]])  # x -> (2 r + 1, 3 c)
  inner = jnp.asarray([[[0, 1.0, 5], [1, 0, 0]]])  # x -> (c + 5, r)
  np.testing.assert_array_equal(affine.compose(outer, inner), np.asarray([[[0, 2, 11], [3, 0, 0]]]))


@pytest.mark.parametrize('size', [(6, 7), (4, 6, 7)])
def test_all_off_is_the_identity(size):
  affine = draw(extents(size), size)
  np.testing.assert_array_equal(affine[0], np.eye(len(size), len(size) + 1))


def test_resize_follows_the_half_pixel_convention():
  # 8 -> 4 pixels: the center of pixel 0 lies at 0.5, of pixel 1 at 2.5.
  affine = draw(extents((8, 8)), (4, 4), resize_long_side=4)
  row, _ = locate(affine, (4, 4))
  np.testing.assert_allclose(row[0, :, 0], [0.5, 2.5, 4.5, 6.5])


def test_long_side_is_resized_to_its_length_times_scale():
  native = jnp.tile(extents((100, 50)), (2000, 1))
  affine = draw(native, (16, 16), resize_long_side=128, scale=(0.5, 2.0))
  long, short = 100 / affine[:, 0, 0], 50 / affine[:, 1, 1]
  np.testing.assert_allclose(long, np.round(long), atol=1e-3)
  assert 64 <= long.min() < 66
  assert 254 < long.max() <= 256.001
  assert abs(long.mean() - 160) < 4
  assert np.abs(short - long / 2).max() <= 0.501


def test_crop_offsets_are_uniform_integers_that_fit():
  affine = draw(jnp.tile(extents((10, 4)), (3000, 1)), (8, 8))
  values, counts = np.unique(affine[:, 0, 2], return_counts=True)
  np.testing.assert_array_equal(values, [0, 1, 2])
  assert counts.min() > 900
  np.testing.assert_array_equal(affine[:, 1, 2], 0)  # smaller than the view: at the left


def test_flip_happens_with_its_probability_and_stays_on_the_view():
  affine = draw(jnp.tile(extents((8, 8)), (4000, 1)), (8, 8), flip=0.3)
  assert abs(float((affine[:, 1, 1] < 0).mean()) - 0.3) < 0.03
  np.testing.assert_array_equal(affine[:, 1, 2], np.where(affine[:, 1, 1] < 0, 7, 0))
  image = jnp.arange(64.0).reshape(1, 8, 8)
  both = draw(extents((8, 8)), (8, 8), flip=1.0, flip_vertical=1.0)
  got = sample(image, locate(both, (8, 8)), extents((8, 8)), nearest=False)
  np.testing.assert_array_equal(got, image[:, ::-1, ::-1])


def test_rotation_is_within_its_range_and_about_the_center():
  affine = draw(jnp.tile(extents((9, 9)), (2000, 1)), (9, 9), rotate=15)
  angle = np.rad2deg(np.arctan2(affine[:, 1, 0], affine[:, 0, 0]))
  assert -15.001 <= angle.min() < -14.5
  assert 14.5 < angle.max() <= 15.001
  center = affine[:, :, :2] @ jnp.full((2,), 4.0) + affine[:, :, 2]
  np.testing.assert_allclose(center, 4, atol=1e-4)


def test_quarter_turns_are_exact_and_equally_likely():
  image = jnp.arange(25.0).reshape(1, 5, 5)
  sizes = extents(*[(5, 5)] * 800)
  drawn = draw(sizes, (5, 5), quarter_turns=0.5)
  got = sample(jnp.tile(image, (800, 1, 1)), locate(drawn, (5, 5)), sizes, nearest=False)
  turned = [np.asarray((got == np.rot90(image[0], k)).all((1, 2))) for k in range(4)]
  assert np.all(np.sum(turned, axis=0) == 1)
  # Half are left alone, and of the others a quarter as well.
  shares = [np.mean(of_one) for of_one in turned]
  np.testing.assert_allclose(shares, [0.625, 0.125, 0.125, 0.125], atol=0.06)


def test_a_turn_may_be_left_out():
  drawn = np.asarray(draw(extents(*[(16, 16)] * 400), (16, 16), rotate=90.0, rotate_p=0.25))
  still = np.isclose(drawn[:, :, :2], np.eye(2)).all((1, 2))
  assert still.mean() == pytest.approx(0.75, abs=0.07)


def test_shear_and_translation_stay_in_their_range_and_keep_area():
  drawn = np.asarray(draw(extents(*[(16, 20)] * 200), (16, 20), shear=0.3))
  center = np.array([7.5, 9.5])
  np.testing.assert_allclose(drawn[:, :, :2] @ center + drawn[:, :, 2], [center] * 200, atol=1e-4)
  np.testing.assert_allclose(np.linalg.det(drawn[:, :, :2]), 1, atol=1e-5)
  assert 0.25 < np.abs(drawn[:, 0, 1]).max() <= 0.3
  drawn = np.asarray(draw(extents(*[(16, 20)] * 200), (16, 20), translate=0.25))
  np.testing.assert_array_equal(drawn[:, :, :2], [np.eye(2)] * 200)
  assert (np.abs(drawn[:, :, 2]) <= [4, 5]).all()
  assert (np.abs(drawn[:, :, 2]).max(0) > [3.5, 4.5]).all()


@pytest.mark.parametrize('size', [(40, 33), (12, 40, 33)])
def test_one_resampling_equals_scipy(size):
  n, view = len(size), tuple(s - 3 for s in size)
  image = jax.random.uniform(KEY, (1, *size))
  affine = draw(extents(size), view, scale=(1.3, 1.3), rotate=20, flip=1.0, flip_vertical=1.0)
  points = locate(affine, view)
  index = np.stack(np.meshgrid(*[np.arange(s) for s in view], indexing='ij')).reshape(n, -1)
  direct = (np.asarray(affine[0, :, :n]) @ index + np.asarray(affine[0, :, n:])).reshape(n, *view)
  want = ndimage.map_coordinates(np.asarray(image[0]), direct, order=1, mode='nearest')
  got = sample(image, points, extents(size), nearest=False)[0]
  inner = np.asarray(geometry.inside(points, extents(size))[0])
  assert inner.mean() > 0.5
  np.testing.assert_allclose(got[inner], want[inner], atol=2e-4)


def test_a_composition_is_its_parts_in_turn():
  size = (16, 16)
  crop = draw(extents((20, 24)), size)
  flip = draw(extents(size), size, flip=1.0)
  image = jax.random.uniform(KEY, (1, 20, 24, 3))
  once = sample(image, locate(affine.compose(crop, flip), size), extents((20, 24)), nearest=False)
  first = sample(image, locate(crop, size), extents((20, 24)), nearest=False)
  twice = sample(first, locate(flip, size), extents(size), nearest=False)
  np.testing.assert_array_equal(once, twice)


def test_padding_of_the_canvas_is_never_mixed_in():
  image = jnp.full((1, 16, 16), 1e6).at[:, :5, :7].set(1.0)
  affine = draw(extents((5, 7)), (32, 32), resize_long_side=29)
  points = locate(affine, (32, 32))
  valid = geometry.inside(points, extents((5, 7)))
  for nearest in (True, False):
    got = sample(image, points, extents((5, 7)), nearest=nearest)
    np.testing.assert_allclose(got[valid], 1.0, rtol=1e-6)
  np.testing.assert_array_equal(valid.any(2).sum(), 21)  # round(5 * 29 / 7)
  np.testing.assert_array_equal(valid.any(1).sum(), 29)


def test_nearest_keeps_ids_and_dtype():
  ids = jax.random.randint(KEY, (1, 9, 9), 0, 4).astype(jnp.uint8) * 50
  affine = draw(extents((9, 9)), (20, 20), resize_long_side=20, rotate=30)
  got = sample(ids, locate(affine, (20, 20)), extents((9, 9)), nearest=True)
  assert got.dtype == jnp.uint8
  assert set(np.unique(got)) <= {0, 50, 100, 150}


def test_boxes_have_the_share_and_shape_asked_for():
  box = np.asarray(boxes(KEY, b=3000, size=(64, 64), p=0.5, area=(0.02, 0.4), ratio=(0.3, 1 / 0.3)))
  drawn = box.any((1, 2))
  assert abs(drawn.mean() - 0.5) < 0.04
  box = box[drawn]
  height, width = box.any(2).sum(1), box.any(1).sum(1)
  np.testing.assert_array_equal(box.sum((1, 2)), height * width)  # rectangles
  fraction = height * width / 64**2
  assert 0.018 < fraction.min() < 0.03
  assert 0.38 < fraction.max() < 0.415
  assert abs(fraction.mean() - 0.21) < 0.01
  ratio = height / width
  assert 0.26 < ratio.min() < 0.4  # half a pixel of rounding on a small box
  assert 2.6 < ratio.max() < 3.8
  assert abs(np.log(ratio).mean()) < 0.05
  assert box.any(0).mean() > 0.99  # every place is reached; corners are rare


def test_boxes_in_three_dimensions_and_boxes_that_fill_the_view():
  box = np.asarray(boxes(KEY, b=200, size=(20, 24, 28), area=(0.1, 0.3)))
  fraction = box.mean((1, 2, 3))
  assert 0.08 < fraction.min() < fraction.max() < 0.34
  assert boxes(KEY, b=3, size=(8, 20), area=(1.0, 1.0), ratio=(1.0, 1.0)).all()


def test_warp_between_views_of_one_geometry_is_the_identity():
  affine = draw(extents((8, 8), (8, 8)), (8, 8), scale=(1.7, 1.7), rotate=50)
  valid = jax.random.bernoulli(KEY, 0.5, (2, 8, 8))
  source = view_of(affine, (8, 8), valid)
  dense = jax.random.randint(KEY, (2, 8, 8), 0, 5)
  got, seen = warp(dense, source, view_of(affine, (8, 8)), fill=255)
  np.testing.assert_array_equal(got, dense)
  assert geometry.warp(dense, source, source)[0] is dense
  np.testing.assert_array_equal(seen, valid)


def test_warp_there_and_back_is_subpixel():
  size, b = (48, 48), 4
  extent = extents(*[(60, 60)] * b)
  weak = view_of(draw(extent, size), size)
  turn = draw(extents(*[size] * b), size, scale=(0.9, 1.2), rotate=180)
  strong = view_of(affine.compose(weak.geometry, turn), size)
  image = waves(size, b)
  there, _ = warp(image, weak, strong, nearest=False)
  back, seen = warp(there, strong, weak, nearest=False)
  # Linear interpolation at a border clamps, and there smears by up to half a pixel.
  inner = ndimage.binary_erosion(np.asarray(seen), np.ones((1, 5, 5)))
  assert inner.mean() > 0.4
  error = np.abs(np.asarray(back - image))[inner]
  shifted = np.abs(np.asarray(image[:, :, 1:] - image[:, :, :-1])).mean()
  assert error.mean() < 0.1 * shifted  # a tenth of what one pixel of displacement would do


@pytest.mark.parametrize('size', [(10, 10), (6, 10, 10)])
def test_warp_fills_outside_and_keeps_probabilities(size):
  n = len(size)
  whole = view_of(draw(extents(size), size), size)
  moved = view_of(whole.geometry.at[:, -1, -1].add(3), size)  # shows columns 3..12
  probs = jax.nn.softmax(jax.random.normal(KEY, (1, *size, 3)))
  got, seen = warp(probs, whole, moved, fill=0.0)
  np.testing.assert_allclose(got[..., :7, :], probs[..., 3:, :], atol=1e-6)
  np.testing.assert_array_equal(got[..., 7:, :], 0)
  np.testing.assert_array_equal(seen, np.broadcast_to(np.arange(10) < 7, (1, *size)))
  ids, _ = warp(probs.argmax(-1), whole, moved, fill=255)
  np.testing.assert_array_equal(ids[..., 7:], 255)
  assert ids.ndim == n + 1


def test_warp_follows_cutmix_and_cannot_undo_it():
  affine = draw(extents((4, 4), (4, 4)), (4, 4))
  pasted = jnp.zeros((2, 4, 4), bool).at[0, :2].set(True)
  valid = jnp.ones((2, 4, 4), bool).at[1, 0, 0].set(False)
  weak = view_of(affine, (4, 4), valid)
  strong = view_of(affine, (4, 4), mix=Mix(partner=jnp.asarray([1, 0]), pasted=pasted))
  dense = jnp.stack([jnp.full((4, 4), 5), jnp.full((4, 4), 9)])
  got, seen = warp(dense, weak, strong)
  np.testing.assert_array_equal(got[0], [[9] * 4] * 2 + [[5] * 4] * 2)
  np.testing.assert_array_equal(got[1], 9)
  assert not seen[0, 0, 0]  # the partner's padding
  assert seen[0, 0, 1]
  back, seen = warp(got, strong, weak)
  np.testing.assert_array_equal(seen, ~pasted)
  np.testing.assert_array_equal(back[seen], dense[seen])
  same, seen = warp(got, strong, strong)
  np.testing.assert_array_equal(same, got)
  np.testing.assert_array_equal(seen, strong.valid)
