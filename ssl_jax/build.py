"""From typed settings to the parts they describe: data, streams, networks, learners."""

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import jax
import optax
from flax import linen as nn

from ssl_jax import parallel, registry, types
from ssl_jax.data import modifiers, replay_buffer, stream
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.io.folders import user_cache
from ssl_jax.models import backbones, discriminator, efficientnet_lite, generator
from ssl_jax.parsing import data_locations, parse_settings
from ssl_jax.settings import Data, DropInstances, Gan, Inputs, Learning, Model, Settings
from ssl_jax.training import gan, optimizers, published_weights
from ssl_jax.training.learner import make_learner
from ssl_jax.views import recipes


def splits(data: Data, draw: int | None = None) -> types.Splits:
  """The data set that settings name, scaled and with instances taken out where they ask for it.

  Args:
    data: the settings.
    draw: of labeled images, where it is not the one that the settings name.

  Raises:
    UserError: if a file or a field of the data set is wrong.
  """
  if draw is not None:
    data = replace(data, kwargs={**data.kwargs, 'draw': draw})
  # As JSON, because the key of a cache must be hashable and `kwargs` is a dict.
  return _splits(json.dumps(asdict(data)))


def can_draw(data: Data) -> bool:
  """Whether a data set has other labeled images for each draw."""
  return 'draw' in registry.parameters('datasets', data.name)


def redraws(settings: Settings) -> bool:
  """Whether each seed of a stage draws its own labeled images."""
  if settings.redraw is not None:
    return settings.redraw
  # A page that names a draw wants that one.
  return can_draw(settings.data) and 'draw' not in settings.data.kwargs


def splits_of_seed(settings: Settings, seed: int) -> types.Splits:
  """The data set as a seed of a stage sees it; its number is that of its draw.

  Raises:
    UserError: if a file or a field of the data set is wrong.
  """
  if redraws(settings):
    return splits(settings.data, seed)
  return splits(settings.data)


def check_draws(settings: Settings) -> None:
  """Checks that every seed of a stage can learn from the labels that it draws.

  Raises:
    UserError: if a draw lacks something, or shows other classes than that of the first seed.
  """
  if not redraws(settings):
    return
  data = json.dumps(asdict(settings.data))
  first = splits_of_seed(settings, settings.seed).classes
  for seed in range(settings.seed + 1, settings.seed + settings.num_seeds):
    try:
      classes = _classes_of_draw(data, seed)
    except UserError as error:
      raise UserError(f'With the labels that seed {seed} draws: {error}') from error
    check_classes(seed, classes, first)


def check_classes(seed: int, classes: Sequence[str], first: Sequence[str]) -> None:
  """Checks that the labels of a seed show the classes of those of the `first` seed.

  Raises:
    UserError: with both, if they do not.
  """
  if classes != first:
    raise UserError(
      f'The labels that seed {seed} draws show the classes {", ".join(classes)}, those of the '
      f'first seed {", ".join(first)}; name all classes in data.classes.'
    )


@functools.lru_cache(1024)  # stages share their images, and a draw is loaded only to look at it
def _classes_of_draw(data: str, draw: int) -> tuple[str, ...]:
  tree = json.loads(data)
  tree['kwargs']['draw'] = draw
  return tuple(_splits(json.dumps(tree)).classes)


def forget_splits() -> None:
  """Lets the next run of this process read the images anew: in a notebook they may have changed."""
  _splits.cache_clear()
  _classes_of_draw.cache_clear()


@functools.lru_cache(2)  # the stages of a run share their images
def _splits(data: str) -> types.Splits:
  tree = parse_settings.tuples(json.loads(data))
  loaded = registry.build(
    'datasets', tree['name'], data_locations.expand(tree['name'], tree['kwargs'])
  )
  # The scale comes first, so `min_pixels` below counts pixels of the scaled masks.
  if tree['scale'] != 1:
    loaded = modifiers.downscale(loaded, tree['scale'])
  if tree['drop_instances'] and tree['drop_instances']['fraction']:
    drop = DropInstances(**tree['drop_instances'])
    loaded = modifiers.drop_instances(loaded, drop.fraction, drop.seed, drop.min_pixels)
  return loaded


