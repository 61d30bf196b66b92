"""The models: their sizes, which are pinned, and what their settings do."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import rounding
from random_arrays import random

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

pytestmark = pytest.mark.gpu


def count(model, *shape):
  variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
  return sum(x.size for x in jax.tree.leaves(variables['params']))


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
