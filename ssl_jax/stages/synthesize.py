"""A stage that generates images, and measures how far they are from real ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ssl_jax import build, parallel, run_folder
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import kernel_distance
from ssl_jax.inference.trained_networks import TrainedNetwork, build_gan
from ssl_jax.io import images
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Inputs, Learning, Seeds, Settings
from ssl_jax.stages.comparing.seed_scores import mean_over_seeds
from ssl_jax.stages.labeling.ensembles import predicting_weights, same_seeds
from ssl_jax.stages.learning import gan_samples
from ssl_jax.types import Figures, PredictFn, Splits

INPUT_STAGES = {'of': 'train_gan', 'judge': 'train'}
USES = ('seed', 'num_seeds', 'data')

BATCH = 16
"""Images that are generated together."""


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that the stages that it reads have its seeds, and that numbers make sense.

  Raises:
    UserError: if they do not.
  """
  stage_kwargs = spec.stage_kwargs
  where = f'stages.{spec.name}'
  # Generators and judges are read seed by seed.
  for key in ('of', 'judge'):
    name = stage_kwargs.get(key)
    if name and not same_seeds(spec, earlier[name]):
      raise UserError(f'{where}: {name} has other seeds; they are read in pairs.')
  # The kernel distance needs pairs of different images.
  if stage_kwargs.get('count', 2) < 2 or stage_kwargs.get('enlarge', 1) < 1:
    raise UserError(f'{where}: count is at least 2 images, and enlarge a factor of at least 1.')


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  judge: str = '',
  count: int = 200,
  enlarge: float | int = 2,
) -> Figures:
  """Writes images/N.png, generated images, and picture.png, the first of them beside real ones.

  With a `judge` it returns kid, the kernel distance of the generated images to as many real ones,
  and kid_real, that of real ones to other real ones, which no generator can be better than.

  Args:
    settings: of this stage.
    folder: of this stage.
    stop: asked after each batch whether to stop.
    of: the train_gan stage.
    judge: training stage through whose network's coarsest features images are compared.
    count: number of images for each seed.
    enlarge: factor by which they are enlarged (bilinear).

  Raises:
    UserError: if a checkpoint is missing.
    Stopped: if it was asked to stop; the stage begins again then.
  """
  gan_folder = folder.parent / of
  gan_settings = run_folder.read_settings(gan_folder)
  gan_inputs = gan_settings.part(Inputs)
  gan_folders = run_folder.folders_of_seeds(gan_settings.part(Seeds), gan_folder)
  latent_size = gan_samples.game_of(gan_settings, f'stages.{of}').latent
  # Generators are trained on small images, which are enlarged to the scale of the data.
  size = [round(side * enlarge) for side in gan_inputs.crop_size]
  network = None
  done: dict[int, Figures] = {}
  for seed, seed_folder in run_folder.folders_of_seeds(settings.part(Seeds), folder).items():
    stats = run_folder.read_stats(gan_folders[seed])
    if network is None:  # one compiled program serves all seeds
      network = TrainedNetwork(gan_settings, stats, build_gan)
    # A generator's "predictions" are images; there are no classes to match.
    generate, step = network.cluster_predict_fn(gan_folders[seed])
    # [count, latent]; 7 keeps these numbers apart from others that are drawn from the seed.
    latent = np.random.default_rng([seed, 7]).standard_normal((count, latent_size))
    (seed_folder / 'images').mkdir(parents=True, exist_ok=True)
    generated = _generate(generate, latent.astype(np.float32), size, seed_folder, stop, folder.name)
    streams = build.streams(gan_inputs, build.splits_of_seed(settings, seed), seed)
    # Two sets of `count` for the distances: one to compare with, one that shows the best possible.
    real = gan_samples.real_images(gan_inputs, streams, 2 * count if judge else gan_samples.SAMPLES)
    # Real images are blurred by the same enlargement, or it alone would tell the two apart.
    real = np.stack([images.resize(image, size, smooth=True) for image in real])
    shown = gan_samples.SAMPLES
    gan_samples.draw_grid(seed_folder / 'picture.png', generated[:shown], real[:shown])
    done[seed] = {'steps': step}
    if judge:
      done[seed] |= _distances(folder.parent / judge, seed, generated, real)
  return mean_over_seeds(done)


def _generate(
  generate: PredictFn,
  latent: np.ndarray,
  size: list[int],
  folder: Path,
  stop: Callable[[], bool],
  name: str,
) -> np.ndarray:
  """Images [n, H, W, C] of latent vectors [n, d], which are also written as images/N.png."""
  generated = []
  for start in tqdm(range(0, len(latent), BATCH), unit=' batches', desc=name):
    if stop():
      raise Stopped(f'{name}: stopped; the same command begins this stage again.')
    batch = latent[start : start + BATCH]
    count = len(batch)
    batch = np.pad(batch, [(0, BATCH - count), (0, 0)])  # so that one program serves all batches
    for image in generate(batch)[:count]:
      enlarged = images.resize(image, size, smooth=True)
      # [0, 1] to 0..255, rounded to the nearest.
      pixels = (np.clip(enlarged, 0, 1) * 255 + 0.5).astype(np.uint8)
      if parallel.is_main():
        images.write_image(folder / 'images' / f'{len(generated):06d}.png', pixels)
      # Not rounded, like the real images that they are compared with.
      generated.append(enlarged)
  return np.stack(generated)


def _distances(judge: Path, seed: int, generated: np.ndarray, real: np.ndarray) -> Figures:
  """Kernel distances between images, seen through the network of a training stage."""
  settings = run_folder.read_settings(judge)
  learning = settings.part(Learning)
  folder = run_folder.folders_of_seeds(settings.part(Seeds), judge)[seed]
  stats = run_folder.read_stats(folder)
  state = TrainedNetwork(settings, stats).state(folder, settings.checkpoint)
  features = kernel_distance.encoder_features(
    build.network(learning, stats), predicting_weights(learning, state), state.normalization
  )
  # [count, d] each.
  first, second = np.split(features(real), 2)
  return {
    'kid': kernel_distance.kernel_distance(first, features(generated)),
    'kid_real': kernel_distance.kernel_distance(first, second),
  }
