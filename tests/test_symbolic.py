"""Layers of open sizes, as exported programs have them, against those of known sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from PIL import Image

from ssl_jax.models.layers import adaptive_mean, max_pool2, max_pool3, resize_linear
from ssl_jax.models.operations import symbolic
from ssl_jax.models.operations.convolution import conv
from ssl_jax.models.operations.depthwise import depthwise_conv

RNG = np.random.default_rng(0)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 2, 4)), jnp.float32)
DEEP_KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 2, 300)), jnp.float32)
DEPTHWISE = jnp.asarray(RNG.normal(size=(5, 5, 1, 2)), jnp.float32)


def _twice(x):
  return resize_linear(x, (2 * x.shape[1], 2 * x.shape[2] - 1))


def _aligned(x):
  return resize_linear(x, (x.shape[1] + 3, 2 * x.shape[2]), align_corners=True)


LAYERS = {
  'convolution': lambda x: conv(x, KERNEL),
  'strided': lambda x: conv(x, KERNEL, stride=2),
  # Where sizes are known, these are products of patches and sums of taps.
  'of few pixels': lambda x: conv(x, DEEP_KERNEL),
  'dilated': lambda x: conv(x, KERNEL, dilation=6),
  'depthwise': lambda x: depthwise_conv(x, DEPTHWISE),
  'depthwise, strided': lambda x: depthwise_conv(x, DEPTHWISE, stride=2),
  'pool of 2': max_pool2,
  'pool of 3': max_pool3,
  'mean over cells': lambda x: adaptive_mean(x, 3),
  'resized': _twice,
  'resized, aligned': _aligned,
}


@pytest.mark.parametrize('name', LAYERS)
def test_a_layer_of_open_sizes_is_that_of_known_ones(name):
  layer = LAYERS[name]
  sizes = export.symbolic_shape('b, h, w, 2')
  program = export.export(jax.jit(layer))(jax.ShapeDtypeStruct(sizes, np.float32))
  # Even and odd sides: paddings depend on them.
  for height, width in ((8, 11), (9, 12)):
    x = RNG.normal(size=(2, height, width, 2)).astype(np.float32)
    np.testing.assert_allclose(program.call(x), layer(jnp.asarray(x)), atol=1e-4)


def test_images_are_reflected_as_numpy_does():
  for size, padded in ((1, 4), (2, 7), (5, 8), (5, 5), (3, 16)):
    indices = np.asarray(symbolic.reflected_indices(size, padded))
    expected = np.pad(np.arange(size), (0, padded - size), mode='reflect')
    np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize(('size', 'new'), [(20, 7), (7, 20), (9, 9), (31, 30)])
def test_images_are_resized_as_pillow_does(size, new):
  column = RNG.uniform(size=(size, 1)).astype(np.float32)
  expected = np.asarray(Image.fromarray(column).resize((1, new), Image.Resampling.BILINEAR))
  resized = symbolic.area_matrix(size, new) @ column
  np.testing.assert_allclose(resized, expected, atol=1e-6)
