"""A stage in which a trained generator paints images; how far they are from real ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ssl_jax import build, parallel
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import kernel_distance
from ssl_jax.inference.trained_networks import Network, read_config
from ssl_jax.io import images
from ssl_jax.stages import gan_samples
from ssl_jax.stages.seed_scores import mean_over_seeds
from ssl_jax.types import Splits, StageSpec

INPUT_STAGES = {'of': 'train_gan', 'judge': 'train'}
BATCH = 16


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where there is nothing to paint or the seeds are others."""
  own, where = plan.own, f'stages.{plan.name}'
  for knob in ('of', 'judge'):
    its = earlier[own[knob]].config if own.get(knob) else plan.config
    if any(plan.config[key] != its[key] for key in ('seed', 'replicas')):
      raise UserError(f'{where}: {own[knob]} has other seeds; they are read in pairs.')
  if own.get('count', 2) < 2 or own.get('enlarge', 1) < 1:
    raise UserError(f'{where}: count is at least 2 images, and enlarge a factor of at least 1.')


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  judge: str = '',
  count: int = 200,
  enlarge: float | int = 2,
) -> dict[str, float]:
  """Writes images/N.png of `count` painted images for each seed of the train_gan stage `of`.

  They are enlarged by the factor `enlarge` (bilinear). picture.png shows the first beside real ones
  of the same size. With a training stage as `judge` (its network's coarsest features) kid is their
  kernel distance to as many real ones, and kid_real that of real ones to other real ones, which is
  what no generator can be better than.
  """
  settings, found = read_config(folder.parent / of), build.splits(config['data'])
  trained = build.folders_of_seeds(settings, folder.parent / of)
  network, done = None, {}
  for seed, own in build.folders_of_seeds(config, folder).items():
    facts = build.read_stats(trained[seed])
    network = network or Network(settings, facts, build.gan_learner)
    paint, steps = network.plain(trained[seed])
    latent = np.random.default_rng([seed, 7]).standard_normal((count, settings['gan']['latent']))
    latent, made = latent.astype(np.float32), []
    size = [round(side * enlarge) for side in settings['size']]
    (own / 'images').mkdir(parents=True, exist_ok=True)
    for start in tqdm(range(0, count, BATCH), unit=' batches', desc=folder.name):
      if stop():
        raise Stopped(f'{folder.name}: stopped; the same command begins this stage again.')
      z = latent[start : start + BATCH]
      z = np.pad(z, [(0, BATCH - len(z)), (0, 0)])  # one program for all
      for image in paint(z)[: len(latent) - start]:
        made.append(images.resized(image, size, smooth=True))
        pixels = (np.clip(made[-1], 0, 1) * 255 + 0.5).astype(np.uint8)
        if parallel.is_main():
          images.write_image(own / 'images' / f'{len(made) - 1:06d}.png', pixels)
    streams = build.streams(settings, found, seed)
    real = gan_samples.real(settings, streams, 2 * count if judge else gan_samples.SHOWN)
    real = np.stack([images.resized(image, size, smooth=True) for image in real])
    shown = gan_samples.SHOWN
    gan_samples.grid(own / 'picture.png', np.stack(made[:shown]), real[:shown])
    done[seed] = {'steps': steps}
    if judge:
      done[seed] |= _distances(folder.parent / judge, seed, np.stack(made), real)
  return mean_over_seeds(done)


def _distances(judge: Path, seed: int, made: np.ndarray, real: np.ndarray) -> dict[str, float]:
  settings = read_config(judge)
  folder = build.folders_of_seeds(settings, judge)[seed]
  facts = build.read_stats(folder)
  state = Network(settings, facts).state(folder, settings['select'])
  variables = state.average if settings['teacher'] == 'average' else state.student
  features = kernel_distance.encoder_features(
    build.network(settings, facts), variables, facts.standardize
  )
  first, second = np.split(features(real), 2)
  return {
    'kid': kernel_distance.kernel_distance(first, features(made)),
    'kid_real': kernel_distance.kernel_distance(first, second),
  }