def streams(
  inputs: Inputs,
  splits: types.Splits,
  seed: int,
  made: Mapping[str, types.Source] = types.NOTHING,
) -> dict[str, stream.Stream]:
  """The streams of one seed that `batch` names: labeled, unlabeled, and what stages `made`.

  Sources that earlier stages made come shuffled, but for a ReplayBuffer, whose order is its
  meaning.

  Raises:
    UserError: if views are made of streams that there are not.
  """
  # A stream that `batch` does not name is never read, even where the data set has it.
  sources = {'labeled': splits.labeled, 'unlabeled': splits.unlabeled, **made}
  sources = {
    name: source for name, source in sources.items() if source is not None and name in inputs.batch
  }
  recipes.check_recipes(inputs.views, set(sources))
  result = {}
  # All records of a stream are padded or cropped to one canvas, because a batch is one array. The
  # canvas is no larger than what the views can reach, so that huge images make no huge batches.
  for name, source in sources.items():
    # The page may turn off shuffling for the unlabeled images only.
    shuffle = name != 'unlabeled' or inputs.shuffle_unlabeled
    result[name] = stream.Stream(
      source,
      inputs.batch[name],
      stream.canvas_size(source, _canvas_limit(inputs, name)),
      stream.stream_seed(seed, name),
      shuffle=shuffle and not isinstance(source, replay_buffer.ReplayBuffer),
      foreground_prob=inputs.foreground_prob,
    )
  return result


def _canvas_limit(inputs: Inputs, name: str) -> int | None:
  """The largest side of an image that any view of a stream can reach; None: all of it."""
  # One entry, in pixels, for each view that is made of the stream, directly or by way of others.
  reach = []

  def follow(source: str, pixels: float | int) -> None:
    for view, recipe in inputs.views.items():
      if recipe['source'] != source:
        continue
      # A rotated square fits into one that is sqrt(2) times larger: its diagonal.
      more = math.sqrt(2) if recipe.get('rotate') else 1
      # A shear of slope s widens the reach by the fraction s, a translation by the fraction t in
      # each of two directions.
      more *= (1 + (recipe.get('shear') or 0)) * (1 + 2 * (recipe.get('translate') or 0))
      # Zooming out (a scale below 1) brings more of the source into the view.
      side = pixels * more / min(recipe.get('scale') or [1])
      # With `resize_long_side` the factor depends on the size of each image, so there is no bound.
      reach.append(math.inf if recipe.get('resize_long_side') else side)
      if view not in inputs.batch:  # a name that is a view and a stream means the stream
        follow(view, reach[-1])

  follow(name, max(inputs.crop_size))
  return math.ceil(max(reach)) if reach and max(reach) < math.inf else None


def heads(learning: Learning, num_classes: int) -> dict[str, int]:
  """The heads of a network and their numbers of outputs; 'class' is the first."""
  return {'class': num_classes, **(learning.heads or {})}


def network(learning: Learning, stats: DatasetStats) -> nn.Module:
  """The network that settings describe, for data with these statistics.

  Raises:
    UserError: if there is no such network, or it lacks a field or has one too many.
  """
  # Heads are groups of channels of one output, which the learner splits.
  outputs = sum(heads(learning, len(stats.classes)).values())
  given = {'num_classes': outputs, 'dtype': parallel.choose_precision(learning.precision)}
  kwargs = dict(learning.model.kwargs)
  fields = registry.parameters('models', learning.model.name)
  if 'frozen' in fields and kwargs.get('frozen') is None:
    kwargs['frozen'] = frozen_by_default(learning.model)
  return registry.build('models', learning.model.name, kwargs, **given)


