"""A stage that scores another state, or another head, of a network trained before."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ssl_jax import build, clusters
from ssl_jax.checkpoint import SELECTABLE
from ssl_jax.evaluate import evaluate
from ssl_jax.record import write_done
from ssl_jax.stages._scores import keep, of_seeds
from ssl_jax.trained import Network, read_config
from ssl_jax.types import CELLS, MASKS, Plan, Splits, Stopped, UserError

READS = {'of': 'train'}
TASKS = (MASKS, CELLS)


def check(plan: Plan, earlier: Mapping[str, Plan], found: Splits) -> None:
  """Raises UserError where the state or the head was not kept."""
  settings, select = earlier[plan.own['of']].config, plan.own.get('select', 'last')
  if select not in ('last', *SELECTABLE):
    raise UserError(
      f'stages.{plan.name}: select={select!r} is not one of last, {", ".join(SELECTABLE)}.'
    )
  if found.test is None:
    raise UserError(f'stages.{plan.name} scores test images, and the data hold none out.')
  if select != 'last' and found.val is None:
    raise UserError(f'stages.{plan.name}: select={select!r} needs validation images (data.val).')
  if 'loss' in SELECTABLE.get(select, [''])[0] and not settings.get('watch_losses'):
    raise UserError(f'stages.{plan.name}: let {plan.own["of"]} keep them: watch_losses=True.')


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  select: str = 'last',
  match: Mapping | None = None,
) -> dict[str, float]:
  """Scores each seed of the training stage `of` on test images, and on val where there are some.

  `select` is the state: 'last', or one that was best on validation images. `match` (head, how)
  replaces the config's: another head, whose clusters are matched to classes on training images.
  """
  settings = read_config(folder.parent / of)
  found = build.splits(settings['data'])
  settings |= {'match': match or settings.get('match')}
  held_out = {n: s for n, s in (('val', found.val), ('test', found.test)) if s is not None}
  mine = build.folders_of_seeds(settings, folder)
  network, done = None, {}
  for seed, trained in build.folders_of_seeds(settings, folder.parent / of).items():
    if stop():
      raise Stopped(f'{folder.name}: stopped; the same command begins this stage again.')
    facts = build.read_facts(trained)
    network = network or Network(settings, facts)
    answer, step = network.plain(trained, select)
    if settings['match']:
      table = clusters.fit(answer, found.labeled, len(found.classes), settings['match']['how'])
      answer = clusters.named(answer, table)
    done[seed] = {'steps': step}
    for name, source in held_out.items():
      scored = evaluate(answer, source, facts.classes, facts.task)
      done[seed] |= keep(scored, mine[seed], name, facts.classes)
    if len(mine) > 1:
      write_done(mine[seed], done[seed])
  return of_seeds(done)
