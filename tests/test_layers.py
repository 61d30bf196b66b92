"""The layers: that the fast forms equal the plain ones in value and gradient."""

import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import rounding
from random_arrays import random

from ssl_jax.models import (
  deeplabv2,
  deeplabv3plus,
  discriminator,
  generator,
  hydra,
  nnunet,
  prominence_unet,
  pspnet,
  unet,
  unet_resnet,
  wideresnet,
)
from ssl_jax.models.layers import (
  Conv,
  ConvNormAct,
  UpConv2,
  adaptive_mean,
  max_pool2,
  max_pool3,
  pad_to_multiple,
  resize_linear,
)
from ssl_jax.models.operations import initializers
from ssl_jax.models.operations.convolution import conv

pytestmark = pytest.mark.gpu


def assert_same(fast, plain, *arrays):
  """Equal outputs, and equal gradients of a random projection of them."""

  def both(f):
    def run(*arrays):
      out, back = jax.vjp(f, *arrays)
      return out, back(random(*out.shape, seed=9))

    return jax.jit(run)(*arrays)

  chex.assert_trees_all_close(both(fast), both(plain), rtol=rounding(1e-4), atol=rounding(1e-4))


FLAX_INITIALIZERS = {
  'he_normal': (
    initializers.he_normal,
    nn.initializers.variance_scaling(2.0, 'fan_out', 'normal'),
  ),
  'lecun_normal': (initializers.lecun_normal, nn.initializers.lecun_normal()),
  'normal': (initializers.normal(0.01), nn.initializers.normal(0.01)),
  # A uniform draw of variance v reaches to the root of 3 v.
  'torch_uniform': (
    initializers.torch_uniform,
    nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform'),
  ),
}


@pytest.mark.parametrize('name', FLAX_INITIALIZERS)
def test_flat_draws_equal_those_of_flax(name):
  """For kernels of 2-D and 3-D convolutions, of transposed ones, and of dense layers."""
  shapes = [(7, 7, 3, 16), (1, 1, 8, 5), (2, 2, 8, 4), (3, 3, 3, 2, 6), (37, 5)]
  ours, theirs = (
    jax.jit(lambda key, draw=draw: [draw(key, shape) for shape in shapes])
    for draw in FLAX_INITIALIZERS[name]
  )
  key = jax.random.key(3)
  # To the bit with JAX 0.10. With 0.12 and without optimization, as tests compile, the last bit of
  # a normal draw can depend on its shape.
  chex.assert_trees_all_close(ours(key), theirs(key), rtol=2.5e-7, atol=0)


def test_every_kernel_is_drawn_flat():
  """No draw of four axes is left, in any network: compiling one takes ten times as long."""
  x, z = jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 4))
  small = dict(backbone='resnet18', output_stride=32)
  networks = {
    unet.Model(2, widths=(4, 8)): x,
    nnunet.Model(2, widths=(4, 8)): jnp.zeros((1, 8, 8, 8, 1)),
    prominence_unet.Model(2, widths=(4, 8)): x,
    deeplabv2.Model(2, **small): x,
    deeplabv3plus.Model(2, **small): x,
    pspnet.Model(2, **small): x,
    unet_resnet.Model(2, backbone='resnet18'): x,
    wideresnet.Model(2, depth=10): x,
    hydra.Model(2, depth=10): x,
    generator.Generator(1, widths=(8, 4)): z,
    discriminator.Ensemble(2, widths=(4, 8)): x,
  }
  for model, example in networks.items():
    keys = {name: jax.random.key(0) for name in ('params', 'noise')}
    program = str(jax.make_jaxpr(model.init)(keys, example))
    drawn = [
      shape.split(', ') for shape in re.findall(r'random_bits\[.* shape=\((.*?),?\)', program)
    ]
    kernels = [shape for shape in drawn if '1' not in shape]  # noise has one channel, one image
    assert {len(shape) for shape in kernels} == {1}, model


