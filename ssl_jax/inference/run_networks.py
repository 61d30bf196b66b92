"""The networks that a run, a stage or a seed's folder predicts with: by default all seeds."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax import registry, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference.averaging import AS_IS, Copy, average
from ssl_jax.inference.images import ImagePredictor
from ssl_jax.inference.sliding_window import WindowedPredictor
from ssl_jax.inference.trained_networks import TrainedNetwork
from ssl_jax.parsing import parse_settings
from ssl_jax.settings import Inputs, Settings
from ssl_jax.training.checkpoint import Checkpoints
from ssl_jax.types import PredictFn

SAME = ('classes', 'channels', 'task', 'scale', 'preprocessing')
"""What networks must have in common to be averaged, of DatasetStats."""


class Member(NamedTuple):
  """A trained network."""

  settings: Settings
  folder: Path
  seed: int
  stats: DatasetStats  # of its own training data


class Networks(NamedTuple):
  """Networks whose predictions are averaged."""

  members: Sequence[Member]
  stats: DatasetStats  # as which images are read for all of them
  notes: Sequence[str]  # sentences on networks that are left out

  @property
  def settings(self) -> Settings:
    """Of the first."""
    return self.members[0].settings

  def predict_fn(
    self, copies: Sequence[Copy] = (AS_IS,), spread: bool = False
  ) -> tuple[PredictFn, list[str]]:
    """Returns the mean prediction (see `average`), and a sentence for each unfinished training.

    Raises:
      UserError: if a network has not got as far as the checkpoint that it predicts with.
    """
    single, notes = predict_fns_of(self.members)
    predict_fns = [
      _of_own_intensity(predict_fn, member.stats, self.stats)
      for predict_fn, member in zip(single, self.members, strict=True)
    ]
    if len(predict_fns) == 1 and tuple(copies) == (AS_IS,) and not spread:
      return predict_fns[0], notes
    return average(predict_fns, copies, spread), notes

  def digest(self) -> str:
    """Returns what two choices have in common only if their networks predict the same.

    It follows from settings, data and steps, not from where the run lies.
    """
    known: list[Any] = []
    for member in self.members:
      tree = parse_settings.to_dict(member.settings)
      # Where the data lie does not matter; what they are is among the statistics.
      del tree['data']
      steps = Checkpoints(member.folder / 'checkpoints', read_only=True).steps()
      known.append([member.folder.name, tree, member.stats._asdict(), sorted(steps)])
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def find(run: Path, seed: int | None = None) -> Networks:
  """Finds the networks of a run (of its last training), a stage, or a seed's folder.

  Of a stage that scored several trainings they are those of all of these.

  Args:
    run: the folder.
    seed: the only one to take; None: all that have been trained.

  Raises:
    UserError: if it holds no trained network, or not that of the seed.
  """
  members, untrained = members_of(run, seed)
  if not members:
    raise UserError(f'{run} holds no trained network yet; has its training begun?')
  notes = []
  if untrained:
    numbers = ', '.join(map(str, sorted(set(untrained))))
    notes.append(f'no network has been trained yet for the seeds {numbers} of {run}')
  return _alike(members, notes)


def members_of(run: Path, seed: int | None = None) -> tuple[list[Member], list[int]]:
  """Returns all trained networks that `find` chooses from, and the seeds that have none yet.

  Raises:
    UserError: if the folder holds no run, or not this seed.
  """
  # The run may have been made elsewhere, so its folder of plug-ins need not exist here.
  plugins = run_folder.plugins_of(run)
  if plugins and Path(plugins).is_dir():  # most predictions need none: a network alone is built
    registry.add_plugins(plugins)
  # A `score` stage has no checkpoints of its own: the networks are those of the stages it scored.
  entry = run_folder.stage_entry(run)
  if entry.get('run') == 'score':
    of = entry['of']
    stages = [run.parent / name for name in ((of,) if isinstance(of, str) else of)]
  else:
    stages = [_training(run)]
  members, untrained = [], []
  for stage in stages:
    for number, folder in _chosen(stage, seed).items():
      # Written when training begins, with the mean and deviation by which images are normalized.
      if (folder / run_folder.STATS).exists() and (folder / 'checkpoints').is_dir():
        stats = run_folder.read_stats(folder)
        members.append(Member(run_folder.read_settings(folder), folder, number, stats))
      else:
        untrained.append(number)
  return members, untrained


def predict_fns_of(members: Sequence[Member]) -> tuple[list[PredictFn], list[str]]:
  """Returns the predict function of each network, and a sentence for each unfinished training.

  Each takes images in the range of intensity of its own training.

  Raises:
    UserError: if a network has not got as far as the checkpoint that it predicts with.
  """
  compiled: dict[str, TrainedNetwork] = {}
  predict_fns, notes = [], []
  for member in members:
    # Compiled once for the seeds of a stage.
    key = json.dumps(parse_settings.to_dict(member.settings))
    if key not in compiled:
      compiled[key] = TrainedNetwork(member.settings, member.stats)
    checkpoint = member.settings.checkpoint
    predict_fn, step = compiled[key].predict_fn(member.folder, checkpoint)
    # A run that is still training can predict with its latest checkpoint, but should say so.
    if checkpoint == 'last' and step < member.settings.steps:
      steps = member.settings.steps
      notes.append(f'the network in {member.folder} was trained for {step} of {steps} steps')
    predict_fns.append(predict_fn)
  return predict_fns, notes


def has_turned(settings: Settings) -> bool:
  """Whether a training saw its images turned by a quarter or more, so that no side is up."""
  return any(
    view.get('quarter_turns', 0) > 0 or view.get('rotate', 0) >= 90
    for view in settings.part(Inputs).views.values()
  )


def _training(run: Path) -> Path:
  """The folder of the training that `run` is about: of a seed, or of a stage."""
  folder = run_folder.network_folder(run)
  # A seed of several lies in the folder of its stage, unless it is what was asked for.
  return folder if folder == run or run_folder.read_page(folder) is not None else folder.parent


def _chosen(stage: Path, seed: int | None) -> dict[int, Path]:
  """The folders of the seeds of a stage; of a seed's own folder that one."""
  settings = run_folder.read_settings(stage)
  if run_folder.read_page(stage) is None:  # the folder of one of several seeds
    folders = {int(stage.name.removeprefix('seed_')): stage}
  else:
    folders = run_folder.folders_of_seeds(settings, stage)
  if seed is None:
    return folders
  if seed not in folders:
    numbers = ', '.join(map(str, folders))
    raise UserError(f'--seed={seed}: {stage} has the seeds {numbers}; give one of these.')
  return {seed: folders[seed]}


