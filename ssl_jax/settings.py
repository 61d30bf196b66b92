"""The settings of a run: what each field of a config is, may be, and means.

This file is the only place that knows a field's type, default, range and help. A page starts from
`defaults()`; parsing/parse_settings.py turns the words of a config into the typed, frozen
`Settings`; `python -m ssl_jax.parsing.configuration` writes docs/configuration.md from it. Pages
import it, so no JAX.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from ssl_jax import registry
from ssl_jax.placeholders import (
  dataclass_defaults,
  default_of,
  or_placeholder,
  part_placeholders,
)

Part = typing.TypeVar('Part')

LARGEST = 10**9
"""The largest number of steps, images or the like that a config may ask for."""


def _field(
  default: Any,
  about: str,
  low: float | int | None = None,
  high: float | int | None = None,
  choices: Sequence[str] = (),
) -> Any:
  """A field with its default, its sentence of help, and its range (inclusive) or choices."""
  # The metadata is read by parse_settings (range, choices) and configuration (help).
  metadata = dict(help=about, low=low, high=high, choices=tuple(choices))
  # dataclasses refuse mutable defaults, because all objects would share one dict.
  if isinstance(default, dict):
    return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
  return dataclasses.field(default=default, metadata=metadata)


def _group(kind: type, about: str) -> Any:
  """A field that holds a group of fields, all with their defaults."""
  return dataclasses.field(default_factory=kind, metadata=dict(help=about))


def range_text(low: float | int, high: float | int) -> str:
  """A range in words: 'at least 1', or '0 to 1'."""
  # LARGEST stands for 'no bound' among whole numbers, which have no infinity.
  if high in (math.inf, LARGEST):
    return f'at least {low:,}'
  return f'{low:,} to {high:,}'


@dataclasses.dataclass(frozen=True)
class DropInstances:
  """Instances taken out of the training masks, to measure how many are found again."""

  # 0 leaves the masks as they are, so the other fields then have no effect.
  fraction: float = _field(0.0, 'Probability that an instance is taken out.', 0.0, 1.0)
  seed: int = _field(0, 'Seed of the draw.', 0, 2**31 - 1)
  min_pixels: int = _field(16, 'Smaller instances stay.', 0, LARGEST)


@dataclasses.dataclass(frozen=True)
class Data:
  """The data set; `kwargs` are those of datasets/NAME.py."""

  name: str = _field('folder', 'Data set: a file of datasets/.')
  scale: float = _field(1.0, 'Images and masks are made smaller by this factor.', 1e-3, 1.0)
  drop_instances: DropInstances | None = _field(
    None, 'Takes instances out of the training masks (fraction, seed, min_pixels).'
  )
  kwargs: Mapping[str, Any] = _field({}, 'Fields of the data set itself.')


@dataclasses.dataclass(frozen=True)
class Model:
  """The network; `kwargs` are those of models/NAME.py."""

  name: str = _field('unet', 'Network: a file of models/.')
  pretrained: str | None = _field(
    None,
    "Weights to start from: 'imagenet'; a file for the backbone ({backbone} in it stands for its "
    'name); or the folder of a run of your own.',
  )
  kwargs: Mapping[str, Any] = _field({}, 'Fields of the network itself.')


OPTIMIZERS = ('sgd', 'adam', 'rmsprop')
SCHEDULES = ('constant', 'poly', 'cosine', 'step')


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """How gradients become updates."""

  name: str = _field('adam', 'SGD or RMSProp with L2 weight decay, or AdamW.', choices=OPTIMIZERS)
  lr: float = _field(1e-3, 'Learning rate.', 0.0, math.inf)
  # parse_settings refuses a changed `momentum` or `b1` that the optimizer would not use.
  momentum: float = _field(0.9, 'Momentum of sgd and rmsprop.', 0.0, 1.0)
  b1: float = _field(0.9, "Decay of adam's first moment.", 0.0, 1.0)
  nesterov: bool = _field(False, 'Nesterov momentum, for sgd and rmsprop.')
  weight_decay: float = _field(1e-4, 'L2 weight decay; decoupled with adam.', 0.0, math.inf)
  # For backbones with pretrained weights, which need smaller steps than the new layers.
  head_lr_multiplier: float = _field(
    1.0, 'Multiplies the learning rate of all layers outside the backbone.', 0.0, math.inf
  )
  clip: float = _field(0.0, 'Bound of the global norm of the gradient; 0: none.', 0.0, math.inf)


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How the learning rate changes over the steps."""

  name: str = _field('constant', 'Shape of the schedule.', choices=SCHEDULES)
  warmup: int = _field(0, 'Steps of linear rise before it.', 0, LARGEST)
  power: float = _field(0.9, 'poly: exponent of the remaining fraction of the steps.', 0.0, 100.0)
  end: float = _field(0.0, 'cosine: final learning rate as a fraction of lr.', 0.0, 1.0)
  # Fractions rather than steps, so that the schedule follows when `steps` is changed.
  at: tuple[float, ...] = _field((0.5, 0.75), 'step: fractions of the steps at which lr drops.')
  factor: float = _field(0.1, 'step: multiplies the learning rate at each drop.', 0.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Match:
  """Clusters that were learned without labels, matched to classes on training images."""

  head: str = _field('class', 'Head of the network whose outputs are clusters.')
  how: str = _field('one-to-one', 'How clusters become classes.', choices=('one-to-one', 'overlap'))


GAN_LOSSES = ('non-saturating', 'non-saturating-gp', 'wasserstein', 'wasserstein-gp')


@dataclasses.dataclass(frozen=True)
class Gan:
  """The networks and the loss of a `train_gan` stage."""

  generator: tuple[int, ...] = _field((64, 48, 32, 16), "Widths of the generator's levels.")
  generator_lr_multiplier: float = _field(
    1.0, "Multiplies the generator's learning rate.", 0.0, math.inf
  )
  discriminator: tuple[int, ...] = _field((8, 16, 32, 64), "Widths of a discriminator's levels.")
  discriminators: int = _field(1, 'Number of discriminators.', 1, 100)
  latent: int = _field(64, 'Length of the random vector that becomes an image.', 1, LARGEST)
  loss: str = _field('non-saturating-gp', 'Loss of the generator and of the discriminators.')
  penalty: float = _field(10.0, 'Weight of the gradient penalty.', 0.0, math.inf)
  r1_weight: float = _field(0.0, 'Weight of the R1 penalty.', 0.0, math.inf)
  # 0.01 is the value of Arjovsky et al. 2017.
  clip: float = _field(0.01, 'Weight-clipping bound of the wasserstein loss.', 0.0, math.inf)
  critics: int = _field(1, 'Discriminator updates for each generator update.', 1, 1000)


@dataclasses.dataclass(frozen=True)
class Seeds:
  """Which seeds are trained."""

  seed: int = _field(0, 'First seed; everything random follows from it.', 0, 2**31 - 1)
  num_seeds: int = _field(3, 'Number of seeds, each with its own network.', 1, 1000)
  redraw: bool | None = _field(
    None,
    'Whether each seed also draws its own labeled images and, where they are held out of those, '
    'test images (`data.draw`); by default where the data set can.',
  )
  # No effect on the result but for rounding; see `stages/train.py`.
  vmap_seeds: bool | None = _field(
    None, 'Whether one program trains all seeds; by default on accelerators only.'
  )


@dataclasses.dataclass(frozen=True)
class Loop:
  """How long a stage trains, and what it keeps on the way."""

  steps: int = _field(1000, 'Optimizer updates of a training stage.', 1, LARGEST)
  # Steps, not epochs: streams of different lengths have no epoch in common.
  eval_every: int = _field(500, 'Steps between evaluations.', 1, LARGEST)
  checkpoint_every: int = _field(
    100, 'Steps between checkpoints; a killed run loses at most so many.', 1, LARGEST
  )
  log_every: int = _field(10, 'Steps between lines of metrics.jsonl.', 1, LARGEST)
  num_snapshots: int = _field(
    1, 'Checkpoints kept for good, at equal distances over the training.', 1, 1000
  )
  data_on_device: bool | None = _field(
    None, 'Whether images stay on the device; by default on accelerators, where they fit.'
  )
  steps_per_call: int = _field(20, 'Largest number of steps in one call to the device.', 1, 1000)
  tensorboard: bool = _field(False, 'Whether TensorBoard files are written as well.')


# 'best...' need validation images; test images never choose a checkpoint.
CHECKPOINTS = ('last', 'best', 'best_supervised', 'best_total')


@dataclasses.dataclass(frozen=True)
class Selection:
  """Which checkpoint of a training is used afterwards, and how it is scored."""

  checkpoint: str = _field(
    'last',
    'Checkpoint that is scored and used: the last, or the best on validation images by score '
    '(best), by supervised loss, or by total loss.',
    choices=CHECKPOINTS,
  )
  watch_losses: bool = _field(False, 'Whether losses on validation images are computed, too.')
  count_absent: bool = _field(
    False, 'Whether an image scores 100 for a class that neither its mask nor its prediction has.'
  )


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What the network is shown in a step."""

  batch: Mapping[str, int] = _field({'labeled': 8}, 'Images a step from each stream.', 1, 10**6)
  crop_size: tuple[int, ...] = _field(
    (128, 128), 'Size of the views in pixels or voxels (rows, columns; or z, y, x).', 8, LARGEST
  )
  views: Mapping[str, Mapping[str, Any]] = _field(
    {}, 'Views by name: the `source` each is made of, and its augmentations.'
  )
  shuffle_unlabeled: bool = _field(True, 'Whether unlabeled images come in random order.')
  # Small organs would otherwise be missing from most crops of a volume.
  foreground_prob: float = _field(
    0.0, 'Probability that a crop is centered on a labeled object.', 0.0, 1.0
  )


TEACHERS = ('student', 'ema')
PRECISIONS = ('auto', 'float32', 'bfloat16')
NORMALIZATIONS = ('data', 'minmax', 'imagenet', 'symmetric')


@dataclasses.dataclass(frozen=True)
class Learning:
  """Methods, teacher and network."""

  # The order has no meaning: the losses are summed.
  methods: Mapping[str, Mapping[str, Any]] = _field(
    {'supervised': {}}, 'Methods by name, files of methods/, whose loss terms are summed.'
  )
  teacher: str = _field(
    'student', 'Who teaches and predicts: the student or its moving average.', choices=TEACHERS
  )
  teacher_mode: str = _field(
    'eval',
    'How the teacher makes targets: as in prediction, or with the statistics of its batch and with '
    'dropout, as a student learns.',
    choices=('eval', 'train'),
  )
  ema_decay: float = _field(
    0.0, "Decay of the moving average of the student's weights; 0: none is kept.", 0.0, 1.0
  )
  ema_batch_stats: bool = _field(
    True, "Whether the average covers batch statistics too; otherwise it has the student's."
  )
  # Decided when a run begins, and kept in its config.json; see precision.py.
  precision: str = _field(
    'auto',
    'Precision of the networks; parameters, losses and normalization are always float32. auto: '
    'bfloat16 on accelerators, float32 on CPUs.',
    choices=PRECISIONS,
  )
  remat: bool = _field(
    False,
    'Whether the backward pass computes anew what lies between convolutions: less memory on '
    'accelerators, and a little slower.',
  )
  normalize: str = _field(
    'data',
    "Normalization of the inputs: by the data's mean and deviation, or minimum and maximum; by "
    "ImageNet's, as ResNets' weights want it; or to -1 to 1, as EfficientNet-Lite's do.",
    choices=NORMALIZATIONS,
  )  # fmt: skip
  heads: Mapping[str, int] | None = _field(
    None, 'Further heads of the network and their numbers of outputs.', 1, 10**4
  )
  match: Match | None = _field(None, 'How clusters are matched to classes (head, how).')
  labels_first: int = _field(
    0,
    'First steps on labels alone; ramps of losses on unlabeled images begin after them.',
    0,
    LARGEST,
  )
  model: Model = _group(Model, 'The network.')
  optimizer: Optimizer = _group(Optimizer, 'The optimizer.')
  schedule: Schedule = _group(Schedule, 'The learning-rate schedule.')


@dataclasses.dataclass(frozen=True)
class Settings(Seeds, Loop, Selection, Inputs, Learning):
  """All settings of a stage."""

  data: Data = _group(Data, 'The data set.')
  gan: Gan | None = _field(None, 'The networks and the game of train_gan stages.')

  def part(self, kind: type[Part]) -> Part:
    """The fields of one of the classes above, which is all that most functions need."""
    # A function that takes Inputs cannot come to depend on the optimizer, say.
    names = [field.name for field in dataclasses.fields(kind)]  # pyrefly: ignore[bad-argument-type]
    return kind(**{name: getattr(self, name) for name in names})


PAGE_FIELDS = {
  'stages': 'What the run does in turn: a tuple of dicts with a name, `run`, and changed fields.',
  'table': 'Cells of the table that `python -m ssl_jax.table` prints.',
  'init_from': 'Run, stage or seed folder whose networks the trainings start from.',
  'plugins': 'Folder with methods/, models/, datasets/ or stages/ of your own.',
  'configure': 'Fields to decide from the data if they are empty (see open_fields.py).',
  'minutes': 'Minutes that one training may take on this machine; open `steps` follow from it.',
}
"""Fields of a page that are of the whole run, not of one stage."""

NESTED = {'data': ('datasets', Data), 'model': ('models', Model)}
"""Fields whose dict holds fields of ours and, beside them, those of the part that they name."""


_VIEW_NUMBERS = 'resize_long_side rotate shear translate flip flip_vertical quarter_turns'

VIEW_PLACEHOLDERS = {'scale': tuple, **dict.fromkeys(_VIEW_NUMBERS.split(), float)}
"""Augmentations that the shell may set in any view, also where its page does not write them."""


def defaults() -> ConfigDict:
  """The ConfigDict that a page starts from: every field with its default, one stage, no table."""
  # A ConfigDict reads a value of the shell by the type of its default; None gets a placeholder.
  config = ConfigDict({'stages': (), 'table': (), 'plugins': placeholder(str)})
  config.update(configure=(), minutes=placeholder(float), init_from=placeholder(str))
  hints = typing.get_type_hints(Settings)
  for field in dataclasses.fields(Settings):
    value = default_of(field)
    if dataclasses.is_dataclass(value):
      # The fields of a part are at the level of ours in a config, with no `kwargs` between.
      value = {name: v for name, v in dataclasses.asdict(value).items() if name != 'kwargs'}
    config[field.name] = or_placeholder(value, hints[field.name])
  return config


def complete(config: ConfigDict) -> ConfigDict:
  """The locked config, with a default for every field of its parts that the page does not write.

  So any field of its data set, network and methods can be set from the shell.

  Raises:
    UserError: if it names a part that there is not.
  """
  config.unlock()
  registry.add_plugins(config.get('plugins'))
  for name, (kind, section) in NESTED.items():
    # Fields of ours, and empty ones for each argument of the part that is named.
    part = config[name].get('name')
    # A network that is still to be decided has no arguments yet.
    _fill(config[name], dataclass_defaults(section))
    _fill(config[name], part_placeholders(kind, part) if part else {})
  for method in config.methods:
    _fill(config.methods[method], part_placeholders('methods', method))
  for name, section in (('optimizer', Optimizer), ('schedule', Schedule), ('gan', Gan)):
    # A page may have replaced the whole dict and so dropped the fields that it did not write.
    if config.get(name) is not None:
      _fill(config[name], dataclass_defaults(section))
  for view in config.views:
    _fill(config.views[view], {k: placeholder(kind) for k, kind in VIEW_PLACEHOLDERS.items()})
  return config.lock()


def _fill(config: ConfigDict, values: Mapping[str, Any]) -> None:
  for key, value in values.items():
    if key not in config:
      config[key] = value