def plain_conv(stride, dilation):
  def f(x, kernel):
    rank = x.ndim - 2
    letters = 'DHW'[-rank:]
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride,) * rank,
      [(dilation * (k // 2),) * 2 for k in kernel.shape[:-2]],
      rhs_dilation=(dilation,) * rank,
      dimension_numbers=(f'N{letters}C', f'{letters}IO', f'N{letters}C'),
    )

  return f


@pytest.mark.parametrize(
  ('shape', 'side', 'features', 'stride', 'dilation'),
  [
    ((2, 9, 7, 3), 1, 5, 1, 1),  # a product
    ((2, 9, 7, 5), 1, 3, 2, 1),
    ((2, 9, 7, 3), 3, 4, 1, 1),
    ((1, 71, 37, 2), 3, 4, 1, 1),  # the gradient in blocks of rows that do not divide the height
    ((1, 71, 37, 2), 3, 4, 1, 2),
    ((2, 9, 8, 3), 3, 4, 2, 1),
    ((2, 9, 7, 3), 7, 4, 2, 1),
    ((1, 4, 3, 3), 3, 40, 1, 1),  # fewer pixels than features
    ((2, 9, 7, 3), 3, 4, 1, 6),  # taps that see little but padding
    ((2, 9, 7, 3), 3, 4, 1, 8),  # ... nothing but padding along one axis
    ((2, 9, 7, 3), 3, 4, 1, 30),  # ... along both
    ((1, 5, 6, 7, 2), 3, 3, 1, 1),
    ((1, 5, 6, 7, 2), 3, 3, 1, 5),
    ((1, 2, 2, 2, 2), 3, 30, 1, 1),
    ((1, 5, 6, 7, 2), 3, 3, 2, 1),  # slices whose neighbors are channels
    ((2, 6, 4, 5, 3), 3, 3, 1, 2),
  ],
)
def test_conv_equals_lax(shape, side, features, stride, dilation):
  kernel = random(*(side,) * (len(shape) - 2), shape[-1], features, seed=1)

  def fast(x, kernel):
    return conv(x, kernel, stride, dilation)

  assert_same(fast, plain_conv(stride, dilation), random(*shape), kernel)


def test_conv_is_named_and_meant_as_in_flax():
  x = random(2, 6, 6, 3)
  ours, theirs = Conv(4, dilation=2), nn.Conv(4, (3, 3), kernel_dilation=2)
  params = theirs.init(jax.random.key(0), x)
  np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), atol=rounding(1e-5))


def test_conv_under_vmap():
  x, kernel = random(2, 1, 9, 9, 2), random(2, 3, 3, 2, 3)

  def loss(x, kernel):
    return (conv(x, kernel) ** 2).sum()

  together = jax.vmap(jax.grad(loss, 1))(x, kernel)
  apart = jnp.stack([jax.grad(loss, 1)(x[i], kernel[i]) for i in range(2)])
  np.testing.assert_allclose(together, apart, rtol=rounding(1e-4), atol=rounding(1e-4))


@pytest.mark.parametrize('shape', [(2, 8, 6, 3), (2, 7, 9, 3), (1, 4, 6, 5, 2)])
def test_pools_equal_flax(shape):
  x, rank = random(*shape), len(shape) - 2
  assert_same(max_pool2, lambda x: nn.max_pool(x, (2,) * rank, (2,) * rank), x)

  def plain(x):
    return nn.max_pool(x, (3,) * rank, (2,) * rank, [(1, 1)] * rank)

  assert_same(max_pool3, plain, x)


@pytest.mark.parametrize('shape', [(2, 4, 3, 5), (1, 2, 3, 2, 3)])
def test_upconv_equals_flax(shape):
  x, rank = random(*shape), len(shape) - 2
  ours, theirs = UpConv2(4), nn.ConvTranspose(4, (2,) * rank, (2,) * rank)
  params = ours.init(jax.random.key(0), x)['params']

  def mirror(p):
    return {**p, 'kernel': jnp.flip(p['kernel'], tuple(range(rank)))}

  assert_same(
    lambda x, kernel: ours.apply({'params': {**params, 'kernel': kernel}}, x),
    lambda x, kernel: theirs.apply({'params': mirror({**params, 'kernel': kernel})}, x),
    x,
    params['kernel'],
  )


