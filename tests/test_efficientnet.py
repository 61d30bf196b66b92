"""EfficientNet-Lite: the published network, its parts, and what of it learns."""

import functools
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax
import pytest
import torch_efficientnet
from jax import lax
from PIL import Image

from ssl_jax import settings
from ssl_jax.errors import UserError
from ssl_jax.models import (
  backbones,
  deeplabv3plus,
  efficientnet_lite,
  unet_efficientnet,
  unet_resnet,
)
from ssl_jax.models.operations import depthwise
from ssl_jax.training import optimizers, pretrained, published_weights
from ssl_jax.types import TrainState

MILITARY_UNIFORM = 652
"""ImageNet's class of the photograph of Grace Hopper that comes with Matplotlib."""


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(network, *shape):
  return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))


@pytest.fixture(scope='module')
def arrays():
  return pretrained.read_arrays(published_weights.find('efficientnet_lite0'))


def with_published(backbone, arrays, channels=3):
  like = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes(backbone, 1, 64, 64, channels))
  state = TrainState(0, {kind: {'backbone': tree} for kind, tree in like.items()}, None, ())
  loaded = pretrained.with_backbone(state, arrays).student
  return {kind: tree['backbone'] for kind, tree in loaded.items()}


@functools.cache
def published_features(shape):
  arrays = pretrained.read_arrays(published_weights.find('efficientnet_lite0'))
  backbone = efficientnet_lite.Backbone(frozen=True)
  return jax.jit(functools.partial(backbone.apply, with_published(backbone, arrays)))


def logits_of(features, arrays):
  """The classifier, which segmentation does not need, in NumPy."""
  factor = arrays['_bn1.weight'] / np.sqrt(arrays['_bn1.running_var'] + 1e-3)
  wide = np.asarray(features) @ arrays['_conv_head.weight'][:, :, 0, 0].T
  wide = (wide - arrays['_bn1.running_mean']) * factor + arrays['_bn1.bias']
  return np.clip(wide, 0, 6).mean((1, 2)) @ arrays['_fc.weight'].T + arrays['_fc.bias']


def compare(ours, theirs):
  for name, reference in theirs.items():
    scale = np.abs(reference).max()
    np.testing.assert_allclose(ours[name] / scale, reference / scale, atol=2e-5, err_msg=name)


def our_outputs(arrays):
  image = torch_efficientnet.image()
  features = published_features(image.shape)(image)
  names = [f'stride_{2**i}' for i in range(1, 6)]
  found = dict(zip(names, map(np.asarray, features), strict=True))
  return found | {'logits': logits_of(features[-1], arrays)}


def test_features_and_logits_equal_those_that_torch_computed(arrays):
  reference = np.load(torch_efficientnet.REFERENCE)
  ours = our_outputs(arrays)
  parts = {name: x if x.ndim == 2 else x[:, :, ::7, ::5] for name, x in ours.items()}
  assert reference['logits'].std() > 0.5
  compare(parts, reference)


@pytest.mark.slow
def test_features_and_logits_equal_torch(arrays):
  pytest.importorskip('torch')
  compare(our_outputs(arrays), torch_efficientnet.outputs(arrays, torch_efficientnet.image()))


def test_a_photograph_is_recognized(arrays):
  """The normalization is the one with which the weights were trained."""
  path = Path(mpl.get_data_path()) / 'sample_data' / 'grace_hopper.jpg'
  photograph = Image.open(path).convert('RGB').crop((0, 0, 512, 512)).resize((224, 224))
  mean, std = (127 / 255, 128 / 255)
  pixels = (np.asarray(photograph, np.float32)[None] / 255 - mean) / std
  logits = logits_of(published_features(pixels.shape)(pixels)[-1], arrays)
  assert logits[0].argmax() == MILITARY_UNIFORM