def backbone_of(model: Model) -> str | None:
  """The name of a network's backbone, as the page or the network's file has it; None without."""
  backbone = model.kwargs.get('backbone')
  if backbone is not None:
    return backbone
  parameter = registry.parameters('models', model.name).get('backbone')
  return parameter.default if parameter else None


def frozen_by_default(model: Model) -> bool:
  """Whether a backbone keeps the statistics of its batch normalization, where no field says it.

  Those of an EfficientNet are kept where its weights are pretrained: few images change them for
  the worse. Random weights need statistics of their own; ResNets learn theirs, as in the papers.
  """
  backbone = backbone_of(model)
  if model.pretrained is None or backbone not in efficientnet_lite.COEFFICIENTS:
    return False
  return model.pretrained != published_weights.IMAGENET or published_weights.exist_for(backbone)


def optimizer(
  learning: Learning,
  steps: int,
  lr_multiplier: float = 1.0,
  learns: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
  """The optimizer with its schedule over `steps` updates.

  `learns` tells for the parameters of a network which of them learn; without it all do.
  """
  # The multiplier scales the peak; warmup and decay keep their shape.
  lr = lr_multiplier * learning.optimizer.lr
  shape = optimizers.schedule(learning.schedule, lr, steps)
  return optimizers.make(learning.optimizer, shape, learns)


def learner(
  learning: Learning, inputs: Inputs, steps: int, stats: DatasetStats, methods: bool = True
) -> types.Learner:
  """The learner that settings describe; without its methods it can only be restored and predict.

  Raises:
    UserError: if a part is unknown, or lacks a field or has one too many.
  """
  outputs = heads(learning, len(stats.classes))
  match = learning.match
  clusters = [f'cluster {i}' for i in range(len(stats.classes))]
  built = {}
  # Prediction must work even where a method's file no longer exists.
  if methods:
    for name, kwargs in learning.methods.items():
      built[name] = registry.build('methods', name, kwargs)
  net = network(learning, stats)
  # Only where something is fixed, so that the state of the optimizer has no needless part.
  learns = functools.partial(backbones.learning_mask, net) if getattr(net, 'fixed', 0) else None
  return make_learner(
    net,
    built,
    inputs.views,
    inputs.crop_size,
    optimizer(learning, steps, learns=learns),
    teacher=learning.teacher,
    teacher_mode=learning.teacher_mode,
    ema_decay=learning.ema_decay,
    ema_batch_stats=learning.ema_batch_stats,
    labels_first=learning.labels_first,
    normalization=stats.normalization(),
    # A single head needs no splitting: the network's output is that head.
    heads=outputs if len(outputs) > 1 else None,
    predicts=(match.head if match else 'class') if stats.task == types.MASKS else None,
    classes=clusters if match else stats.classes,
    remat=learning.remat,
  )


def gan_learner(
  game: Gan, learning: Learning, inputs: Inputs, steps: int, stats: DatasetStats
) -> types.Learner:
  """The learner of a GAN whose images are like those of the view 'real'.

  Raises:
    UserError: if the loss is unknown.
  """
  dtype = parallel.choose_precision(learning.precision)
  # Generator and discriminators share all settings of the optimizer except the learning rate.
  return gan.make_gan(
    generator.Generator(widths=game.generator, channels=stats.channels, dtype=dtype),
    discriminator.Ensemble(game.discriminators, game.discriminator, dtype=dtype),
    inputs.views,
    inputs.crop_size,
    optimizer(learning, steps, game.generator_lr_multiplier),
    optimizer(learning, steps),
    latent=game.latent,
    loss=game.loss,
    penalty=game.penalty,
    r1_weight=game.r1_weight,
    clip=game.clip,
    critics=game.critics,
    ema_decay=learning.ema_decay,
    normalization=stats.normalization(),
  )


def keep_compiled() -> None:
  """Keeps compiled programs between runs, so that only the first pays for compilation."""
  # A folder that the user has configured is left alone.
  if not getattr(jax.config, 'jax_compilation_cache_dir', None):
    jax.config.update('jax_compilation_cache_dir', str(user_cache.folder()))
