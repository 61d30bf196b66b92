"""Everything that knows Orbax: what a checkpoint holds, which are kept, and how one is restored."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from ssl_jax.errors import UserError
from ssl_jax.io import terminal
from ssl_jax.io.run_log import replace_text
from ssl_jax.training import checksums
from ssl_jax.types import TrainState

SELECTABLE = {
  'best': ('val/score', 1),
  'best_supervised': ('val/loss_supervised', -1),
  'best_total': ('val/loss', -1),
}
"""What the setting `checkpoint` may ask for beside 'last': a metric on the validation images, and
whether more (1) or less (-1) of it is better. The score is the primary metric of the task."""

SAVED = ('step', 'student', 'ema', 'opt_state')
"""The fields of a state that a checkpoint holds. The normalization lies in the run's data.json."""

CHECKSUMS = 'crc32'
METRICS = 'metrics'
"""What is written into a checkpoint beside its arrays; runs of earlier versions have neither."""

MACHINE_ERRORS = ('RESOURCE_EXHAUSTED', 'PERMISSION_DENIED', 'UNAVAILABLE', 'Out of memory')
"""How TensorStore and XLA name what is no fault of a file."""

_SIGNS = dict(SELECTABLE.values())


class DamagedCheckpoint(UserError):
  """A checkpoint whose files no longer hold what was saved."""


class Checkpoints:
  """The checkpoints of one run folder: the latest, and the best on the validation images.

  Args:
    folder: where they are; it is made if it does not exist.
    keep: how many of the latest are kept.
    best: metrics of SELECTABLE; for each, the checkpoint with the best value is kept.
    always: steps whose checkpoints are never deleted.
    read_only: leaves the folder as it is, to look at a run that may still be training.
  """

  def __init__(
    self,
    folder: str | Path,
    keep: int = 2,
    best: Sequence[str] = (),
    always: Sequence[int] = (),
    read_only: bool = False,
  ):
    # A checkpoint stays if any one of these rules wants it, see AnyPreservationPolicy below.
    kept = [
      policies.LatestN(n=keep),
      policies.CustomSteps(always),
      *(policies.BestN(get_metric_fn=_signed(metric), n=1) for metric in best),
    ]
    options = ocp.CheckpointManagerOptions(
      preservation_policy=policies.AnyPreservationPolicy(kept),
      # Orbax stores metrics only where it has such a function; the rules above decide what is kept.
      best_fn=_signed(best[0]) if best else None,
      cleanup_tmp_directories=not read_only,  # a kill during a save leaves one
      create=not read_only,
      read_only=read_only,
      enable_async_checkpointing=True,
    )
    if best and not read_only:
      _mend_metrics(Path(folder))
    # Orbax refuses relative paths.
    self.manager = ocp.CheckpointManager(Path(folder).resolve(), options=options)

  def save(self, state: TrainState, metrics: Mapping[str, float] | None = None) -> None:
    """Starts to write the state; training may go on at once. A step is saved only once."""
    step = int(state.step)
    if step not in self.manager.all_steps():
      # The next update donates the buffers of its state, so the writer gets a copy of its own.
      copy = jax.tree.map(jnp.copy, _saved(state))
      beside = {CHECKSUMS: checksums.of_tree(copy), METRICS: dict(metrics or {})}
      with self._full_disk_in_a_sentence():
        # The metadata become valid together with the arrays: a kill cannot part them.
        self.manager.save(
          step,
          args=ocp.args.StandardSave(copy),
          metrics=metrics,
          custom_metadata=beside,
          force=True,
        )

  def find(self, step: int | str) -> int | None:
    """Returns the step that a number, 'last' or one of SELECTABLE means; None if it is not kept."""
    if step in SELECTABLE:
      # Ranked by what was stored with each checkpoint, so that the choice needs no log.
      metric, sign = SELECTABLE[step]
      scores = {}
      for kept in self.steps():
        metrics = self._beside(kept).get(METRICS) or self.manager.metrics(kept) or {}
        if metric in metrics:
          scores[kept] = sign * metrics[metric]
      # The keys of `scores` are steps; None if no checkpoint was ever scored.
      return max(scores, key=lambda kept: scores[kept]) if scores else None
    if step == 'last':
      return self.manager.latest_step()
    return step if step in self.steps() else None

  def steps(self) -> set[int]:
    """Returns the steps of which there is a checkpoint."""
    return set(self.manager.all_steps())

  def drop_after(self, step: int) -> None:
    """Deletes the checkpoints of later steps."""
    for later in self.steps():
      if later > step:
        self.manager.delete(later)

  def restore(self, like: TrainState, step: int | None = None) -> TrainState | None:
    """Returns the state of a step (None: the latest), or None if there is no checkpoint.

    Args:
      like: a state whose normalization it gets, and whose shapes, dtypes and placement on devices.
      step: one of `steps()`.

    Raises:
      DamagedCheckpoint: if it is not as it was saved.
      UserError: if the checkpoint is of another network.
    """
    step = self.manager.latest_step() if step is None else step
    if step is None:
      return None
    try:
      # A network of another design shows up here as missing keys or other shapes.
      restored: Any = self.manager.restore(step, args=ocp.args.StandardRestore(_saved(like)))
    except Exception as error:  # of a damaged file any, from Orbax, TensorStore or JSON
      raise self._refusal(step, like, error) from error
    stored = self._beside(step).get(CHECKSUMS)
    if stored and (name := checksums.first_difference(stored, restored)):
      # Of another type than the network's an array was converted, and its bytes are others.
      raise self._refusal(step, like, TypeError(f'{name} is of another type'))
    return like.replace(**restored)

  def _refusal(self, step: int, like: TrainState, error: Exception) -> Exception:
    """What to raise for a checkpoint that was not restored: it is damaged, or does not fit."""
    where = f'The checkpoint {self.manager.directory}/{step}'
    # What is called damaged is trained again and deleted: a lack of memory must not lead there.
    if _is_of_the_machine(error):
      return error
    try:
      arrays = self._arrays(step)
    except Exception as unreadable:  # as in `restore`
      if _is_of_the_machine(unreadable):
        return unreadable
      return DamagedCheckpoint(f'{where} is damaged: it cannot be read')
    stored = self._beside(step).get(CHECKSUMS)
    if stored and (name := checksums.first_difference(stored, arrays)):
      return DamagedCheckpoint(f'{where} is damaged: {name} is not what was saved')
    if checksums.layout(arrays) == checksums.layout(_saved(like)):
      # The arrays are there and fit, so that it is what Orbax keeps about them.
      return DamagedCheckpoint(f'{where} is damaged: it cannot be restored')
    first = (str(error).splitlines() or [''])[0][:200]
    return UserError(
      f'{where} does not fit this network ({first}); was the run made by another version or config?'
    )

  def _arrays(self, step: int) -> Any:
    """The arrays of a checkpoint as they are on disk, whatever the network and the devices."""
    path = Path(str(self.manager.directory)) / str(step) / 'default'
    with ocp.PyTreeCheckpointer() as reader:
      tree: Any = reader.metadata(path).item_metadata.tree
      kinds = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
      return reader.restore(path, ocp.args.PyTreeRestore(restore_args=kinds))

  def _beside(self, step: int) -> dict[str, Any]:
    """What `save` wrote beside the arrays; empty where there is nothing that can be read."""
    try:
      return dict(self.manager.metadata(step).custom_metadata or {})
    except Exception:  # a damaged file of metadata; the arrays may be whole
      return {}

  def close(self) -> None:
    """Waits until everything is on disk."""
    # Saving is asynchronous: without waiting, the process could end in the middle of the last save.
    with self._full_disk_in_a_sentence():
      self.manager.wait_until_finished()
      self.manager.close()

  @contextlib.contextmanager
  def _full_disk_in_a_sentence(self) -> Iterator[None]:
    """Turns what a full disk raises, here or in a save that was under way, into a UserError."""
    try:
      yield
    except Exception as error:
      if not terminal.is_disk_full(error):
        raise
      raise UserError(
        f'{self.manager.directory} cannot be written: the disk is full; the checkpoints before are '
        f'whole: free some space, and the same command resumes from the last one.'
      ) from error