def test_sizes_are_those_published():
  # Parameters without the classifier (1280 channels and 1000 classes); of all of Lite0 there are
  # 4,652,008, of Lite4 13,006,568.
  full = {'efficientnet_lite0': 4_652_008, 'efficientnet_lite4': 13_006_568}
  for name, total in full.items():
    params = shapes(efficientnet_lite.Backbone(name), 1, 64, 64, 3)['params']
    last = efficientnet_lite.scaled_stages(name)[-1].width
    assert count(params) == total - (last * 1280 + 2 * 1280 + 1280 * 1000 + 1000)
  to_16 = shapes(efficientnet_lite.Backbone(last_stride=16), 1, 64, 64, 3)['params']
  assert count(to_16) == 700_768
  assert count(shapes(unet_efficientnet.Model(3), 1, 64, 64, 3)['params']) == 763_571
  # Lite2: widths times 1.1 to multiples of 8 (112 * 1.1 = 123.2 -> 120), depths times 1.2 rounded
  # up (3 * 1.2 -> 4), but neither end.
  fifth = efficientnet_lite.scaled_stages('efficientnet_lite2')[4]
  assert (fifth.width, fifth.repeats) == (120, 4)
  with pytest.raises(UserError, match='efficientnet_lite9'):
    efficientnet_lite.scaled_stages('efficientnet_lite9')


@pytest.mark.parametrize(
  ('size', 'kernel', 'stride', 'dilation', 'expected'),
  [
    (8, 3, 1, 1, (1, 1)),
    # Four outputs begin at pixels 0, 2, 4, 6 and span 9 pixels: one is missing, and comes after.
    (8, 3, 2, 1, (0, 1)),
    (7, 3, 2, 1, (1, 1)),
    (8, 5, 2, 1, (1, 2)),
    (9, 3, 1, 4, (4, 4)),
    (3, 1, 2, 1, (0, 0)),
    # The last pixel is met by no tap, which is no negative padding.
    (4, 1, 2, 1, (0, 0)),
  ],
)
def test_padding_is_that_of_tensorflow(size, kernel, stride, dilation, expected):
  assert depthwise.same_padding(size, kernel, stride, dilation) == expected


@pytest.mark.parametrize('kernel', [1, 3, 5])
@pytest.mark.parametrize(('stride', 'dilation'), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_depthwise_equals_a_convolution_in_groups(kernel, stride, dilation):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.standard_normal((2, 9, 12, 4), np.float32))
  weights = jnp.asarray(rng.standard_normal((kernel, kernel, 1, 4), np.float32))

  def by_groups(x, weights):
    numbers = ('NHWC', 'HWIO', 'NHWC')
    return lax.conv_general_dilated(
      x, weights, (stride,) * 2, 'SAME', None, (dilation,) * 2, numbers, feature_group_count=4
    )

  def both(f):
    out, back = jax.vjp(f, x, weights)
    return out, back(jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape))

  ours = jax.jit(both, static_argnums=0)(
    lambda x, weights: depthwise.depthwise_conv(x, weights, stride, dilation)
  )
  chex.assert_trees_all_close(ours, both(by_groups), rtol=1e-4, atol=1e-4)


def test_one_value_of_a_depthwise_convolution_by_hand():
  """Stride 2 on [1, 2, 3, 4] with the kernel [1, 10, 100] along a row: SAME pads 0 and 1."""
  x = jnp.array([1.0, 2, 3, 4]).reshape(1, 1, 4, 1)
  weights = jnp.array([1.0, 10, 100]).reshape(1, 3, 1, 1)
  out = depthwise.depthwise_conv(x, weights, 2)
  np.testing.assert_allclose(out.ravel(), [1 + 20 + 300, 3 + 40])


@pytest.mark.parametrize('stride', [8, 16])
def test_a_dilated_backbone_keeps_its_size(stride):
  features = jax.eval_shape(
    efficientnet_lite.Backbone(output_stride=stride).init_with_output,
    jax.random.key(0),
    jnp.zeros((1, 65, 96, 3)),
  )[0]
  sides = [33, 17, 9, 9 if stride == 8 else 5, 9 if stride == 8 else 5]
  assert [x.shape[1] for x in features] == sides


@pytest.fixture(scope='module')
def variables():
  network = unet_efficientnet.Model(2)
  return jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def trained(network, variables, steps=2):
  """Variables after updates by AdamW with weight decay, on a random image."""
  image = jnp.asarray(np.random.default_rng(1).random((2, 32, 32, 3), np.float32))
  learns = functools.partial(backbones.learning_mask, network)
  optimizer = optimizers.make(settings.Optimizer(lr=0.01, weight_decay=0.1), lambda _: 0.01, learns)

  @jax.jit
  def update(variables, opt_state):
    def loss(params):
      logits, changed = network.apply(
        {**variables, 'params': params}, image, True, mutable=['batch_stats']
      )
      return (logits**2).mean() + logits[..., 0].mean(), changed

    grads, changed = jax.grad(loss, has_aux=True)(variables['params'])
    updates, opt_state = optimizer.update(grads, opt_state, variables['params'])
    params = optax.apply_updates(variables['params'], updates)
    return {'params': params, **changed}, opt_state

  opt_state = optimizer.init(variables['params'])
  for _ in range(steps):
    variables, opt_state = update(variables, opt_state)
  return variables


