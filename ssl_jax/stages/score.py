"""A stage that scores what was trained before: another state or head, or several networks."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssl_jax import build
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation.evaluate import evaluate
from ssl_jax.inference import cluster_matching
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.io.run_log import write_done
from ssl_jax.stages import missing_labels
from ssl_jax.stages.ensembles import check_members
from ssl_jax.stages.seed_scores import keep, mean_over_seeds
from ssl_jax.training.checkpoint import SELECTABLE
from ssl_jax.types import CELLS, MASKS, Splits, StageSpec

INPUT_STAGES = {'of': 'train'}
TASKS = (MASKS, CELLS)


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where the state or the head was not kept, or there is nothing to score."""
  check_members(plan, earlier)
  names, select = plan.own['of'], plan.own.get('select', 'last')
  names = (names,) if isinstance(names, str) else names
  if select not in ('last', *SELECTABLE):
    raise UserError(
      f'stages.{plan.name}: select={select!r} is not one of last, {", ".join(SELECTABLE)}.'
    )
  if found.test is None:
    raise UserError(f'stages.{plan.name} scores test images, and the data hold none out.')
  if select != 'last' and found.val is None:
    raise UserError(f'stages.{plan.name}: select={select!r} needs validation images (data.val).')
  for name in names:
    if 'loss' in SELECTABLE.get(select, [''])[0] and not earlier[name].config.get('watch_losses'):
      raise UserError(f'stages.{plan.name}: let {name} keep them: watch_losses=True.')
  if plan.own.get('match') and len(names) > 1:
    raise UserError(f'stages.{plan.name}: match names the clusters of one stage, not of several.')
  if plan.own.get('train') and found.task == CELLS:
    raise UserError(f'stages.{plan.name}: train=True looks for gaps in masks; these are cells.')


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str | Sequence[str],
  select: str = 'last',
  match: Mapping | None = None,
  train: bool = False,
) -> dict[str, float]:
  """Scores each seed of the training stage `of` on test images, and on val where there are some.

  Several stages are scored as one, by the mean of their probabilities. `select` is the state:
  'last', or one that was best on validation images. `match` (head, how) replaces the config's:
  another head, whose clusters are matched to classes on training images. With `train` the training
  images are scored as well: against their masks (train/...), and, where instances are missing from
  those, against the whole ones (complete/...), with what was found of the missing (removed/...).
  """
  ensemble = Ensemble(folder.parent, of)
  settings = ensemble.settings[0]
  found = build.splits(settings['data'])
  match = match or settings.get('match')
  held_out = {n: s for n, s in (('val', found.val), ('test', found.test)) if s is not None}
  mine, done = build.folders_of_seeds(settings, folder), {}
  for seed, out in mine.items():
    if stop():
      raise Stopped(f'{folder.name}: stopped; the same command begins this stage again.')
    facts = ensemble.facts(seed)
    if match:
      answer, step = ensemble.plain(seed, select, match)
      table = cluster_matching.match_clusters(
        answer, found.labeled, len(found.classes), match['how']
      )
      answer = cluster_matching.as_classes(answer, table)
    else:
      answer, step = ensemble.at(seed, select)
    done[seed] = {'steps': step}
    for name, source in held_out.items():
      scored = evaluate(answer, source, facts.classes, facts.task)
      done[seed] |= keep(scored, out, name, facts.classes)
    if train:
      done[seed] |= missing_labels.score(answer, found, facts, out)
    if len(mine) > 1:
      write_done(out, done[seed])
  if train:
    missing_labels.draw(folder, done, found, mine[min(mine)])
  return mean_over_seeds(done)
