"""From the words of a config to the parts they name."""

import functools
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import optax
from flax import linen as nn

from ssl_jax import registry, types
from ssl_jax.data import dataset_stats, modifiers, replay_buffer
from ssl_jax.data import stream as data
from ssl_jax.models import discriminator, generator
from ssl_jax.training import gan, optimizers, pretrained
from ssl_jax.training.learner import make_learner
from ssl_jax.views import recipes


def tuples(value):
  """A config as read from JSON, with its lists as the tuples they were."""
  if isinstance(value, Mapping):
    return {key: tuples(inner) for key, inner in value.items()}
  return tuple(map(tuples, value)) if isinstance(value, list | tuple) else value


def splits(knobs: Mapping) -> types.Splits:
  """The data set of `config.data`; knobs that are None are left to the loader."""
  return _splits(json.dumps({k: v for k, v in knobs.items() if v is not None}))


@functools.lru_cache(1)  # the stages of a run share their images
def _splits(knobs: str) -> types.Splits:
  knobs = tuples(json.loads(knobs))
  scale, missing = knobs.pop('scale', 1), knobs.pop('missing', None)
  found = registry.build('datasets', knobs.pop('name'), knobs)
  found = found if scale == 1 else modifiers.downscale(found, scale)
  if missing and missing.get('share'):
    registry.check_kwargs(modifiers.drop_instances, missing, 'data.missing', given=('splits',))
    found = modifiers.drop_instances(found, **missing)
  return found


def streams(
  config: Mapping,
  found: types.Splits,
  seed: int,
  made: Mapping[str, types.Source] = types.NOTHING,
) -> dict[str, data.Stream]:
  """The streams of one seed that `config.batch` names: labeled, unlabeled, and what was `made`.

  Sources that earlier stages made come shuffled, but for a ReplayBuffer, whose order is its meaning.
  """
  sources = {'labeled': found.labeled, 'unlabeled': found.unlabeled, **made}
  sources = {n: s for n, s in sources.items() if s is not None and n in config['batch']}
  recipes.check_recipes(config['views'], set(sources))
  return {
    name: data.Stream(
      source,
      config['batch'][name],
      data.canvas_of(source, _canvas_limit(config, name)),
      data.stream_seed(seed, name),
      shuffle=not isinstance(source, replay_buffer.ReplayBuffer)
      and (name != 'unlabeled' or config['shuffle_unlabeled']),
      foreground=config.get('foreground') or 0.0,
    )
    for name, source in sources.items()
  }


def _canvas_limit(config: Mapping, stream: str) -> int | None:
  """The largest side of an image that any view of the stream can reach; None: all of it."""
  views, reach = config['views'], []

  def follow(parent: str, pixels: float) -> None:
    for name, recipe in views.items():
      if recipe['of'] == parent:
        more = math.sqrt(2) if recipe.get('rotate') else 1
        more *= (1 + (recipe.get('shear') or 0)) * (1 + 2 * (recipe.get('translate') or 0))
        side = math.inf if recipe.get('base') else pixels * more / min(recipe.get('scale') or [1])
        reach.append(side)
        if name not in config['batch']:  # such a name means the stream
          follow(name, side)

  follow(stream, max(config['size']))
  return math.ceil(max(reach)) if reach and max(reach) < math.inf else None


def _heads(config: Mapping, facts: dataset_stats.DatasetStats) -> dict[str, int]:
  return {'class': len(facts.classes), **(config.get('heads') or {})}


def network(config: Mapping, facts: dataset_stats.DatasetStats) -> nn.Module:
  """The network of `config.model`, for data of which `facts` were found."""
  model = {knob: v for knob, v in config['model'].items() if knob != 'pretrained'}
  given = {'num_classes': sum(_heads(config, facts).values()), 'dtype': config['precision']}
  return registry.build('models', model.pop('name'), model, **given)


