"""What a training starts from: random weights, published ones, or those of another training."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util

from ssl_jax import build, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference.trained_networks import TrainedNetwork, build_network
from ssl_jax.io.run_log import read_json, replace_text
from ssl_jax.running import continuation
from ssl_jax.settings import Learning, Model, Seeds, Settings
from ssl_jax.stages.labeling import ensembles
from ssl_jax.training import pretrained, published_weights
from ssl_jax.types import Record, TrainState

RECORD = 'weights.json'
"""File of a stage that tells what its weights began as."""

Load = Callable[[TrainState], TrainState]
"""Puts weights into a fresh state."""


def check(model: Model) -> None:
  """Finds the weights that `model.pretrained` names, before anything has begun.

  Raises:
    UserError: if there are none, or the network has no backbone for them.
  """
  if model.pretrained is None:
    return
  path = pretrained_path(model)
  if path is not None and path.is_dir():
    run_folder.network_folder(path)


def notes(model: Model) -> list[str]:
  """Returns sentences on weights that a run goes without."""
  if model.pretrained != published_weights.IMAGENET:
    return []
  sentence = published_weights.missing(build.backbone_of(model) or '')
  return [sentence] if sentence else []


def pretrained_path(model: Model) -> Path | None:
  """The file, or the folder of a run, that `model.pretrained` means.

  None where none is named, or where it comes in a package that is not installed.

  Raises:
    UserError: if there is no such file or folder, or the network has no backbone.
  """
  if model.pretrained is None:
    return None
  backbone = build.backbone_of(model)
  if model.pretrained == published_weights.IMAGENET:
    if backbone is None:
      raise UserError(
        f"model.pretrained='imagenet': {model.name} has no backbone with such weights; "
        f'unet_efficientnet, unet_resnet, deeplabv3plus and pspnet have one.'
      )
    return published_weights.find(backbone)
  path = Path(model.pretrained.format(backbone=backbone)).expanduser()
  if not path.exists():
    raise UserError(
      f"There is no {path} (model.pretrained); give 'imagenet', a file of weights, or the folder "
      f'of a run.'
    )
  return path


def initializer(
  settings: Settings, folder: Path, init_from: str, stats: DatasetStats
) -> Callable[[int], Load]:
  """Returns, for a seed, what puts the weights that its training starts from into a fresh state.

  Args:
    settings: of the stage.
    folder: of the stage, where RECORD is written.
    init_from: stage of the same run whose predicting weights it starts from; empty: none.
    stats: of the data set.

  Raises:
    UserError: if the weights cannot be read.
  """
  if init_from:
    return _from_stage(settings, folder.parent / init_from, stats)
  path = pretrained_path(settings.model)
  if path is None:
    return lambda seed: lambda state: state
  if path.is_dir():
    return lambda seed: _from_run(path, seed, folder, settings, stats)
  # Read once here, not once per seed.
  arrays = pretrained.read_arrays(path)
  record = {'file': path.name, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
  replace_text(folder / RECORD, json.dumps(record, indent=1))
  return lambda seed: lambda state: pretrained.with_backbone(state, arrays, str(path))


def _from_stage(settings: Settings, stage: Path, stats: DatasetStats) -> Callable[[int], Load]:
  """The weights of the same seed of an earlier stage, which has the same network."""
  before = run_folder.read_settings(stage)
  # Built with the settings of the earlier stage, which its checkpoints fit.
  network = TrainedNetwork(before, stats)
  folders = run_folder.folders_of_seeds(before.part(Seeds), stage)

  def of_seed(seed: int) -> Load:
    def load(fresh: TrainState) -> TrainState:
      state = network.state(folders[seed], before.checkpoint)
      # Only the weights are taken over; optimizer state and step count begin anew.
      return fresh.starting_from(ensembles.predicting_weights(before.part(Learning), state))

    return load

  return of_seed


def _from_run(run: Path, seed: int, folder: Path, settings: Settings, stats: DatasetStats) -> Load:
  """What fits of the network of another run, of the same stage and seed where it has those."""
  network_folder = continuation.network_of(run, folder.name)
  same_seed = network_folder.with_name(f'seed_{seed}')
  if network_folder.name.startswith('seed_') and run != network_folder and same_seed.is_dir():
    network_folder = same_seed
  before = run_folder.read_settings(network_folder)
  stats_before = run_folder.read_stats(network_folder)
  network = TrainedNetwork(before, stats_before)
  seed_folder = run_folder.folders_of_seeds(settings.part(Seeds), folder)[seed]

  def load(fresh: TrainState) -> TrainState:
    state = network.state(network_folder, before.checkpoint)
    weights = ensembles.predicting_weights(before.part(Learning), state)
    said = ''
    anew: set[tuple[str, ...]] = set()
    if stats_before.classes != stats.classes:
      # Outputs of as many classes would fit, and mean something else.
      anew = _head_paths(settings, stats)
      said = (
        f'; its classes are {", ".join(stats_before.classes)}, here {", ".join(stats.classes)}, so '
        f'the head starts anew'
      )
    started, rest = pretrained.with_network(fresh, weights, str(network_folder), anew)
    # What is not taken over matters to whoever reads the result.
    record: dict[str, Any] = {
      'run': str(network_folder),
      'step': int(state.step),
      'random': list(rest),
      'methods': list(before.methods),
    }
    if rest:
      said += f'; {len(rest)} arrays stay random ({", ".join(rest[:3])})'
    print(
      f'Starts from {network_folder}, step {int(state.step)}{said}; steps, optimizer and schedule '
      f'begin anew.'
    )
    if seen := _seen_tests(before, settings, seed, _seed_of(network_folder, before)):
      record['test_images_seen'] = seen
      print(
        f'Scores will be too good: that network learned from {len(seen)} of the test images of '
        f'seed {seed} ({", ".join(seen[:5])}); give test images that it has not seen (data.test).'
      )
    replace_text(seed_folder / RECORD, json.dumps(record, indent=1))
    return started

  return load


def _seed_of(network_folder: Path, settings: Settings) -> int:
  """The number of the seed whose folder this is."""
  name = network_folder.name
  return int(name.removeprefix('seed_')) if name.startswith('seed_') else settings.seed


def _head_paths(settings: Settings, stats: DatasetStats) -> set[tuple[str, ...]]:
  """The arrays of a network whose shape depends on the number of classes."""
  example = np.zeros((1, *settings.crop_size, stats.channels), np.float32)
  shapes = []
  for classes in (stats.classes, (*stats.classes, 'one more')):
    learner = build_network(settings, stats._replace(classes=classes))
    fresh = jax.eval_shape(learner.init, jax.random.key(0), example, stats.normalization())
    flat = traverse_util.flatten_dict(dict(fresh.student))
    shapes.append({path: array.shape for path, array in flat.items()})
  return {path for path, shape in shapes[0].items() if shapes[1].get(path) != shape}


def _seen_tests(before: Settings, now: Settings, seed: int, seed_before: int) -> list[str]:
  """Names of the test images of a seed that are among the labeled ones of an earlier training.

  None where the images of the earlier training are no longer there.
  """
  test = build.splits_of_seed(now, seed).test
  if test is None:
    return []
  try:
    learned = build.splits_of_seed(before, seed_before).labeled
  except (UserError, OSError):
    return []
  known = {_content_hash(learned[i]) for i in range(len(learned))}
  records = [test[i] for i in range(len(test))]
  return [record['name'] for record in records if _content_hash(record) in known]


def _content_hash(record: Record) -> str:
  return hashlib.sha256(np.ascontiguousarray(record['image']).tobytes()).hexdigest()


def beginnings(stage: Path) -> list[dict[str, Any]]:
  """Returns what the networks of a stage began as, where that was another run: RECORD's content."""
  paths = [folder / RECORD for folder in run_folder.seed_folders(stage)]
  remedy = 'restore it, or delete its folder, and the command of the run trains it again'
  records = [read_json(path, remedy) for path in paths if path.exists()]
  return [record for record in records if 'run' in record]


def doubts(stage: Path) -> list[str]:
  """Returns sentences on what a stage's initial networks had seen before, for a verdict."""
  sentences = []
  records = beginnings(stage)
  if seen := sum(len(record.get('test_images_seen', ())) for record in records):
    sentences.append(
      f'{stage.name} started from networks that had learned from {seen} of its test images.'
    )
  methods = {name for record in records for name in record.get('methods', ())}
  # Only what the stage itself does without: a control that is none any more.
  if methods and (others := methods - set(run_folder.read_settings(stage).methods)):
    sentences.append(
      f'{stage.name} started from a network that had been trained with {", ".join(sorted(others))}.'
    )
  return sentences
