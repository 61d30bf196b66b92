"""A stage that trains a generator of images like the training images."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel, run_folder
from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import read_done, write_done
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Inputs, Learning, Loop, Seeds, Settings
from ssl_jax.stages.comparing.seed_scores import mean_over_seeds
from ssl_jax.stages.learning import gan_samples
from ssl_jax.stages.learning.training_sources import check_images, keep_stats
from ssl_jax.training import loop
from ssl_jax.types import Figures, Splits, TrainState

INPUT_STAGES = {}


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that the networks of the game fit each other and the images.

  Raises:
    UserError: if a setting of the game is missing or wrong, or sizes do not fit.
  """
  settings = spec.settings
  where = f'stages.{spec.name}'
  inputs = settings.part(Inputs)
  game = gan_samples.game_of(settings, where)
  # The game itself does not depend on the images, so any statistics will do to try its settings.
  stats = dataset_stats.DatasetStats(splits.classes, 1, None, (0.0,), (1.0,), {}, 0)
  build.gan_learner(game, settings.part(Learning), inputs, settings.steps, stats)
  # The generator starts from 4 x 4 pixels and doubles the side at each of its levels.
  side = 4 * 2 ** len(game.generator)
  if inputs.crop_size != (side, side):
    raise UserError(
      f'{where}: crop_size={inputs.crop_size}, but a generator of {len(game.generator)} widths '
      f'makes images of {side} pixels a side.'
    )
  # Each level of a discriminator halves the side.
  if side % 2 ** len(game.discriminator):
    raise UserError(
      f'{where}: {side} pixels cannot be halved {len(game.discriminator)} times, as '
      f'gan.discriminator asks for.'
    )
  if 'real' not in inputs.views:
    raise UserError(f"{where} needs a view 'real': what the generated images should be like.")
  check_images(inputs, splits)


def stage(settings: Settings, folder: Path, stop: Callable[[], bool]) -> Figures:
  """Trains the game of `gan` on the view 'real' for each seed, and returns its last figures.

  `optimizer` and `schedule` are those of generator and discriminators alike (but for the factor
  `gan.generator_lr_multiplier`), `ema_decay` is the decay of the generator's moving average, which
  generates. At each evaluation it writes samples/STEP.png, images of always the same random
  vectors, and records samples/variety: how much they differ from each other, as a fraction of how
  much real ones do (near 0 where the modes have collapsed).

  Raises:
    UserError: if a setting is wrong, or a loss is not finite.
    Stopped: if it was asked to stop; the state is saved.
  """
  game = gan_samples.game_of(settings, f'stages.{folder.name}')
  inputs = settings.part(Inputs)
  first = build.splits_of_seed(settings, settings.seed)
  stats = dataset_stats.compute_stats(first, settings.normalize)
  learner = build.gan_learner(game, settings.part(Learning), inputs, settings.steps, stats)
  update = parallel.jit_update(learner.update)
  predict = parallel.jit_predict(learner.predict)
  latent_shape = (gan_samples.SAMPLES, game.latent)
  # [SAMPLES, latent], the same vectors at every evaluation and for every seed, so that the grids
  # show how one and the same image develops.
  latent = np.random.default_rng(0).standard_normal(latent_shape).astype(np.float32)
  example = np.zeros((1, *inputs.crop_size, stats.channels), np.float32)
  done: dict[int, Figures] = {}
  # Seeds are trained one after another; `vmap_seeds` is for `train` stages only.
  seed_folders = run_folder.folders_of_seeds(settings.part(Seeds), folder)
  for seed, seed_folder in seed_folders.items():
    figures = read_done(seed_folder)
    # With a single seed the stage's own done.json has been looked at before.
    if figures is not None and len(seed_folders) > 1:
      done[seed] = figures
      continue
    splits = build.splits_of_seed(settings, seed)
    stats = dataset_stats.compute_stats(splits, settings.normalize)
    keep_stats(seed_folder, stats)
    streams = build.streams(inputs, splits, seed)
    # The real images that each grid shows beside the generated ones.
    real = gan_samples.real_images(inputs, streams, gan_samples.SAMPLES)
    monitor = _monitor(predict, latent, real, seed_folder)
    (state,) = loop.train(
      learner,
      update,
      [loop.SeedRun(seed, streams, seed_folder, normalization=stats.normalization())],
      example,
      monitor,
      loop=settings.part(Loop),
      label=f'{folder.name}/{seed_folder.name}' if len(seed_folders) > 1 else folder.name,
      stop=stop,
    )
    done[seed] = {'steps': int(state.step), **monitor(seed, state, True)}
    if len(seed_folders) > 1:
      write_done(seed_folder, done[seed])
  return mean_over_seeds(done)


def _monitor(
  predict: Callable, latent: np.ndarray, real: np.ndarray, folder: Path
) -> loop.Evaluate:
  """Returns what shows and measures the images that a state generates of `latent`."""

  def evaluate_state(seed: int, state: TrainState, everything: bool) -> dict[str, float]:
    # [SAMPLES, H, W, C] in [0, 1].
    generated = predict(state, latent)
    gan_samples.draw_grid(folder / 'samples' / f'{int(state.step):06d}.png', generated, real)
    return {'samples/variety': gan_samples.variety(generated) / gan_samples.variety(real)}

  return evaluate_state