def optimizer(config: Mapping, rate: float = 1.0) -> optax.GradientTransformation:
  """The optimizer of a config, with its schedule; `rate` multiplies the learning rate."""
  knobs = dict(config['optimizer'])
  rate = optimizers.schedule(config['schedule'], rate * knobs.pop('lr'), config['steps'])
  return optimizers.make(lr=rate, **knobs)


def learner(config: Mapping, facts: dataset_stats.DatasetStats) -> types.Learner:
  """The learner that a config describes, for data of which `facts` were found."""
  heads = _heads(config, facts)
  match = config.get('match') or {}
  clusters = [f'cluster {i}' for i in range(len(facts.classes))]
  return make_learner(
    network(config, facts),
    {name: registry.build('methods', name, knobs) for name, knobs in config['methods'].items()},
    config['views'],
    config['size'],
    optimizer(config),
    teacher=config['teacher'],
    decay=config['average'],
    standardize=facts.standardize,
    heads=heads if len(heads) > 1 else None,
    predicts=match.get('head', 'class') if facts.task == types.MASKS else None,
    classes=clusters if match else facts.classes,
  )


def gan_learner(config: Mapping, facts: dataset_stats.DatasetStats) -> types.Learner:
  """The learner of `config.gan`, which plays for images of `size` like those of the view 'real'."""
  shape = dict(channels=facts.channels, dtype=config['precision'])
  own = dict(config['gan'])
  return gan.make_gan(
    generator.Generator(widths=own.pop('generator'), **shape),
    discriminator.Ensemble(
      own.pop('discriminators'), own.pop('discriminator'), dtype=config['precision']
    ),
    config['views'],
    config['size'],
    (optimizer(config, own.pop('generator_rate')), optimizer(config)),
    decay=config['average'],
    standardize=facts.standardize,
    **own,
  )


def beginning(config: Mapping) -> Callable[[types.TrainState], types.TrainState]:
  """What turns a fresh state into the one that training begins with."""
  path = pretrained_file(config)
  if path is None:
    return lambda state: state
  arrays = pretrained.read_arrays(path)
  return lambda state: pretrained.with_backbone(state, arrays, str(path))


def pretrained_file(config: Mapping) -> Path | None:
  """The file of weights that `model.pretrained` means; raises UserError where there is none."""
  named = config['model'].get('pretrained')
  if named is None:
    return None
  path = Path(named.format(backbone=config['model'].get('backbone')))
  if not path.is_file():
    raise types.UserError(f'There is no file {path} (model.pretrained); check the path.')
  return path


def read_stats(folder: Path) -> dataset_stats.DatasetStats:
  """The facts that training wrote beside its checkpoints."""
  return dataset_stats.DatasetStats(**tuples(json.loads((folder / 'data.json').read_text())))


def trained_stage(config: Mapping) -> str:
  """The name of the stage whose network a run is about: the last that trains ('' for the run)."""
  names = [s['name'] for s in config['stages'] if s.get('run', 'train') == 'train']
  return names[-1] if names else ''


def folders_of_seeds(config: Mapping, stage: Path) -> dict[int, Path]:
  """Where a training stage keeps each seed; one alone has the stage's own folder."""
  seeds = range(config['seed'], config['seed'] + config['replicas'])
  return {s: stage / f'seed_{s}' for s in seeds} if len(seeds) > 1 else {seeds[0]: stage}


def own_of(stage: Path) -> dict:
  """What `config.stages` of the run says of the stage of this folder."""
  path = stage.parent / 'config.json'
  stages = json.loads(path.read_text())['stages'] if path.exists() else ()
  return next((tuples(own) for own in stages if own['name'] == stage.name), {})


def seed_folders(stage: Path) -> list[Path]:
  """The folders of a training stage that hold one seed each, the first seed first."""
  found = sorted(stage.glob('seed_*'), key=lambda path: int(path.name[5:]))
  return found or [stage]


def keep_compiled() -> None:
  """Keeps compiled programs between runs, so that only the first pays for compilation."""
  if not jax.config.jax_compilation_cache_dir:
    cache = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache')) / 'ssl_jax'
    jax.config.update('jax_compilation_cache_dir', str(cache))
