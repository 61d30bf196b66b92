"""Each rule of self-configuration on fingerprints made by hand, on both sides of its threshold."""

import dataclasses

import pytest

from ssl_jax.data.selection.fingerprint import ClassFacts, Fingerprint
from ssl_jax.running import configuration_rules as rules
from ssl_jax.running.configuration_rules import Machine
from ssl_jax.types import CELLS

DATA = Fingerprint(
  task='masks',
  labeled=10,
  unlabeled=100,
  channels=1,
  bits=8,
  smallest=(500, 500),
  median=(500, 500),
  largest=(500, 500),
  modality='gray bright',
  gray_as_color=False,
  saturation=0.0,
  brightness=0.5,
  mean=(0.5,),
  std=(0.2,),
  classes=(),
)
CPU = Machine()
VIEWS = {
  'labeled': {'source': 'labeled'},
  'weak': {'source': 'unlabeled'},
  'strong': {'source': 'weak'},
}


def cells(p95, median=20.0, share=0.2, present=1.0, name='cell'):
  return ClassFacts(name, share, present, 50, float(median), float(p95))


def of(**fields):
  return dataclasses.replace(DATA, **fields)


@pytest.mark.parametrize(
  ('p95', 'side'),
  # Twice 48 is 96, the least; twice 48.5 is 97, for which 128 is needed; twice 128 is the most.
  [(10, 96), (48, 96), (48.5, 128), (64, 128), (64.1, 160), (96, 192), (128, 256)],
)
def test_a_crop_holds_a_large_object_twice(p95, side):
  choice = rules.crop_size(of(classes=(cells(p95),)), {'data': {'scale': 1.0}}, CPU)
  assert choice.value == (side, side)
  assert 'twice' in choice.reason


@pytest.mark.parametrize(('short', 'side'), [(50, 64), (64, 64), (65, 96), (500, 192)])
def test_a_crop_is_at_most_an_image(short, side):
  data = of(median=(short, 600), classes=(cells(90),))
  assert rules.crop_size(data, {'data': {'scale': 1.0}}, CPU).value == (side, side)


def test_the_largest_class_decides_on_the_crop():
  data = of(classes=(cells(10), cells(60)))
  assert rules.crop_size(data, {'data': {'scale': 1.0}}, CPU).value == (128, 128)


@pytest.mark.parametrize(
  ('p95', 'median', 'scale'),
  [
    (128, 60, 1.0),  # twice 128 is 256, the largest crop
    (160, 60, 0.8),  # 256 / 320
    (200, 60, 0.64),  # 256 / 400
    (200, 10, 0.8),  # 8 / 10: the small objects keep 8 pixels
    (200, 8, 1.0),
  ],
)
def test_images_are_made_smaller_only_for_objects_beyond_the_largest_crop(p95, median, scale):
  choice = rules.scale(of(median=(900, 900), classes=(cells(p95, median),)), {}, CPU)
  assert choice.value == scale


def test_an_object_that_fills_a_small_image_needs_no_scale():
  data = of(median=(250, 250), classes=(cells(240),))
  assert rules.scale(data, {}, CPU).value == 1.0
  assert rules.crop_size(data, {'data': {'scale': 1.0}}, CPU).value == (256, 256)


def test_the_crop_follows_a_scale():
  data = of(median=(900, 900), classes=(cells(100),))
  assert rules.crop_size(data, {'data': {'scale': 0.5}}, CPU).value == (128, 128)


@pytest.mark.parametrize(
  ('median', 'accelerator', 'crop'),
  [
    ((64, 64, 64), False, (64, 64, 64)),
    ((35, 50, 35), False, (40, 56, 40)),  # up to multiples of 8
    ((9, 200, 200), False, (16, 128, 128)),  # 16 * 128 * 128 is the budget, 64 ** 3
    ((200, 200, 200), False, (64, 64, 64)),
    ((64, 128, 128), True, (64, 128, 128)),  # four times the budget
  ],
)
def test_a_crop_of_a_volume_keeps_to_a_budget(median, accelerator, crop):
  machine = Machine(accelerator=accelerator)
  assert rules.crop_size(of(median=median), {}, machine).value == crop


@pytest.mark.parametrize(('side', 'size'), [(96, 8), (128, 8), (160, 6), (192, 6), (224, 4)])
def test_large_crops_make_small_batches(side, size):
  choice = rules.batch(DATA, {'crop_size': (side, side)}, CPU)
  assert choice.value == {'labeled': size, 'unlabeled': size}


def test_a_batch_splits_over_the_devices():
  choice = rules.batch(DATA, {'crop_size': (192, 192)}, Machine(devices=4))
  assert choice.value == {'labeled': 8, 'unlabeled': 8}
  assert '4 devices' in choice.reason


@pytest.mark.parametrize(
  ('crop', 'size'), [((64, 64, 64), 2), ((32, 64, 64), 4), ((16, 16, 16), 8), ((64, 128, 128), 2)]
)
def test_small_crops_of_volumes_make_large_batches(crop, size):
  choice = rules.batch(of(median=(200, 200, 200)), {'crop_size': crop}, CPU)
  assert choice.value['labeled'] == size


