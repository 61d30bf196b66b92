"""What an exported program computes: pixels as files hold them -> class probabilities and a mask.

It is traced once for all sizes of images. Everything that `predict` does to an image is inside:
brightness, `data.scale`, padding, standardization; of several networks the mean.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import lax
from jaxtyping import Array, Float, Num, UInt8

from ssl_jax import registry, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference import cluster_matching
from ssl_jax.inference.trained_networks import TrainedNetwork, build_network
from ssl_jax.models import symbolic
from ssl_jax.models.symbolic import Size
from ssl_jax.settings import Learning, Settings
from ssl_jax.stages.ensembles import names_of, predicting_weights
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

  def dtypes(self) -> tuple[str, ...]:
    """Returns the kinds of numbers of images that the run learnt from."""
    # A run that does not say read 8 bits, or something else by a range.
    known = 'uint8' if self.stats.intensity is None else 'float32'
    return self.stats.image_kind().dtypes or (known,)


def load(run: Path, every_seed: bool = False) -> Network:
  """The network of a run, stage or seed that `predict` takes; of its first seed, or of all.

  Raises:
    UserError: if there is none, or it gives no class to each pixel of an image.
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
    _check(run, settings, stats)
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


def _check(run: Path, settings: Settings, stats: DatasetStats) -> None:
  """Raises UserError for what has no such program."""
  if stats.task == CELLS:
    what = 'finds cells'
  elif stats.preprocessing is not None:
    what = 'was trained on volumes'
  elif settings.gan is not None and run_folder.stage_entry(run).get('run') == 'train_gan':
    what = 'makes images'
  else:
    return
  raise UserError(
    f'The network of {run} {what}; export knows networks that give a class to each pixel of an '
    'image, so use predict for this one.'
  )


def probabilities(
  network: Network, weights: Mapping[str, Array], pixels: Num[Array, 'b h w c']
) -> Float[Array, 'b h w classes']:
  """Returns the class probabilities of images whose pixels are as files hold them."""
  total: Any = 0.0
  for number, member in enumerate(network.members):
    own = f'{number}/'
    named = {name.removeprefix(own): x for name, x in weights.items() if name.startswith(own)}
    total = total + _of_member(member, traverse_util.unflatten_dict(named, sep='/'), pixels)
  return total / len(network.members)


def mask_of(probs: Float[Array, 'b h w classes']) -> UInt8[Array, 'b h w']:
  """Returns the class ids of probabilities."""
  return probs.argmax(-1).astype(jnp.uint8)


def _of_member(member: Member, weights: Mapping, pixels: Array) -> Array:
  images = _to_unit_range(pixels, member.stats)
  native = images.shape[1:3]
  if member.stats.scale != 1:
    images = _resized(images, [scaled_size(size, member.stats.scale) for size in native])
  space = images.shape[1:3]
  for axis, size in enumerate(space, start=1):
    images = _reflected(images, axis, symbolic.next_multiple(size, member.multiple))
  # A network without batch normalization has no such entry, of which nothing is stored.
  variables = {'batch_stats': {}, **weights}
  ema = variables if member.averaged else None
  probs = member.predict(member.state.replace(student=variables, ema=ema), images)
  if member.clusters is not None:
    probs = probs @ jnp.asarray(member.clusters, jnp.float32)
  # Without the padding.
  probs = lax.slice(probs, (0, 0, 0, 0), (probs.shape[0], *space, probs.shape[-1]))
  return probs if member.stats.scale == 1 else _resized(probs, native)


def _to_unit_range(pixels: Array, stats: DatasetStats) -> Array:
  """Pixels in [0, 1], as ssl_jax.io.images.rescale has them."""
  images = pixels.astype(jnp.float32)
  if stats.intensity is None or pixels.dtype == np.uint8:
    return images / 255
  low, high = np.asarray(stats.intensity, np.float32).reshape(-1, 2).T
  return jnp.clip((images - low) / (high - low), 0, 1)


def scaled_size(size: Size, scale: float | int) -> Size:
  """Returns `max(round(size * scale), 1)` of an open size."""
  # A scale has few decimals; as a fraction it stays exact.
  factor = Fraction(str(scale))
  doubled = 2 * size * factor.numerator + factor.denominator
  rounded = doubled // (2 * factor.denominator)
  # Python rounds a half to the even neighbour: one down where that went up to an odd number.
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
