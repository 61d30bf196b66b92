"""Networks that a run has trained, found again by their folders.

A network is rebuilt from its settings without its methods, so a run that used a method which is
no longer there still predicts.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from ssl_jax import build, parallel, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference import cluster_matching, sliding_window
from ssl_jax.inference.averaging import average
from ssl_jax.inference.images import ImagePredictor
from ssl_jax.parsing import parse_settings
from ssl_jax.settings import Inputs, Learning, Match, Settings
from ssl_jax.training.checkpoint import Checkpoints, DamagedCheckpoint
from ssl_jax.types import Learner, PredictFn, TrainState


def state_predict_fn(
  predict: Callable, state: TrainState, crop_size: Sequence[int], multiple: int = 1
) -> PredictFn:
  """The predictions of a state; for volumes in windows of the size that it was trained on.

  `multiple` is that of the sides of the network (Learner.multiple).
  """
  # The compiled function takes the state as an argument, so that it serves all seeds.
  predict_fn = functools.partial(predict, state)
  if len(crop_size) == 3:
    return sliding_window.WindowedPredictor(predict_fn, crop_size)
  return ImagePredictor(predict_fn, multiple)


def build_network(settings: Settings, stats: DatasetStats) -> Learner:
  """The learner of a training stage, as far as restoring and predicting need it."""
  learning, inputs = settings.part(Learning), settings.part(Inputs)
  # Methods matter for updates only.
  return build.learner(learning, inputs, settings.steps, stats, methods=False)


def build_gan(settings: Settings, stats: DatasetStats) -> Learner:
  """The learner of a `train_gan` stage, whose predictions are generated images."""
  if settings.gan is None:
    raise UserError('The config has no `gan`; configs/gan_self_training_em.py shows one.')
  learning, inputs = settings.part(Learning), settings.part(Inputs)
  return build.gan_learner(settings.gan, learning, inputs, settings.steps, stats)


class TrainedNetwork:
  """The network of a training stage; compiled once for all states that it is asked for.

  `make` builds its learner from settings and statistics of the data.
  """

  def __init__(
    self,
    settings: Settings,
    stats: DatasetStats,
    make: Callable[[Settings, DatasetStats], Learner] = build_network,
  ):
    learner = make(settings, stats)
    example = np.zeros((1, *settings.crop_size, stats.channels), np.float32)
    # The key does not matter: of the fresh weights only shapes, dtypes and placement are used.
    self._init = functools.partial(parallel.jit_init(learner.init), jax.random.key(0), example)
    self._predict = parallel.jit_predict(learner.predict)
    self._crop_size = settings.crop_size
    self._multiple = learner.multiple
    # Whether the head finds clusters, which mean no class by themselves.
    self._matched = settings.match is not None

  def predict_fn(self, folder: Path, step: int | str = 'last') -> tuple[PredictFn, int]:
    """The predict function of a checkpoint of the seed in `folder`, and its step.

    `step` may be 'last', or what `checkpoint` may be, of those that were kept. Where the network
    finds clusters, they are the classes to which the end of the training matched them.

    Raises:
      UserError: if there is no such checkpoint.
    """
    predict_fn, number = self.cluster_predict_fn(folder, step)
    if self._matched:
      predict_fn = cluster_matching.as_classes(predict_fn, cluster_matching.read_table(folder))
    return predict_fn, number

  def cluster_predict_fn(self, folder: Path, step: int | str = 'last') -> tuple[PredictFn, int]:
    """As predict_fn, with clusters left as they are."""
    state = self.state(folder, step)
    predict_fn = state_predict_fn(self._predict, state, self._crop_size, self._multiple)
    return predict_fn, int(state.step)

  def state(self, folder: Path, step: int | str = 'last') -> TrainState:
    """The whole state of a checkpoint.

    Raises:
      UserError: if there is no such checkpoint, or it is of another network.
    """
    # Read only: the run may still be training.
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)
    # 'last' or 'best' -> a step.
    number = checkpoints.find(step)
    # No checkpoint holds the normalization, which is that of the seed's own images.
    fresh = self._init(run_folder.read_stats(folder).normalization())
    try:
      state = None if number is None else checkpoints.restore(fresh, number)
    except DamagedCheckpoint as error:
      raise UserError(
        f'{error}; {_remedy(folder, last=number == checkpoints.find("last"))}.'
      ) from error
    if state is None:
      raise UserError(f'{folder} holds no checkpoint of its {step} step; has it got that far?')
    return state


def _remedy(folder: Path, last: bool) -> str:
  """What to do about a damaged checkpoint, as the end of a sentence."""
  if last:
    done = run_folder.done_files(folder)
    return f'delete {done}, and the command of the run trains on from the checkpoint before'
  # Training would go on from a later one, and never come to this step again.
  return f'delete {folder} as a whole, and the command of the run trains it again'


class Ensemble:
  """Networks of several training stages of one run, averaged seed by seed."""

  def __init__(self, run: Path, stages: str | Sequence[str]):
    # One stage is an ensemble of one.
    stages = (stages,) if isinstance(stages, str) else stages
    self._folders = [run / stage for stage in stages]
    self.settings = [run_folder.read_settings(folder) for folder in self._folders]
    # By config, see _network.
    self._networks: dict[str, TrainedNetwork] = {}

  def seeds(self) -> list[int]:
    """The seeds that each of the stages has trained."""
    # Those of the first: stages with other seeds cannot be averaged (see check_members).
    return list(run_folder.folders_of_seeds(self.settings[0], self._folders[0]))

  def members(self, seed: int) -> list[Path]:
    """The folders of the networks of a seed."""
    pairs = zip(self.settings, self._folders, strict=True)
    return [run_folder.folders_of_seeds(settings, folder)[seed] for settings, folder in pairs]

  def stats(self, seed: int) -> DatasetStats:
    """The statistics of the data when they were trained."""
    # All of them were trained on the same data; the first stands for all.
    return run_folder.read_stats(self.members(seed)[0])

  def predict_fn(self, seed: int, checkpoint: str | None = None) -> tuple[PredictFn, int]:
    """The mean of their predictions, and the step of the first; `checkpoint` replaces their own.

    Raises:
      UserError: if there is no such checkpoint.
    """
    members = []
    for settings, folder in zip(self.settings, self.members(seed), strict=True):
      network = self._network(settings, folder)
      # Each stage names the checkpoint that it predicts with.
      members.append(network.predict_fn(folder, checkpoint or settings.checkpoint))
    if len(members) == 1:
      return members[0]
    return average([predict_fn for predict_fn, _ in members]), members[0][1]

  def cluster_predict_fn(self, seed: int, checkpoint: str, match: Match) -> tuple[PredictFn, int]:
    """The predictions of the first through the head of `match`, with its clusters as they are.

    Raises:
      UserError: if there is no such checkpoint.
    """
    folder = self.members(seed)[0]
    # These replace the stage's own settings of matching, if it has any.
    settings = _with_match(self.settings[0], match)
    return self._network(settings, folder).cluster_predict_fn(folder, checkpoint)

  def _network(self, settings: Settings, folder: Path) -> TrainedNetwork:
    """Compiled once for members of one config."""
    # Settings hold dicts and cannot be hashed; their JSON can.
    key = json.dumps(parse_settings.to_dict(settings))
    if key not in self._networks:
      self._networks[key] = TrainedNetwork(settings, run_folder.read_stats(folder))
    return self._networks[key]


def _with_match(settings: Settings, match: Match) -> Settings:
  tree: Mapping = parse_settings.to_dict(settings)
  return parse_settings.parse({**tree, 'match': {'head': match.head, 'how': match.how}})