@pytest.mark.parametrize(('patches', 'size'), [(3, 4), (31, 16), (32, 32), (500, 32)])
def test_patches_do_not_repeat_within_a_batch(patches, size):
  choice = rules.batch(of(task=CELLS, labeled=patches), {}, CPU)
  assert choice.value == {'labeled': size, 'unlabeled': size}


@pytest.mark.parametrize(
  ('share', 'present', 'prob'),
  [(0.019, 1.0, 0.5), (0.02, 1.0, 0.0), (0.2, 0.5, 0.5), (0.2, 0.51, 0.0)],
)
def test_rare_classes_are_looked_for(share, present, prob):
  data = of(classes=(cells(30), cells(30, share=share, present=present, name='rare')))
  assert rules.foreground_prob(data, {}, CPU).value == prob
  assert rules.foreground_prob(DATA, {}, CPU).value == 0.0


@pytest.mark.parametrize(('present', 'over'), [(0.5, 'batch'), (0.51, 'image'), (1.0, 'image')])
def test_where_most_images_lack_a_class_dice_is_summed_over_the_batch(present, over):
  data = of(classes=(cells(30), cells(30, present=present, name='rare')))
  choice = rules.dice_over(data, {}, CPU)
  assert choice.value == over
  assert 'rare' in choice.reason or present == 1.0
  assert rules.dice_over(of(classes=()), {}, CPU).value == 'image'


def test_a_network_with_installed_weights_is_preferred():
  chosen = rules.model(DATA, {}, CPU).value
  assert chosen == {'name': 'unet_efficientnet', 'pretrained': 'imagenet', 'fixed': 4}
  without = rules.model(DATA, {}, Machine(weights=False))
  assert without.value['name'] == 'unet'
  assert 'pip install' in without.reason


def test_pretrained_weights_decide_on_normalization_and_learning_rate():
  fresh = {'model': {'name': 'unet', 'pretrained': None}}
  ours = {'model': {'name': 'unet_efficientnet', 'pretrained': 'imagenet'}}
  resnet = {'model': {'name': 'unet_resnet', 'pretrained': 'imagenet', 'backbone': 'resnet18'}}
  other = {'model': {'name': 'unet_efficientnet', 'pretrained': None}}
  values = [rules.normalize(DATA, page, CPU).value for page in (fresh, ours, resnet, other)]
  assert values == ['data', 'symmetric', 'imagenet', 'data']
  assert rules.normalize(of(modality='color'), ours, CPU).value == 'data'
  assert rules.optimizer(DATA, fresh, CPU).value['head_lr_multiplier'] == 1
  assert rules.optimizer(DATA, ours, CPU).value['head_lr_multiplier'] > 1


@pytest.mark.parametrize(
  ('modality', 'mild', 'strong'),
  [
    ('color', (0.1, 0.1, 0.1, 0.02), (0.3, 0.3, 0.3, 0.05)),
    ('gray bright', (0.1, 0.1, 0, 0), (0.3, 0.3, 0, 0)),
    ('gray dark', (0.2, 0.2, 0, 0), (0.5, 0.5, 0, 0)),
  ],
)
def test_brightness_and_color_change_as_the_modality_bears(modality, mild, strong):
  data = of(modality=modality)
  assert tuple(rules.jitter(data, False).value.values()) == mild
  assert tuple(rules.jitter(data, True).value.values()) == strong


def test_a_strong_view_is_one_that_is_made_of_another_view():
  page = {'views': VIEWS, 'batch': {'labeled': 8, 'unlabeled': 8}}
  assert [name for name in VIEWS if rules.is_strong(page, name)] == ['strong']


@pytest.mark.parametrize(
  ('minutes', 'seconds', 'steps'),
  [
    (20, 0.5, 2400),  # 1200 s at half a second
    (20, 0.64, 1800),  # 1875, of which two digits stay
    (20, 6, 200),  # just enough
    (20, 6.1, 200),  # 196: too few
    (1000, 0.01, 20_000),  # six million: too many
  ],
)
def test_steps_fill_the_minutes(minutes, seconds, steps):
  assert rules.steps(minutes, seconds).value == steps


def test_too_short_a_time_is_said():
  assert rules.steps(1, 2.9).reason == (
    'one step takes 2.9 s on this machine, so 1 minute would be too short for the 200 steps '
    'without which little is learned: a training will take 9.67 minutes'
  )
  assert 'too short' not in rules.steps(20, 6).reason


@pytest.mark.parametrize(
  ('number', 'rounded'), [(9, 9), (10, 10), (99, 99), (187, 180), (2999, 2900)]
)
def test_two_digits(number, rounded):
  assert rules.two_digits(number) == rounded


def test_what_follows_from_the_steps():
  assert rules.eval_every(2400).value == 600
  assert rules.eval_every(2).value == 1
  assert rules.ramp_up_steps(2400).value == 600
  assert rules.labels_first(2400).value == 600
  assert rules.checkpoint_every(2400, 0.1).value == 100  # 600 would be a minute
  assert rules.checkpoint_every(2400, 3.0).value == 20
  assert rules.checkpoint_every(2400, 30.0).value == 10
  assert rules.checkpoint_every(2400, None).value == 100
  assert rules.checkpoint_every(50, None).value == 50
