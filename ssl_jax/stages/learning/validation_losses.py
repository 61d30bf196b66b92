"""The losses of a training on validation images, by which a checkpoint may be chosen."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ssl_jax import build, parallel
from ssl_jax.data import stream
from ssl_jax.data.volumes.slice_source import SlicedVolumes
from ssl_jax.settings import Inputs, Settings
from ssl_jax.stages.learning.training_sources import required
from ssl_jax.types import Learner, Splits, TrainState


def validation_losses(
  settings: Settings, learner: Learner, splits: Splits
) -> Callable[[TrainState], dict[str, float]]:
  """Returns what computes the losses on validation images, taken as labeled and as unlabeled."""
  val = required(splits.val, 'watch_losses looks on validation images; give some as data.val.')
  # Volumes that are predicted slice by slice are learned from by slices as well.
  if isinstance(val, SlicedVolumes):
    val = val.slices()
  # All other settings stay, so the losses are those of the training on other images. Seed 0: every
  # state is measured on the same views.
  shown = splits._replace(labeled=val, unlabeled=val)
  streams = build.streams(settings.part(Inputs), shown, 0)
  smallest = min(one.batch for one in streams.values())
  count = -(-len(val) // smallest)  # batches in which every image is shown at least once

  @jax.jit
  def measure(state: TrainState, batch: Any, key: jax.Array) -> Mapping[str, jax.Array]:
    # The updated state is dropped, so no step is taken.
    # Taking only the metrics lets the compiler leave out what is not needed for them.
    return learner.update(state, batch, key)[1]

  def losses(state: TrainState) -> dict[str, float]:
    # One element for each batch: name -> scalar.
    steps: list[Mapping[str, jax.Array]] = []
    for i, batch in enumerate(stream.batches([streams], 0, count)):
      steps.append(measure(state, parallel.shard(batch), jax.random.key(i)))
    means = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
    # The supervised loss may have several terms (cross-entropy, Dice).
    supervised = [value for name, value in means.items() if name.startswith('loss/supervised/')]
    return {'val/loss': means['loss'], 'val/loss_supervised': sum(supervised)}

  return losses
