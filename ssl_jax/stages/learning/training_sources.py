"""What a stage reads: images of the data set, what earlier stages made, the data of before."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax import run_folder
from ssl_jax.data import stream
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.pseudo_labels import PseudoLabeled
from ssl_jax.data.replay_buffer import ReplayBuffer, StoredPairs
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import has_begun, read_json, replace_text
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Inputs, Seeds
from ssl_jax.types import IGNORE, MASKS, NOTHING, Source, Splits


def required(source: Source | None, problem: str) -> Source:
  """Returns a split of a data set that a stage cannot do without.

  Raises:
    UserError: with the sentence `problem`, if the data set has no such split.
  """
  if source is None:
    raise UserError(problem)
  return source


def held_out(splits: Splits) -> dict[str, Source]:
  """Returns those of 'val' and 'test' that the data set has, by name."""
  named = {'val': splits.val, 'test': splits.test}
  return {name: source for name, source in named.items() if source is not None}


def check_images(inputs: Inputs, splits: Splits) -> None:
  """Checks that the images which the views are made of are there, and have as many axes.

  Raises:
    UserError: if a view's source is missing, or `crop_size` has too many or too few sides.
  """
  # Asked here rather than in views/recipes.py, because it depends on the data set.
  for name, view in inputs.views.items():
    if view['source'] == 'unlabeled' and splits.unlabeled is None:
      raise UserError(
        f'There are no unlabeled images, of which the view {name!r} is made; give some as '
        f'--config.data.unlabeled=..., or take the view and its methods away.'
      )
  # Images are [*space, C]: 2 axes of space, or 3 in volumes.
  axes = splits.labeled[0]['image'].ndim - 1
  if len(inputs.crop_size) != axes:
    sentence = (
      f'crop_size={inputs.crop_size} has {len(inputs.crop_size)} sides, and the images have {axes}.'
    )
    # With volumes both are possible, and one field decides.
    if axes == 3:
      sentence += ' Networks of two dimensions learn from slices: data.slices=True.'
    elif splits.preprocessing is not None:
      sentence += ' They are slices of volumes (data.slices).'
    raise UserError(sentence)


def check_truth(splits: Splits) -> None:
  """Checks that the masks to learn from, and those to be scored by, have a pixel with a class.

  Raises:
    UserError: naming the split in which every pixel is unknown.
  """
  if splits.task != MASKS:
    return
  for name, source in {'labeled': splits.labeled, **held_out(splits)}.items():
    # As a rule the first mask already answers.
    known = ((np.asarray(source[i]['label']) != IGNORE).any() for i in range(len(source)))
    if not any(known):
      raise UserError(
        f'Every pixel of the {len(source)} {name} masks is {IGNORE}, which means unknown, so there '
        f'is nothing to {"learn from" if name == "labeled" else "score"}; draw some of them.'
      )


def check_streams(spec: StageSpec) -> None:
  """Checks that streams of what earlier stages made, and batch sizes, are given together.

  Raises:
    UserError: if one lacks the other, or a number of the replay buffer makes no sense.
  """
  batch = spec.settings.batch
  stage_kwargs = spec.stage_kwargs
  where = f'stages.{spec.name}'
  replay = stage_kwargs.get('replay', {})
  # The stream 'pseudo' is filled either by stages that wrote masks or from a replay buffer.
  has_pseudo_labels = bool(stage_kwargs.get('pseudo')) or 'pseudo' in replay
  if ('pseudo' in batch) != has_pseudo_labels:
    raise UserError(f'{where}: pseudo (stages that wrote masks) and batch.pseudo need each other.')
  for name in replay:
    # Streams of the data set itself cannot be replaced by a buffer.
    if name not in batch or name in ('labeled', 'unlabeled'):
      raise UserError(f'{where}: replay={name} is a stream of its own and needs batch.{name}.')
  if stage_kwargs.get('buffer', 1) < 1 or not 0 <= stage_kwargs.get('renew', 0) <= 1:
    raise UserError(f'{where}: buffer is at least 1 pair, and renew a probability in 0..1.')


class StageOutputs(NamedTuple):
  """Folders of earlier stages that a training reads streams from."""

  pseudo: Sequence[Path] = ()  # stages that wrote masks for unlabeled images
  replay: Mapping[str, Path] = NOTHING  # by stream, stages that wrote pairs of image and mask
  buffer: int = 64  # pairs in the replay buffer
  renew: float | int = 0.02  # probability that a draw takes a new pair into it


def stage_sources(
  outputs: StageOutputs, seeds: Seeds, splits: Splits, seed: int, draw_seed: int, draws: Mapping
) -> dict[str, Source]:
  """Returns the sources that earlier stages made for a seed, by the name of their stream.

  Args:
    outputs: where they lie.
    seeds: the seeds of the run, which say how the folders are named.
    splits: the data set, whose unlabeled images got pseudo-labels.
    seed: the number of the seed.
    draw_seed: seed of the replay buffer's draws; other members of an ensemble have others.
    draws: number of images that the training draws from each stream.
  """

  def folder_of_seed(stage: Path) -> Path:
    # Seeds are kept apart through all stages: seed 1 learns from the pseudo-labels of seed 1.
    return run_folder.folders_of_seeds(seeds, stage)[seed]

  sources: dict[str, Source] = {}
  if outputs.pseudo:
    unlabeled = required(splits.unlabeled, 'Pseudo-labels belong to unlabeled images: give some.')
    folders = [folder_of_seed(stage) for stage in outputs.pseudo]
    sources['pseudo'] = PseudoLabeled(unlabeled, folders)
  for name, stage in outputs.replay.items():
    sources[name] = ReplayBuffer(
      StoredPairs(folder_of_seed(stage)),
      outputs.buffer,
      outputs.renew,
      draws[name],
      stream.stream_seed(draw_seed, f'replay {name}'),
    )
  return sources


def keep_stats(folder: Path, stats: DatasetStats) -> None:
  """Writes data.json, or checks it, so that a training goes on with the data that it began with.

  Raises:
    UserError: if the data have changed since the training in this folder began.
  """
  path = folder / run_folder.STATS
  # As a later process will read it: tuples have become lists.
  now = json.loads(json.dumps(stats._asdict()))
  # Before the first step or checkpoint nothing depends on the old data yet.
  if not path.exists() or not has_begun(folder):
    replace_text(path, json.dumps(now, indent=1))
    return
  remedy = 'delete it, and the same command writes it again'
  then = read_json(path, remedy)
  for key, value in now.items():
    # A run of an earlier version does not say of what kind its images were.
    if key == 'kind' and key not in then:
      continue
    # Runs of earlier versions lack fields that were added since; those have their defaults.
    before = then.get(key, DatasetStats._field_defaults.get(key))
    if before != value:
      raise UserError(
        f'The data of {folder} have changed since its training began: {key} was {before}, '
        f'now it is {value}; restore the images or start in a new --workdir.'
      )