def changed_modules(before, after):
  """Modules of the backbone whose arrays are no longer to the bit what they were."""
  found = set()
  for module, tree in before['backbone'].items():
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(after['backbone'][module]), strict=True)
    if any(not np.array_equal(a, b) for a, b in pairs):
      found.add(module)
  return found


def test_frozen_statistics_stay_and_the_rest_learns(variables):
  after = trained(unet_efficientnet.Model(2, frozen=True), variables)
  assert not changed_modules(variables['batch_stats'], after['batch_stats'])
  modules = set(variables['params']['backbone'])
  assert changed_modules(variables['params'], after['params']) == modules
  # Without `frozen` the statistics move, in every module.
  after = trained(unet_efficientnet.Model(2), variables)
  with_statistics = set(variables['batch_stats']['backbone'])
  assert changed_modules(variables['batch_stats'], after['batch_stats']) == with_statistics


def test_folding_frozen_statistics_changes_no_prediction(arrays, variables):
  image = jnp.asarray(np.random.default_rng(2).standard_normal((1, 40, 33, 3), np.float32))
  state = TrainState(0, {kind: variables[kind] for kind in ('params', 'batch_stats')}, None, ())
  loaded = pretrained.with_backbone(state, arrays).student
  plain, folded = (
    jax.jit(unet_efficientnet.Model(2, frozen=frozen).apply)(loaded, image)
    for frozen in (False, True)
  )
  assert plain.std() > 0.01
  np.testing.assert_allclose(plain, folded, atol=1e-4)


def test_fixed_layers_learn_nothing_not_even_their_statistics(variables):
  after = trained(unet_efficientnet.Model(2, fixed=4), variables)
  # Blocks 0, 1 and 2 are those of strides 2, 4 and 4.
  fixed = {'conv_stem', 'bn0', 'blocks_0', 'blocks_1', 'blocks_2'}
  for kind in ('params', 'batch_stats'):
    moved = changed_modules(variables[kind], after[kind])
    assert moved == set(variables[kind]['backbone']) - fixed


def test_fixed_layers_of_a_resnet():
  network = unet_resnet.Model(2, backbone='resnet18', widths=(4, 4, 4, 4, 4), fixed=4)
  before = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
  after = trained(network, before)
  fixed = {'conv1', 'bn1', 'layer1_0', 'layer1_1'}
  for kind in ('params', 'batch_stats'):
    assert changed_modules(before[kind], after[kind]) == set(before[kind]['backbone']) - fixed
  with pytest.raises(UserError, match=r'model.fixed=3 is not one of 0, 2, 4'):
    shapes(unet_resnet.Model(2, fixed=3), 1, 32, 32, 3)


def test_deeplab_takes_it_as_a_backbone():
  network = deeplabv3plus.Model(2, backbone='efficientnet_lite0', output_stride=16)
  out, variables = jax.eval_shape(
    network.init_with_output, jax.random.key(0), jnp.zeros((1, 40, 56, 3))
  )
  assert out.shape == (1, 40, 56, 2)
  assert 'conv_stem' in variables['params']['backbone']
  with pytest.raises(UserError, match=r"backbone='vgg' is not one of resnet18, .*lite4"):
    shapes(deeplabv3plus.Model(2, backbone='vgg'), 1, 32, 32, 3)


def test_other_channels_get_the_mean_kernel(arrays):
  """A gray image as one channel, or as two or three equal ones, gives the same features."""
  gray = np.random.default_rng(3).standard_normal((1, 33, 40, 1), np.float32)
  features = []
  for channels in (1, 2, 3):
    backbone = efficientnet_lite.Backbone(frozen=True, last_stride=4)
    loaded = with_published(backbone, arrays, channels)
    image = np.repeat(gray, channels, axis=-1)
    features.append(np.asarray(jax.jit(backbone.apply)(loaded, image)[-1]))
  assert features[0].std() > 0.1
  for other in features[1:]:
    np.testing.assert_allclose(features[0], other, atol=1e-3)
