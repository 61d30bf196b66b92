"""Stages whose networks are averaged."""

from collections.abc import Mapping
from pathlib import Path

from ssl_jax import build
from ssl_jax.errors import UserError
from ssl_jax.types import StageSpec


def trained_stages(stage: Path) -> list[Path]:
  """The training stages of which a stage speaks: itself, or those that a score stage scores."""
  named = build.own_of(stage).get('of', stage.name)
  return [stage.parent / name for name in ((named,) if isinstance(named, str) else named)]


def check_members(plan: StageSpec, earlier: Mapping[str, StageSpec]) -> None:
  """Raises UserError where the networks of `of` cannot be averaged, or have other seeds."""
  named = plan.own['of']
  names = (named,) if isinstance(named, str) else named
  if not names:
    raise UserError(f'stages.{plan.name}: of names no stage; give one, or several to be averaged.')
  for name in names:
    its = earlier[name].config
    if any(plan.config[knob] != its[knob] for knob in ('seed', 'replicas')):
      raise UserError(f'stages.{plan.name}: {name} has other seeds; an ensemble is of one seed.')
    if len(names) > 1 and its.get('match'):
      raise UserError(f'stages.{plan.name}: {name} finds clusters, which cannot be averaged.')