def test_resize_by_hand():
  x = jnp.asarray([0.0, 4.0]).reshape(1, 1, 2, 1)
  corners = resize_linear(x, (1, 5), align_corners=True)
  np.testing.assert_allclose(corners[0, 0, :, 0], [0, 1, 2, 3, 4], atol=1e-6)
  centers = resize_linear(x, (2, 4), align_corners=False)
  np.testing.assert_allclose(centers[0, 1, :, 0], [0, 1, 3, 4], atol=1e-6)
  np.testing.assert_array_equal(resize_linear(x, (1, 1), align_corners=True)[0, 0, 0], [0])
  with pytest.raises(ValueError, match='does not fit'):
    resize_linear(x, (2,))


@pytest.mark.slow
@pytest.mark.parametrize('align_corners', [True, False])
@pytest.mark.parametrize('size', [(13, 5), (3, 20), (1, 1), (7, 9)])
def test_resize_equals_torch(size, align_corners):
  torch = pytest.importorskip('torch')
  x = np.array(random(2, 7, 9, 3))
  theirs = torch.nn.functional.interpolate(
    torch.from_numpy(x).permute(0, 3, 1, 2), size, mode='bilinear', align_corners=align_corners
  )
  ours = resize_linear(jnp.asarray(x), size, align_corners)
  np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_adaptive_mean_by_hand():
  x = jnp.asarray([1.0, 2.0, 4.0, 8.0, 16.0]).reshape(1, 1, 5, 1)
  np.testing.assert_allclose(adaptive_mean(x, 1)[0, 0, :, 0], [6.2], rtol=1e-6)
  # Cells of five pixels in two: 0..3 and 2..5, the middle one in both.
  np.testing.assert_allclose(adaptive_mean(x, 2)[0, 0, :, 0], [7 / 3, 28 / 3], rtol=1e-6)
  assert adaptive_mean(x, 6).shape == (1, 6, 6, 1)  # more cells than pixels


@pytest.mark.slow
@pytest.mark.parametrize('grid', [1, 2, 3, 6, 11])
def test_adaptive_mean_equals_torch(grid):
  torch = pytest.importorskip('torch')
  x = np.array(random(2, 7, 9, 3))
  theirs = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(x).permute(0, 3, 1, 2), grid)
  ours = adaptive_mean(jnp.asarray(x), grid)
  np.testing.assert_allclose(ours, theirs.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_pad_to_multiple_reflects():
  x = jnp.arange(3.0).reshape(1, 1, 3, 1)
  np.testing.assert_array_equal(pad_to_multiple(x, 2)[0, :, :, 0], [[0, 1, 2, 1]] * 2)
  np.testing.assert_array_equal(pad_to_multiple(x, 3)[0, 0], x[0, 0])


def test_leaky_relu_by_hand():
  x = random(1, 5, 4, 3)
  layer = ConvNormAct(4, norm='none', negative_slope=0.1)
  got, variables = layer.init_with_output(jax.random.key(0), x, True)
  y = Conv(4).apply({'params': variables['params']['conv']}, x)
  np.testing.assert_allclose(got, np.where(y > 0, y, 0.1 * y), rtol=1e-5)


@pytest.mark.parametrize(
  ('norm', 'features', 'size'), [('group', 32, 16), ('group', 24, 8), ('instance', 6, 1)]
)
def test_norms_of_a_single_image_by_hand(norm, features, size):
  x = random(2, 5, 4, 3)
  layer = ConvNormAct(features, norm=norm)
  got, variables = layer.init_with_output(jax.random.key(0), x, True)
  plain = Conv(features, use_bias=False)
  y = plain.apply({'params': variables['params']['conv']}, x)
  groups = y.reshape(2, 5, 4, features // size, size)
  centered = groups - groups.mean((1, 2, 4), keepdims=True)
  expected = centered / jnp.sqrt(groups.var((1, 2, 4), keepdims=True) + 1e-5)
  np.testing.assert_allclose(got, jax.nn.relu(expected.reshape(y.shape)), atol=rounding(1e-4))
  alone = layer.apply(variables, x[:1], False)
  np.testing.assert_allclose(alone, got[:1], atol=rounding(1e-5))
