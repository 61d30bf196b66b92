"""Orbax, in one place: what is saved, how many are kept, and how a run finds its way back."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from ssl_jax.errors import UserError
from ssl_jax.types import TrainState

SELECTABLE = {
  'best': ('val/score', 1),
  'best_supervised': ('val/loss_supervised', -1),
  'best_total': ('val/loss', -1),
}
"""What `select` may ask for beside 'last': the figure on validation images, and whether more (1) or
less (-1) of it is better. The score is the headline of the task (metrics.PRIMARY_METRIC)."""
_SIGNS = dict(SELECTABLE.values())


class Checkpoints:
  """The checkpoints of one run folder: the latest `keep`, and the best on validation images.

  `best` are figures of SELECTABLE of which the checkpoint with the best is kept. Those of the steps
  `always` are never deleted. `read_only` leaves a folder as it is, to look at a run that may still
  be training.
  """

  def __init__(
    self,
    folder: str | Path,
    keep: int = 2,
    best: Sequence[str] = (),
    always: Sequence[int] = (),
    read_only: bool = False,
  ):
    kept = [policies.LatestN(n=keep), policies.CustomSteps(always)]
    for figure in best:
      kept.append(policies.BestN(get_metric_fn=_signed(figure), n=1))
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policies.AnyPreservationPolicy(kept),
      best_fn=_signed(best[0]) if best else None,
      cleanup_tmp_directories=not read_only,  # a kill during a save leaves one
      create=not read_only,
      read_only=read_only,
      enable_async_checkpointing=True,
    )
    self.manager = ocp.CheckpointManager(Path(folder).resolve(), options=options)

  def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
    """Starts to write the state; training may go on at once, the copy belongs to the save."""
    step = int(state.step)
    if step not in self.manager.all_steps():
      copy = jax.tree.map(jnp.copy, state)  # the step donates its input: do not share buffers
      self.manager.save(step, args=ocp.args.StandardSave(copy), metrics=metrics, force=True)

  def find(self, step: int | str) -> int | None:
    """The number of a kept step, 'last', or one of SELECTABLE; None where there is none."""
    if step in SELECTABLE:
      figure, sign = SELECTABLE[step]
      scored = {n: self.manager.metrics(n) or {} for n in self.steps()}
      scored = {n: sign * scores[figure] for n, scores in scored.items() if figure in scores}
      return max(scored, key=scored.get) if scored else None
    if step == 'last':
      return self.manager.latest_step()
    return step if step in self.steps() else None

  def steps(self) -> set[int]:
    """The steps of which there is a checkpoint."""
    return set(self.manager.all_steps())

  def drop_after(self, step: int) -> None:
    """Deletes the checkpoints of later steps."""
    for later in self.steps():
      if later > step:
        self.manager.delete(later)

  def restore(self, like: TrainState, step: int | None = None) -> TrainState | None:
    """The state of a step (None: the latest), placed like `like`; None where there is none."""
    step = self.manager.latest_step() if step is None else step
    if step is None:
      return None
    try:
      return self.manager.restore(step, args=ocp.args.StandardRestore(like))
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f'The checkpoint {self.manager.directory}/{step} does not fit this network '
        f'({str(error).splitlines()[0][:200]}); was the run made by another version or config?'
      ) from error

  def close(self) -> None:
    """Waits until everything is on disk."""
    self.manager.wait_until_finished()
    self.manager.close()


def _signed(figure: str) -> Callable[[Mapping[str, float]], float]:
  return lambda metrics: _SIGNS[figure] * metrics[figure]
