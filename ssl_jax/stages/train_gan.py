"""A stage that trains a generator to paint images like the training images."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel, registry
from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import read_done, write_done
from ssl_jax.stages import gan_samples
from ssl_jax.stages.seed_scores import mean_over_seeds
from ssl_jax.stages.training_sources import check_images, same_data
from ssl_jax.training import gan, loop
from ssl_jax.types import Splits, StageSpec, TrainState

INPUT_STAGES = {}
NETWORKS = ('generator', 'generator_rate', 'discriminator', 'discriminators')
"""Knobs of `config.gan` that say what learns, and how fast; the others are those of the game."""


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where the page does not say how to play, or sizes do not fit."""
  config, where = plan.config, f'stages.{plan.name}'
  knobs = config.get('gan')
  if not knobs:
    raise UserError(f'{where} needs config.gan; configs/gan_self_training_em.py has one.')
  missing = [name for name in NETWORKS if not knobs.get(name)]
  if missing:
    raise UserError(f'config.gan lacks {missing[0]!r}; configs/gan_self_training_em.py has it.')
  game = {name: value for name, value in knobs.items() if name not in NETWORKS}
  given = ('generator', 'discriminators', 'recipes', 'size', 'optimizers', 'decay', 'standardize')
  registry.check_kwargs(gan.make_gan, game, 'gan', given=given)
  seen = dataset_stats.DatasetStats(
    found.classes, 1, None, (0.0,), (1.0,), {}, 0
  )  # no knob depends on the images
  build.gan_learner(config, seen)
  side = 4 * 2 ** len(knobs['generator'])
  if config['size'] != (side, side):
    raise UserError(
      f'{where}: size={config["size"]}, but a generator of {len(knobs["generator"])} widths paints '
      f'{side} pixels a side.'
    )
  if side % 2 ** len(knobs['discriminator']):
    raise UserError(
      f'{where}: {side} pixels cannot be halved {len(knobs["discriminator"])} times, as '
      f'gan.discriminator asks for.'
    )
  if 'real' not in config['views']:
    raise UserError(f"{where} needs a view 'real': what the painted images should be like.")
  check_images(config, found)


def stage(config: Mapping, folder: Path, stop: Callable[[], bool]) -> dict[str, float]:
  """Trains the game of `config.gan` on the view 'real', for each seed; shows samples on the way.

  `optimizer` and `schedule` are those of generator and discriminators alike (but for the factor
  `gan.generator_rate`), `average` is the decay of the generator's average, which paints. At each
  evaluation samples/STEP.png shows what it makes of the same random vectors, and samples/variety is
  recorded: how much its images differ from each other, as a share of how much real ones do (near 0
  where the modes have collapsed).
  """
  found = build.splits(config['data'])
  facts = dataset_stats.compute_stats(found, config['normalize'])
  learner = build.gan_learner(config, facts)
  update, predict = parallel.jit_update(learner.update), parallel.jit_predict(learner.predict)
  shape = gan_samples.SHOWN, config['gan']['latent']
  latent = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
  done = {}
  folders = build.folders_of_seeds(config, folder)
  for seed, own in folders.items():
    if (figures := read_done(own)) is not None and len(folders) > 1:
      done[seed] = figures
      continue
    same_data(own, facts)
    streams = build.streams(config, found, seed)
    real = gan_samples.real(config, streams, gan_samples.SHOWN)

    def watch(state: TrainState, everything: bool, own=own, real=real) -> dict[str, float]:
      painted = predict(state, latent)
      gan_samples.grid(own / 'samples' / f'{int(state.step):06d}.png', painted, real)
      return {'samples/variety': gan_samples.variety(painted) / gan_samples.variety(real)}

    example = np.zeros((1, *config['size'], facts.channels), np.float32)
    (state,) = loop.train(
      learner,
      update,
      [loop.SeedRun(seed, streams, own)],
      example,
      watch,
      label=f'{folder.name}/{own.name}' if len(folders) > 1 else folder.name,
      stop=stop,
      **{knob: config[knob] for knob in loop.KNOBS},
    )
    done[seed] = {'steps': int(state.step), **watch(state, True)}
    if len(folders) > 1:
      write_done(own, done[seed])
  return mean_over_seeds(done)
