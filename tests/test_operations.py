"""Operations are counted as by hand; peaks are found by the names that devices go by."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from ssl_jax.models.operations import convolution
from ssl_jax.training import operations


class Device:
  """What names a device."""

  def __init__(self, kind):
    self.device_kind = kind


def _count(function, *arguments):
  return operations.count(jax.make_jaxpr(function)(*arguments))


def test_a_product_and_a_loop():
  left, right = jnp.ones((3, 5, 7)), jnp.ones((3, 7, 11), jnp.float32)

  def loop(left, right):
    return lax.scan(lambda carry, _: (carry, carry @ right), left, None, length=4)

  assert _count(jnp.matmul, left, right) == {'float32': 2 * 3 * 5 * 7 * 11}
  assert _count(jax.jit(loop), left, right) == {'float32': 4 * 2 * 3 * 5 * 7 * 11}


def test_half_precision_is_counted_apart():
  half = jnp.ones((4, 4), jnp.bfloat16)
  assert _count(lambda x: (x @ x, x.astype('float32') @ jnp.ones((4, 2))), half) == {
    'bfloat16': 2 * 4 * 4 * 4,
    'float32': 2 * 4 * 4 * 2,
  }


def test_a_convolution_and_its_gradient():
  image, kernel = jnp.ones((2, 16, 16, 4)), jnp.ones((3, 3, 4, 8))
  forward = 2 * (2 * 16 * 16) * (3 * 3 * 4 * 8)
  assert _count(convolution.conv, image, kernel) == {'float32': forward}

  def loss(image, kernel):
    return (convolution.conv(image, kernel) ** 2).sum()

  # One more for the gradient by each, and none for results that nobody uses.
  gradient = _count(jax.grad(loss, (0, 1)), image, kernel)
  assert gradient['float32'] == 3 * forward


def test_groups_and_strides():
  image, kernel = jnp.ones((1, 8, 8, 6)), jnp.ones((3, 3, 1, 6))

  def depthwise(image, kernel):
    layout = ('NHWC', 'HWIO', 'NHWC')
    return lax.conv_general_dilated(
      image, kernel, (2, 2), 'SAME', dimension_numbers=layout, feature_group_count=6
    )

  forward = 2 * (4 * 4) * (3 * 3 * 6)
  assert _count(depthwise, image, kernel)['float32'] == forward
  # The gradient by the image is a convolution of an image with zeros between its pixels.
  of_image = _count(jax.grad(lambda *given: depthwise(*given).sum()), image, kernel)['float32']
  assert of_image == pytest.approx(forward, rel=0.3)


def test_of_branches_the_one_that_computes_most():
  def choose(x):
    return lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x, x)

  assert _count(choose, jnp.ones((4, 4)))['float32'] == 2 * 4 * 4 * 4


def test_peaks_by_name():
  assert operations.peak(Device('NVIDIA H200'), 'bfloat16') == 989.4e12
  assert operations.peak(Device('NVIDIA H200'), 'float32') == 494.7e12
  assert operations.peak(Device('NVIDIA A100-SXM4-80GB'), 'bfloat16') == 312e12
  assert operations.peak(Device('NVIDIA L40S'), 'bfloat16') == 362e12
  assert operations.peak(Device('TPU v5 lite'), 'float32') == 197e12
  assert operations.peak(Device('NVIDIA L400'), 'bfloat16') is None
  assert operations.seconds_at_peak({'float32': 1e12}) is None  # on a CPU


def test_seconds_at_the_peak(monkeypatch):
  monkeypatch.setattr(jax, 'devices', lambda: [Device('NVIDIA H200')] * 2)
  monkeypatch.setattr(jax, 'device_count', lambda: 2)
  seconds = operations.seconds_at_peak({'bfloat16': 989.4e12, 'float32': 989.4e12})
  assert seconds == pytest.approx((1 + 2) / 2)