def _mend_metrics(folder: Path) -> None:
  """Replaces metrics that are not those of their checkpoint's own copy; Orbax reads all at once.

  Raises:
    DamagedCheckpoint: if both are damaged.
  """
  for path in sorted(folder.glob('[0-9]*/metrics/metrics')):
    step_folder = path.parents[1]
    stored = _parsed(step_folder / '_CHECKPOINT_METADATA').get('custom_metadata') or {}
    now = _parsed(path)
    # As text, in which NaN equals itself.
    if METRICS in stored and _text(now) != _text(stored[METRICS]):
      print(f'{path} is damaged; its copy in the checkpoint is used.')
      replace_text(path, json.dumps(stored[METRICS]))
    elif not now:
      raise DamagedCheckpoint(
        f'The checkpoint {step_folder} is damaged: its metrics cannot be read; delete it, and the '
        f'same command resumes from the one before.'
      )


def _text(tree: Any) -> str:
  return json.dumps(tree, sort_keys=True)


def _is_of_the_machine(error: Exception) -> bool:
  """Whether an error says nothing of a file's content, but of memory, rights or the network."""
  if isinstance(error, MemoryError) or (
    isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
  ):
    return True
  return any(word in str(error) for word in MACHINE_ERRORS)


def _parsed(path: Path) -> dict[str, Any]:
  """The JSON of a file; empty where it cannot be read."""
  try:
    tree = json.loads(path.read_bytes())
  except (OSError, ValueError):
    return {}
  return tree if isinstance(tree, dict) else {}


def _saved(state: TrainState) -> dict[str, Any]:
  return {name: getattr(state, name) for name in SAVED}


def _signed(metric: str) -> Callable[[Mapping[str, float]], float]:
  # Orbax keeps the largest value, so that a loss is ranked by its negative.
  return lambda metrics: _SIGNS[metric] * metrics[metric]
