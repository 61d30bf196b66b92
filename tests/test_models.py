"""The models: pinned sizes, and that the fast forms equal the plain ones in value and gradient."""

import re

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import rounding

from ssl_jax.errors import UserError
from ssl_jax.models import (
  deeplabv2,
  deeplabv3plus,
  discriminator,
  generator,
  hydra,
  nnunet,
  prominence_unet,
  pspnet,
  resnet,
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


def random(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def count(model, *shape):
  variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
  return sum(x.size for x in jax.tree.leaves(variables['params']))


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


@pytest.mark.parametrize('module', [deeplabv3plus, pspnet])
def test_dropout_before_the_classifier_is_of_single_values(module):
  model = module.Model(
    2, backbone='resnet18', dropout=(0.5, 0.5) if module is deeplabv3plus else 0.5
  )
  x = random(1, 33, 33, 3)

  def dropped(key):
    _, state = model.init_with_output(
      {'params': key, 'dropout': key},
      x,
      True,
      capture_intermediates=lambda layer, _: isinstance(layer, nn.Dropout),
      mutable=True,
    )
    return jax.tree.leaves(state['intermediates'])

  *pyramid, last = jax.jit(dropped)(jax.random.key(0))
  # [h, w, channels]: a channel that is 0 everywhere is rare, one that is 0 somewhere is the rule.
  zero = np.asarray(last[0]) == 0
  assert (zero.any((0, 1)) & ~zero.all((0, 1))).mean() > 0.5
  for features in pyramid:
    # After DeepLabV3+'s pyramid about half of the channels are 0 as a whole.
    assert 0.3 < (np.asarray(features[0]) == 0).all((0, 1)).mean() < 0.7


def test_mixmatch_variant_equals_its_description():
  """Leaky ReLU 0.1, eps 1e-3, SAME padding, shortcuts before activation but for the first stage."""
  backbone, x = wideresnet.Backbone(10, 1, variant='mixmatch'), random(2, 8, 8, 3)
  variables = backbone.init(jax.random.key(0), x)
  params = variables['params']

  def activate(x, name, block):
    mean, scale = 0.0, 1 / np.sqrt(1 + 1e-3)  # of fresh running statistics
    return jax.nn.leaky_relu((x - mean) * scale * block[name]['scale'] + block[name]['bias'], 0.1)

  def convolve(x, layer, stride=1):
    dimensions = ('NHWC', 'HWIO', 'NHWC')
    y = jax.lax.conv_general_dilated(
      x, layer['kernel'], (stride, stride), 'SAME', dimension_numbers=dimensions
    )
    return y + layer['bias']

  y = convolve(x, params['conv'])
  for stage, stride in enumerate((1, 2, 2)):
    block = params[f'stage{stage}_0']
    active = activate(y, 'bn1', block)
    inner = activate(convolve(active, block['conv1'], stride), 'bn2', block)
    # The first block has as many channels as its input, so that its shortcut has no weights.
    shortcut = active if stage == 0 else convolve(y, block['shortcut'], stride)
    y = shortcut + convolve(inner, block['conv2'])
  expected = activate(y, 'bn', params)
  np.testing.assert_allclose(backbone.apply(variables, x), expected, atol=rounding(1e-4))
  published = wideresnet.Backbone(10, 1).apply(variables, x)
  assert np.abs(published - expected).max() > 0.01


def test_parameters_of_three_heads():
  """1,468,352 of features, 26,947 that classify, 2 x 1,052,865 that locate (8 x 8 x 128 each)."""
  assert count(hydra.Model(3), 1, 32, 32, 3) == 3_601_029


OF_ACDC = (16, 32, 64, 128, 256)


@pytest.mark.parametrize(
  ('model', 'parameters'),
  [
    (unet.Model(2, norm='none'), 31_030_658),  # one channel, as published
    (unet.Model(3), 31_037_763),
    # As in most work on ACDC: 1,813,764 for one channel, of which 1,472 are biases before a
    # normalization; two more channels have 288.
    (unet.Model(4, OF_ACDC, upsampling='bilinear', head_size=3), 1_812_292 + 288),
    (deeplabv3plus.Model(3), 40_347_555),
    (deeplabv3plus.Model(3, backbone='resnet101'), 59_339_683),
    (deeplabv2.Model(3), 42_721_356),
    (pspnet.Model(3), 46_583_363),
    (pspnet.Model(3, backbone='resnet101'), 65_575_491),
    (unet_resnet.Model(1, backbone='resnet34'), 24_436_369),  # as many as in the usual PyTorch one
    # torchvision's, without the classifier:
    (resnet.Backbone('resnet18'), 11_176_512),
    (resnet.Backbone('resnet34'), 21_284_672),
    (resnet.Backbone('resnet50'), 23_508_032),
    (resnet.Backbone('resnet101'), 42_500_160),
    (wideresnet.Model(10), 1_469_642),
    (wideresnet.Backbone(), 1_468_352),
  ],
)
def test_parameter_counts(model, parameters):
  channels = 1 if getattr(model, 'norm', None) == 'none' else 3
  assert count(model, 1, 64, 64, channels) == parameters


def test_parameters_of_the_network_of_flare22():
  assert count(nnunet.Model(14), 1, 32, 32, 32, 1) == 31_419_406


@pytest.mark.parametrize('residual', [True, False])
@pytest.mark.parametrize('space', [(7, 10), (1, 3), (5, 6, 9)])
def test_nnunet(space, residual):
  x = random(2, *space, 2)
  model = nnunet.Model(3, widths=(4, 6, 8), residual=residual, dtype='bfloat16')
  logits, variables = jax.jit(model.init_with_output)(jax.random.key(0), x)
  assert logits.shape == (2, *space, 3)
  assert logits.dtype == jnp.float32
  skips = [name for name in variables['params'] if 'skip' in variables['params'][name]]
  assert len(skips) == 3 * residual  # where size or width changes
  alone = model.apply(variables, x[:1])
  np.testing.assert_allclose(alone, logits[:1], atol=0.1)  # instance norm; in half precision


@pytest.mark.parametrize(('stride', 'sides'), [(8, [32, 16, 8, 8, 8]), (16, [32, 16, 8, 4, 4])])
def test_output_stride(stride, sides):
  net = resnet.Backbone('resnet50', output_stride=stride)
  features, _ = jax.eval_shape(net.init_with_output, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  assert [feature.shape[1] for feature in features] == sides
  assert [feature.shape[-1] for feature in features] == [64, 256, 512, 1024, 2048]


def test_unknown_settings_are_refused():
  x = jnp.zeros((1, 32, 32, 3))
  with pytest.raises(UserError, match='resnet18'):
    deeplabv3plus.Model(2, backbone='resnet17').init(jax.random.key(0), x)
  with pytest.raises(UserError, match='widths is empty'):
    nnunet.Model(2, widths=()).init(jax.random.key(0), x)
  with pytest.raises(UserError, match='output_stride=4 is not 8, 16 or 32'):
    deeplabv3plus.Model(2, output_stride=4).init(jax.random.key(0), x)
  with pytest.raises(UserError, match='3 numbers for 2 levels'):
    unet.Model(2, widths=(4, 8), dropout=(0.1, 0.2, 0.3)).init(jax.random.key(0), x)
  with pytest.raises(UserError, match="norm='layer' is not one of batch"):
    unet.Model(2, widths=(4, 8), norm='layer').init(jax.random.key(0), x)


@pytest.mark.parametrize(
  ('space', 'norm'),
  [
    ((8, 8), 'none'),
    ((7, 10), 'batch'),
    ((1, 3), 'none'),
    ((4, 3, 6), 'batch'),
    ((7, 10), 'group'),
    ((4, 3, 6), 'instance'),
  ],
)
def test_unet(space, norm):
  x = random(2, *space, 2)
  model = unet.Model(3, widths=(4, 6), norm=norm, dtype='bfloat16')
  logits, variables = jax.jit(model.init_with_output)(jax.random.key(0), x)
  assert set(variables) == ({'params', 'batch_stats'} if norm == 'batch' else {'params'})
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
  assert logits.shape == (2, *space, 3)
  assert logits.dtype == jnp.float32
  assert jnp.isfinite(logits).all()


def test_a_unet_as_on_acdc_interpolates_and_keeps_a_slope():
  x = random(2, 7, 10, 2)
  model = unet.Model(
    3, widths=(4, 6), norm='none', upsampling='bilinear', negative_slope=0.01, head_size=3
  )
  logits, variables = jax.jit(model.init_with_output)(jax.random.key(0), x)
  assert logits.shape == (2, 7, 10, 3)
  params = variables['params']
  assert params['grow0']['kernel'].shape == (1, 1, 6, 4)
  assert params['head']['kernel'].shape == (3, 3, 4, 3)
  # Without the slope or the interpolation the same weights give other logits.
  flat = unet.Model(3, widths=(4, 6), norm='none', upsampling='bilinear', head_size=3)
  assert (flat.apply(variables, x) != logits).any()


@pytest.mark.parametrize(
  ('kwargs', 'sentence'),
  [
    (dict(upsampling='nearest'), "model.upsampling='nearest' is not one of transposed, bilinear"),
    (dict(head_size=2), 'model.head_size=2 is not odd; give 1 or 3'),
  ],
)
def test_a_unet_that_cannot_be_is_refused(kwargs, sentence):
  with pytest.raises(UserError, match=sentence):
    unet.Model(3, widths=(4, 6), **kwargs).init(jax.random.key(0), random(1, 8, 8, 1))


def test_leaky_relu_by_hand():
  x = random(1, 5, 4, 3)
  layer = ConvNormAct(4, norm='none', negative_slope=0.1)
  got, variables = layer.init_with_output(jax.random.key(0), x, True)
  y = Conv(4).apply({'params': variables['params']['conv']}, x)
  np.testing.assert_allclose(got, np.where(y > 0, y, 0.1 * y), rtol=1e-5)


def test_dropout_by_level_acts_in_the_levels_that_have_some():
  x = random(2, 8, 8, 2)
  variables = unet.Model(3, widths=(4, 6), norm='group').init(jax.random.key(0), x)

  def logits(dropout, key):
    model = unet.Model(3, widths=(4, 6), norm='group', dropout=dropout)
    return model.apply(variables, x, train=True, rngs={'dropout': jax.random.key(key)})

  np.testing.assert_array_equal(logits((0.0, 0.0), 0), logits(0.0, 0))
  for dropout in ((0.5, 0.0), (0.0, 0.5)):
    assert (logits(dropout, 0) != logits((0.0, 0.0), 0)).any()
    assert (logits(dropout, 0) != logits(dropout, 1)).any()


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


@pytest.fixture
def tiny(monkeypatch):
  monkeypatch.setitem(resnet.DEPTHS, 'resnet10', ((1, 1, 1, 1), False))
  return {
    'unet': unet.Model(3, widths=(4, 6), dropout=0.5),
    'deeplabv3plus': deeplabv3plus.Model(3, backbone='resnet10', output_stride=16),
    'deeplabv2': deeplabv2.Model(3, backbone='resnet18', output_stride=16),
    'pspnet': pspnet.Model(3, backbone='resnet10', output_stride=16),
    'unet_resnet': unet_resnet.Model(3, backbone='resnet10', widths=(16, 8, 8, 4, 4)),
  }


RANDOM = {'unet', 'deeplabv3plus', 'pspnet'}  # have dropout


@pytest.mark.parametrize('name', sorted(RANDOM | {'deeplabv2', 'unet_resnet'}))
def test_training_and_evaluation(tiny, name):
  model, x = tiny[name], random(3, 33, 30, 3)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  assert ('backbone' in variables['params']) == (name != 'unet')

  @jax.jit
  def step(variables, key):
    def loss(params):
      logits, new = model.apply(
        {**variables, 'params': params}, x, True, mutable=['batch_stats'], rngs={'dropout': key}
      )
      return (logits**2).mean(), new

    return jax.value_and_grad(loss, has_aux=True)(variables['params'])

  (loss, new), grads = step(variables, jax.random.key(1))
  chex.assert_tree_all_finite((loss, grads))
  assert set(new) == {'batch_stats'}

  def moves(a, b):
    return jnp.abs(a - b).max() > 0

  moved = jax.tree.map(moves, variables['batch_stats'], new['batch_stats'])
  assert all(jax.tree.leaves(moved))
  assert (step(variables, jax.random.key(2))[0][0] != loss) == (name in RANDOM)

  predict = jax.jit(model.apply)
  together = predict(variables, x)
  assert together.shape == (3, 33, 30, 3)
  among_others = predict(variables, jnp.stack([x[1], x[1], random(33, 30, 3, seed=1)]))
  np.testing.assert_allclose(together[1], among_others[0], rtol=rounding(1e-3), atol=rounding(1e-4))


def test_parameters_of_the_study_of_ensembles():
  """The U-Net, generator and discriminators of configs/gan_self_training_em.py:full."""
  assert (
    count(prominence_unet.Model(2, widths=(64, 128, 256), stem=32), 1, 256, 256, 1) == 5_174_562
  )
  ensemble = discriminator.Ensemble(5, (32, 64, 128, 256))
  assert count(ensemble, 1, 128, 128, 1) == 5 * 1_192_161
  network = generator.Generator(1, widths=(512, 256, 128, 64, 32))
  keys = {name: jax.random.key(0) for name in ('params', 'noise')}
  variables = jax.eval_shape(network.init, keys, jnp.zeros((1, 64)))
  assert sum(x.size for x in jax.tree.leaves(variables['params'])) == 8_570_657
