"""What stages ask of the networks that earlier stages trained, one or several to be averaged."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_jax import run_folder
from ssl_jax.errors import UserError
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Learning
from ssl_jax.types import TrainState, Variables


def names_of(stages: str | Sequence[str]) -> Sequence[str]:
  """Returns the names of stages, of which a config may give one without a tuple."""
  return (stages,) if isinstance(stages, str) else stages


def trained_stages(stage: Path) -> list[Path]:
  """Returns the folders of the trainings that a stage is about: itself, or those it scores."""
  # A `score` stage says in the page which trainings it is of; a training has no such argument.
  named = run_folder.stage_entry(stage).get('of', stage.name)
  return [stage.parent / name for name in names_of(named)]


def same_seeds(first: StageSpec, second: StageSpec) -> bool:
  """Returns whether two stages have the same seeds, so that one can read the other's."""
  one, other = first.settings, second.settings
  return (one.seed, one.num_seeds, one.redraw) == (other.seed, other.num_seeds, other.redraw)


def check_members(spec: StageSpec, earlier: Mapping[str, StageSpec]) -> None:
  """Checks that the networks of the stages `of` can be averaged, seed by seed.

  Raises:
    UserError: if there are none, they have other seeds, or several of them find clusters.
  """
  where = f'stages.{spec.name}'
  names = names_of(spec.stage_kwargs['of'])
  if not names:
    raise UserError(f'{where}: of names no stage; give one, or several to be averaged.')
  for name in names:
    # Members are averaged seed by seed, so that the seeds stay independent of each other.
    if not same_seeds(spec, earlier[name]):
      raise UserError(f'{where}: {name} has other seeds; an ensemble is of one seed.')
    # Cluster 3 of one network need not be cluster 3 of another.
    if len(names) > 1 and earlier[name].settings.match:
      raise UserError(f'{where}: {name} finds clusters, which cannot be averaged.')


def predicting_weights(learning: Learning, state: TrainState) -> Variables:
  """Returns the weights that a trained network predicts with: the student's, or their average."""
  # `ema` is None in a training that keeps no average.
  if learning.teacher == 'ema' and state.ema is not None:
    return state.ema
  return state.student
