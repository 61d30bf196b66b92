"""What an exported program computes: pixels as files hold them -> class probabilities and a mask.

It is traced once for all sizes of images. Everything that `predict` does to an image is inside:
brightness, `data.scale`, padding, standardization; of several networks the mean. Of volumes it
takes windows, and of cells patches, of the size that the network was trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import lax
from jaxtyping import Array, Float, Num, UInt8

from ssl_jax import registry, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.errors import UserError
from ssl_jax.inference import cluster_matching
from ssl_jax.inference.trained_networks import TrainedNetwork, build_network
from ssl_jax.models.operations import symbolic
from ssl_jax.models.operations.symbolic import Size
from ssl_jax.settings import Learning, Settings
from ssl_jax.stages.labeling.ensembles import names_of, predicting_weights
from ssl_jax.types import CELLS, PredictFn, TrainState


class Member(NamedTuple):
  """A trained network, apart from its weights."""

  predict: Callable[[TrainState, Array], Array]
  predict_fn: PredictFn  # with its weights, as `predict` asks it
  state: TrainState  # with neither weights nor an optimizer
  averaged: bool  # whether the moving average predicts
  stats: DatasetStats
  multiple: int  # of the sides of images inside the network
  clusters: np.ndarray | None  # [clusters, classes], where the network finds clusters


class Network(NamedTuple):
  """What is exported: a network, or several whose probabilities are averaged."""

  members: tuple[Member, ...]
  weights: Mapping[str, np.ndarray]  # number of the member, and path in its tree -> array
  folders: tuple[Path, ...]  # where they were trained
  settings: Settings  # of the first

  @property
  def stats(self) -> DatasetStats:
    """The statistics of the first network's data."""
    return self.members[0].stats

  @property
  def window(self) -> tuple[int, ...] | None:
    """The sides of what the network takes: windows of volumes, patches of cells; None: any."""
    fixed = self.stats.task == CELLS or len(self.settings.crop_size) == 3
    return tuple(self.settings.crop_size) if fixed else None

  def space(self) -> str:
    """Returns the sides as a shape of jax.export, with letters for those that are open."""
    return ', '.join(map(str, self.window or 'hw'))

  def outputs(self) -> tuple[str, str]:
    """Returns the names of what the program gives."""
    return ('probabilities', 'points') if self.stats.task == CELLS else ('probabilities', 'mask')

  def dtypes(self) -> tuple[str, ...]:
    """Returns the kinds of numbers of images that the run learned from."""
    if self.stats.preprocessing is not None:  # volumes
      return ('float32',)
    # A run that does not say read 8 bits, or something else by a range.
    known = 'uint8' if self.stats.intensity is None else 'float32'
    return self.stats.image_kind().dtypes or (known,)


def load(run: Path, every_seed: bool = False) -> Network:
  """The network of a run, stage or seed that `predict` takes; of its first seed, or of all.

  Raises:
    UserError: if there is none, or it makes images.
  """
  # As predict has it: a network may be a plug-in of the user's.
  plugins = run_folder.plugins_of(run)
  if plugins and Path(plugins).is_dir():
    registry.add_plugins(plugins)
  folders = _folders(run, every_seed)
  members = []
  weights: dict[str, np.ndarray] = {}
  for number, folder in enumerate(folders):
    settings, stats = run_folder.read_settings(folder), run_folder.read_stats(folder)
    _check(run, settings)
    # Half precision is for accelerators; the weights are float32 anyway.
    settings = replace(settings, precision='float32')
    trained = TrainedNetwork(settings, stats)
    state = trained.state(folder, settings.checkpoint)
    predict_fn, step = trained.predict_fn(folder, settings.checkpoint)
    if settings.checkpoint == 'last' and step < settings.steps:
      print(f'Note: the network of {folder} was trained for {step} of {settings.steps} steps.')
    tree = predicting_weights(settings.part(Learning), state)
    for path, array in traverse_util.flatten_dict(tree, sep='/').items():
      weights[f'{number}/{path}'] = np.asarray(array)
    learner = build_network(settings, stats)
    clusters = None if settings.match is None else cluster_matching.read_table(folder)
    bare = TrainState(np.zeros((), np.int32), {}, None, (), stats.normalization())
    averaged = state.ema is not None
    members.append(
      Member(learner.predict, predict_fn, bare, averaged, stats, learner.multiple, clusters)
    )
  return Network(tuple(members), weights, tuple(folders), run_folder.read_settings(folders[0]))


def _folders(run: Path, every_seed: bool) -> list[Path]:
  """The folders of the networks: of the first seed, or of every one."""
  if (entry := run_folder.stage_entry(run)).get('run') == 'score':
    stages = [run.parent / name for name in names_of(entry['of'])]
  else:
    first = run_folder.network_folder(run)
    if first == run:
      return [run]
    stages = [first.parent if first.name.startswith('seed_') else first]
  folders = [run_folder.seed_folders(stage) for stage in stages]
  count = None if every_seed else 1
  found = [folder for of_stage in folders for folder in of_stage[:count]]
  for folder in found:
    if not (folder / run_folder.STATS).exists():
      raise UserError(f'{folder} holds no trained network yet; has its training begun?')
  return found