def _alike(members: Sequence[Member], notes: Sequence[str]) -> Networks:
  """The networks that can be averaged with the first one, and what images are read as."""
  first = members[0]
  kept = [member for member in members if _can_join(member.stats, first.stats)]
  left_out = [str(member.folder) for member in members if member not in kept]
  if left_out:
    notes = [
      *notes,
      f'left out, because they saw other classes or images of another kind or size than '
      f'{first.folder}: {", ".join(left_out)}',
    ]
  return Networks(kept, _shared([member.stats for member in kept]), notes)


def _can_join(stats: DatasetStats, first: DatasetStats) -> bool:
  """Whether a network can be shown what the first one is shown."""
  alike = all(getattr(stats, name) == getattr(first, name) for name in SAME)
  same_kind = (stats.instances is None) == (first.instances is None)
  return alike and same_kind and np.shape(stats.intensity) == np.shape(first.intensity)


def _shared(every: Sequence[DatasetStats]) -> DatasetStats:
  """Statistics by which one image is read for all networks.

  Seeds may have drawn other labeled images, and so have found other ranges of intensity and sizes
  of instances.
  """
  shared = every[0]
  if shared.intensity is not None:
    # [networks, 2] or [networks, C, 2]: the lowest and the highest values of all.
    ranges = np.array([stats.intensity for stats in every], float)
    widest = np.stack([ranges[..., 0].min(0), ranges[..., 1].max(0)], -1).tolist()
    shared = shared._replace(intensity=parse_settings.tuples(widest))
  if shared.instances is not None:
    sizes = [stats.instances['min_size'] for stats in every if stats.instances is not None]
    shared = shared._replace(instances={'min_size': float(np.median(sizes))})
  if shared.kind is not None:
    kinds = [stats.image_kind() for stats in every]
    union = {
      name: tuple(sorted({value for kind in kinds for value in getattr(kind, name)}))
      for name in ('dtypes', 'layouts')
    }
    shared = shared._replace(kind={**shared.kind, **union})
  return shared


def _of_own_intensity(predict_fn: PredictFn, own: DatasetStats, shared: DatasetStats) -> PredictFn:
  """A predict function of images in the shared range of intensity, in place of its own."""
  if own.intensity == shared.intensity or own.intensity is None:
    return predict_fn
  # [1, 2] or [C, 2]
  low, high = np.asarray(shared.intensity, np.float32).reshape(-1, 2).T
  own_low, own_high = np.asarray(own.intensity, np.float32).reshape(-1, 2).T

  def rescaled(inner: PredictFn) -> PredictFn:
    def predict(images: np.ndarray) -> Any:
      raw = images * (high - low) + low
      return inner(np.clip((raw - own_low) / (own_high - own_low), 0, 1))

    return predict

  # Inside of what says how large images are cut and padded.
  if isinstance(predict_fn, (ImagePredictor, WindowedPredictor)):
    return predict_fn._replace(predict_fn=rescaled(predict_fn.predict_fn))
  return rescaled(predict_fn)
