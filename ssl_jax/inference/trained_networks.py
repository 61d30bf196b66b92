"""Networks that a run has trained, found again by their folders."""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from ssl_jax import build, parallel
from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.inference import cluster_matching, sliding_window
from ssl_jax.training.checkpoint import Checkpoints
from ssl_jax.types import Learner, PredictFn, TrainState


def read_config(folder: Path) -> dict | None:
  """The config of a training stage, from its folder or that of one of its seeds."""
  paths = (folder / 'config.json', folder.parent / 'config.json')
  path = next((path for path in paths if path.exists()), None)
  return None if path is None else build.tuples(json.loads(path.read_text()))


def state_predict_fn(predict: Callable, state: TrainState, size: Sequence[int]) -> PredictFn:
  """What the network of a state says; of volumes in windows of the `size` that it learns from."""
  answer = functools.partial(predict, state)
  return sliding_window.Windowed(answer, size) if len(size) == 3 else answer


def _mean(answers: Sequence[PredictFn]) -> PredictFn:
  """What several say on average; of volumes window by window where all take the same windows."""
  windows = {getattr(answer, 'window', None) for answer in answers}
  if len(windows) == 1 and None not in windows:
    return answers[0]._replace(answer=_mean([answer.answer for answer in answers]))
  return lambda images: np.mean([answer(images) for answer in answers], 0)


class Network:
  """The network of a config; compiled once for all the states it is asked for.

  `build_learner` makes the learner of config and facts.
  """

  def __init__(
    self,
    config: Mapping,
    facts: dataset_stats.DatasetStats,
    build_learner: Callable[[Mapping, dataset_stats.DatasetStats], Learner] = build.learner,
  ):
    learner = build_learner(config, facts)
    example = np.zeros((1, *config['size'], facts.channels), np.float32)
    self._init = functools.partial(parallel.jit_init(learner.init), jax.random.key(0), example)
    self._predict = parallel.jit_predict(learner.predict)
    self._size = config['size']
    self._matched = bool(config.get('match'))

  def at(self, folder: Path, step: int | str = 'last') -> tuple[PredictFn, int]:
    """What it says after a step of the seed in `folder`, and that step.

    `step` may be 'last', or what `select` may be, of those that were kept. Where the network finds
    clusters, they are those classes to which the end of the training gave them.
    """
    answer, number = self.plain(folder, step)
    if self._matched:
      answer = cluster_matching.as_classes(answer, cluster_matching.read(folder))
    return answer, number

  def plain(self, folder: Path, step: int | str = 'last') -> tuple[PredictFn, int]:
    """The same with clusters left as they are."""
    state = self.state(folder, step)
    return state_predict_fn(self._predict, state, self._size), int(state.step)

  def state(self, folder: Path, step: int | str = 'last') -> TrainState:
    """All that was kept of that step."""
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)
    number = checkpoints.find(step)
    if number is None:
      raise UserError(f'{folder} holds no checkpoint of its {step} step; has it got that far?')
    return checkpoints.restore(self._init(), number)


class Ensemble:
  """Networks of several training stages of one run, whose answers are averaged, seed by seed."""

  def __init__(self, run: Path, stages: str | Sequence[str]):
    stages = (stages,) if isinstance(stages, str) else stages
    self._folders = [run / stage for stage in stages]
    self.settings = [read_config(folder) for folder in self._folders]
    self._networks: dict[str, Network] = {}

  def seeds(self) -> list[int]:
    """The seeds that each of the stages has trained."""
    return [*build.folders_of_seeds(self.settings[0], self._folders[0])]

  def members(self, seed: int) -> list[Path]:
    """The folders of the networks of a seed."""
    pairs = zip(self.settings, self._folders, strict=True)
    return [build.folders_of_seeds(own, folder)[seed] for own, folder in pairs]

  def facts(self, seed: int) -> dataset_stats.DatasetStats:
    """What was found in the data when they were trained."""
    return build.read_stats(self.members(seed)[0])

  def at(self, seed: int, select: str | None = None) -> tuple[PredictFn, int]:
    """The mean of what they say, and the steps of the first; `select` replaces their own."""
    said = [
      self._network(own, folder).at(folder, select or own['select'])
      for own, folder in zip(self.settings, self.members(seed), strict=True)
    ]
    if len(said) == 1:
      return said[0]
    return _mean([answer for answer, _ in said]), said[0][1]

  def plain(self, seed: int, select: str, match: Mapping) -> tuple[PredictFn, int]:
    """What the first of them says through the head of a `match`, with its clusters as such."""
    folder, settings = self.members(seed)[0], self.settings[0] | {'match': match}
    return self._network(settings, folder).plain(folder, select)

  def _network(self, settings: Mapping, folder: Path) -> Network:
    """Compiled once for members of one config."""
    key = json.dumps(settings)
    if key not in self._networks:
      self._networks[key] = Network(settings, build.read_stats(folder))
    return self._networks[key]