def _check(run: Path, settings: Settings) -> None:
  """Raises UserError for what has no such program."""
  if settings.gan is not None and run_folder.stage_entry(run).get('run') == 'train_gan':
    raise UserError(
      f'The network of {run} makes images; export knows networks that give classes to pixels, '
      'voxels or patches, so use predict for this one.'
    )


def outputs(
  network: Network, weights: Mapping[str, Array], pixels: Num[Array, 'b *space c']
) -> tuple[Array, Array]:
  """Returns what Network.outputs names, of images whose pixels are as files hold them.

  They are the class probabilities [B, *space, classes] and the class ids [B, *space]; of cells
  [B, classes], and x and y of the cell [B, 2] as fractions of the side of a patch.
  """
  total: Any = None
  for number, member in enumerate(network.members):
    own = f'{number}/'
    named = {name.removeprefix(own): x for name, x in weights.items() if name.startswith(own)}
    found = _of_member(member, traverse_util.unflatten_dict(named, sep='/'), pixels)
    total = found if total is None else jax.tree.map(jnp.add, total, found)
  mean = jax.tree.map(lambda x: x / len(network.members), total)
  if not isinstance(mean, Mapping):
    return mean, mask_of(mean)
  # Without such a head the cell is in the middle, as predict_patches has it.
  middle = jnp.full(mean['class'].shape[:1], 0.5, jnp.float32)
  points = [mean.get(axis, middle)[:, None] for axis in ('x', 'y')]
  return mean['class'], jnp.concatenate(points, -1)


def mask_of(probs: Float[Array, 'b *space classes']) -> UInt8[Array, 'b *space']:
  """Returns the class ids of probabilities."""
  return probs.argmax(-1).astype(jnp.uint8)


def _of_member(member: Member, weights: Mapping, pixels: Array) -> Any:
  images = _to_unit_range(pixels, member.stats)
  native = images.shape[1:-1]
  if member.stats.scale != 1:
    images = _resized(images, [scaled_size(size, member.stats.scale) for size in native])
  space = images.shape[1:-1]
  for axis, size in enumerate(space, start=1):
    padded = symbolic.next_multiple(size, member.multiple)
    # Windows and patches are as large as those of the training.
    if symbolic.is_symbolic((size,)) or padded != size:
      images = _reflected(images, axis, padded)
  # A network without batch normalization has no such entry, of which nothing is stored.
  variables = {'batch_stats': {}, **weights}
  ema = variables if member.averaged else None
  probs = member.predict(member.state.replace(student=variables, ema=ema), images)
  if isinstance(probs, Mapping):  # of patches
    return dict(probs)
  if member.clusters is not None:
    probs = probs @ jnp.asarray(member.clusters, jnp.float32)
  # Without the padding.
  ends = probs.shape[0], *space, probs.shape[-1]
  probs = lax.slice(probs, (0,) * len(ends), ends)
  return probs if member.stats.scale == 1 else _resized(probs, native)


def _to_unit_range(pixels: Array, stats: DatasetStats) -> Array:
  """Pixels in [0, 1], as ssl_jax.io.images.rescale has them."""
  images = pixels.astype(jnp.float32)
  if stats.preprocessing is not None:
    return _scaled_volume(images, VolumePreprocessing(**stats.preprocessing))
  if stats.intensity is None or pixels.dtype == np.uint8:
    return images / 255
  low, high = np.asarray(stats.intensity, np.float32).reshape(-1, 2).T
  return jnp.clip((images - low) / (high - low), 0, 1)


def _scaled_volume(volumes: Array, preprocessing: VolumePreprocessing) -> Array:
  """Voxels in [0, 1], as volume_preprocessing.scale_window has them.

  Without a window it depends on the whole volume, and the voxels are given scaled.
  """
  pairs = preprocessing.window_pairs()
  if not pairs:
    return volumes
  low, high = np.asarray(pairs, np.float32).T
  scaled = (volumes - low) / (high - low)
  if preprocessing.clip:
    return jnp.clip(scaled, 0, 1)
  return jnp.where((scaled >= 0) & (scaled <= 1), scaled, jnp.float32(0))


def scaled_size(size: Size, scale: float | int) -> Size:
  """Returns `max(round(size * scale), 1)` of an open size."""
  # A scale has few decimals; as a fraction it stays exact.
  factor = Fraction(str(scale))
  doubled = 2 * size * factor.numerator + factor.denominator
  rounded = doubled // (2 * factor.denominator)
  # Python rounds a half to the even neighbor: one down where that went up to an odd number.
  is_half = 1 - symbolic.smaller(doubled % (2 * factor.denominator), 1)
  return symbolic.larger(rounded - is_half * (rounded % 2), 1)


def _resized(images: Array, size: Any) -> Array:
  """Images [B, H, W, C] as Pillow resizes them, smoothly."""
  for axis, new in enumerate(size, start=1):
    matrix = symbolic.area_matrix(images.shape[axis], new)
    product = jnp.tensordot(matrix, images, (1, axis), precision=lax.Precision.HIGHEST)
    images = jnp.moveaxis(product, 0, axis)
  return images


def _reflected(images: Array, axis: int, padded: Size) -> Array:
  """Images reflected at the end of an axis up to a size."""
  indices = symbolic.reflected_indices(images.shape[axis], padded)
  rows = (slice(None),) * axis + (indices,)
  return images.at[rows].get(mode='promise_in_bounds')
