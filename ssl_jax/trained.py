"""Networks that a run has trained, found again by their folders."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np

from ssl_jax import build, clusters, data, parallel
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.inference import Probabilities
from ssl_jax.types import TrainState, UserError


def read_config(folder: Path) -> dict | None:
  """The config of a training stage, from its folder or that of one of its seeds."""
  paths = (folder / 'config.json', folder.parent / 'config.json')
  path = next((path for path in paths if path.exists()), None)
  return None if path is None else build.tuples(json.loads(path.read_text()))


class Network:
  """The network of a config; compiled once for all the states it is asked for."""

  def __init__(self, config: Mapping, facts: data.Facts):
    learner = build.learner(config, facts)
    example = np.zeros((1, *config['size'], facts.channels), np.float32)
    self._init = functools.partial(parallel.jit_init(learner.init), jax.random.key(0), example)
    self._predict = parallel.jit_predict(learner.predict)
    self._matched = bool(config.get('match'))

  def at(self, folder: Path, step: int | str = 'last') -> tuple[Probabilities, int]:
    """What it says after a step of the seed in `folder`, and that step.

    `step` may be 'last', or what `select` may be, of those that were kept. Where the network finds
    clusters, they are those classes to which the end of the training gave them.
    """
    answer, number = self.plain(folder, step)
    if self._matched:
      answer = clusters.named(answer, clusters.read(folder))
    return answer, number

  def plain(self, folder: Path, step: int | str = 'last') -> tuple[Probabilities, int]:
    """The same with clusters left as they are."""
    state = self.state(folder, step)
    return functools.partial(self._predict, state), int(state.step)

  def state(self, folder: Path, step: int | str = 'last') -> TrainState:
    """All that was kept of that step."""
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)
    number = checkpoints.find(step)
    if number is None:
      raise UserError(f'{folder} holds no checkpoint of its {step} step; has it got that far?')
    return checkpoints.restore(self._init(), number)
