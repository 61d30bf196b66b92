"""A stage that trains, the seeds of a run one after another or together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from ssl_jax import build, parallel
from ssl_jax.data import dataset_stats
from ssl_jax.data import stream as data
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.evaluate import Evaluation, evaluate
from ssl_jax.inference import cluster_matching
from ssl_jax.inference.trained_networks import Network, read_config, state_predict_fn
from ssl_jax.io.run_log import read_done, read_log, write_done
from ssl_jax.stages import training_sources
from ssl_jax.stages.seed_scores import keep, mean_over_seeds, shares_to_expect
from ssl_jax.stages.training_sources import check_images, check_made, same_data
from ssl_jax.training import collapse, loop
from ssl_jax.training.checkpoint import SELECTABLE, Checkpoints
from ssl_jax.types import CELLS, MASKS, NOTHING, Learner, PredictFn, Splits, StageSpec, TrainState

INPUT_STAGES = {'pseudo': 'pseudo_label', 'replay': 'label_crops', 'begin': 'train'}
TASKS = (MASKS, CELLS)


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where the stage needs images or masks that there are not."""
  select, watching = plan.config['select'], plan.config.get('watch_losses')
  if (watching or select != 'last') and found.val is None:
    which = f'select={select!r} chooses' if select != 'last' else 'watch_losses looks'
    raise UserError(f'{which} on validation images; give some as data.val.')
  if select in ('best_supervised', 'best_total') and not watching:
    raise UserError(f'select={select!r} needs losses on validation images: watch_losses=True.')
  check_made(plan)
  check_images(plan.config, found)
  if watching and (plan.own.get('pseudo') or plan.own.get('replay')):
    raise UserError(f'stages.{plan.name}: watch_losses cannot tell a loss on pseudo-labels.')
  if found.task == CELLS:
    _check_cells(plan.config, found)
  build.pretrained_file(plan.config)  # before hours of earlier stages
  if first := plan.own.get('begin'):
    for key in ('model', 'heads', 'seed', 'replicas'):
      mine, its = (c.get(key) for c in (plan.config, earlier[first].config))
      if mine != its:
        raise UserError(
          f'stages.{plan.name}: begin={first} has another {key} ({its}, here {mine}).'
        )


def _check_cells(config: Mapping, found: Splits) -> None:
  """Raises UserError where a config of masks would be at odds with patches."""
  patch = (found.test or found.val or found.labeled)[0]['image'].shape[:2]
  if (found.test or found.val) and patch != config['size']:
    raise UserError(f'size={config["size"]}, but data.size makes patches of {patch}; use one size.')
  for name, recipe in config['views'].items():
    if recipe.get('cutmix'):
      raise UserError(f'View {name!r}: cutmix pastes pixels, and patches have one label each.')
  if config.get('match'):
    raise UserError('match names clusters of pixels; it cannot be with cells.')


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  pseudo: str | Sequence[str] = (),
  replay: Mapping[str, str] = NOTHING,
  buffer: int = 64,
  renew: float = 0.02,
  begin: str = '',
  member: int = 0,
) -> dict[str, float]:
  """Trains `config.replicas` seeds; scores are of the last step (or the best), in percent.

  `pseudo` names stages whose masks for unlabeled images become the stream 'pseudo'; `replay` names
  for other streams the stages that labelled crops, drawn from a buffer of `buffer` pairs, one of
  which is new with probability `renew`; `begin` names a training stage whose network (the one that
  predicts there) is where this one begins. The members 0, 1, ... of an ensemble begin differently
  and see their images in another order.

  With several seeds each has a folder `seed_<n>`; the stage's scores are their means, and
  `seed_<n>/...` are each one's own. `config.together` says whether one program trains them all; by
  default it does on an accelerator, and a CPU, which is slower at that, takes one after another.
  """
  found = build.splits(config['data'])
  facts = dataset_stats.compute_stats(found, config['normalize'])
  learner = build.learner(config, facts)
  folders = build.folders_of_seeds(config, folder)
  done = {seed: read_done(path) for seed, path in folders.items()}
  waiting = [seed for seed, figures in done.items() if figures is None]
  together = parallel.has_accelerator() if config.get('together') is None else config['together']
  size = max(len(waiting), 1) if together else 1
  update = parallel.jit_update(learner.update, size)
  stored = [folder.parent / name for name in ([pseudo] if isinstance(pseudo, str) else pseudo)]
  stored = dict(pseudo=stored, buffer=buffer, renew=renew)
  stored['replay'] = {stream: folder.parent / name for stream, name in replay.items()}
  predict = parallel.jit_predict(learner.predict)
  first = _beginning(config, folder.parent / begin if begin else None, facts)
  job = _Job(config, stored, member, first, found, facts, learner, update, predict, stop)
  for group in (waiting[i : i + size] for i in range(0, len(waiting), size)):
    done |= _train_seeds(job, {seed: folders[seed] for seed in group}, folder.name)
    for seed in group if len(folders) > 1 else ():
      write_done(folders[seed], done[seed])
  return mean_over_seeds(done)


class _Job(NamedTuple):
  """What the seeds of a stage share, compiled programs included."""

  config: Mapping
  stored: Mapping  # what stages made, as _data.made takes it
  member: int
  begin: Callable[[int], Callable[[TrainState], TrainState]]  # what a seed's fresh state becomes
  found: Splits
  facts: dataset_stats.DatasetStats
  learner: Learner
  update: Callable
  predict: Callable
  stop: Callable[[], bool]


def _train_seeds(job: _Job, folders: Mapping[int, Path], stage: str) -> dict[int, dict]:
  """Trains some seeds in one program and scores each; returns their figures by seed."""
  held_out = {n: s for n, s in (('val', job.found.val), ('test', job.found.test)) if s is not None}

  def score(state, names: Iterable[str]) -> dict[str, Evaluation]:
    answer, _ = _answer(job, state)
    facts = job.facts
    return {n: evaluate(answer, held_out[n], facts.classes, facts.task) for n in names}

  losses = _val_losses(job) if job.config.get('watch_losses') else lambda state: {}

  def watch(state, everything: bool) -> dict[str, float]:
    """Scores to look at; `test` is recorded only, nothing is ever chosen by it."""
    found = score(state, [*held_out] if everything else ['val'])
    scores = {f'{name}/{k}': value for name, e in found.items() for k, value in e.scores.items()}
    if 'val' in found:
      scores['val/score'] = found['val'].scores[confusion.PRIMARY_METRIC[job.facts.task][0]]
    return scores | losses(state)

  named = shares_to_expect(job.config, job.found)

  seeds = []
  for number, folder in folders.items():
    same_data(folder, job.facts)
    drawn = data.member_seed(number, job.member)
    made = training_sources.made(job.config, job.found, number, drawn, **job.stored)
    streams = build.streams(job.config, job.found, drawn, made)
    seeds.append(loop.SeedRun(number, streams, folder, job.begin(number), drawn))
  names = [folder.name for folder in folders.values() if folder.name != stage]
  states = loop.train(
    job.learner,
    job.update,
    seeds,
    np.zeros((1, *job.config['size'], job.facts.channels), np.float32),
    watch,
    label='/'.join([stage, '+'.join(names)] if names else [stage]),
    best=_best(job.config) if 'val' in held_out else (),
    alarm=lambda figures: collapse.find_collapse(figures, named),
    stop=job.stop,
    **{knob: job.config[knob] for knob in loop.KNOBS},
  )
  done = {}
  for (number, folder), state in zip(folders.items(), states, strict=True):
    if job.config['select'] != 'last':
      checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)
      state = checkpoints.restore(state, checkpoints.find(job.config['select']))
    done[number] = {'steps': int(state.step)}
    if (table := _answer(job, state)[1]) is not None:
      cluster_matching.write(folder, table)
    done[number]['collapsed'] = float(bool(collapse.collapse_at_end(read_log(folder), named)))
    for name, found in score(state, held_out).items():
      done[number] |= keep(found, folder, name, job.facts.classes)
  return done


def _best(config: Mapping) -> list[str]:
  """The figures on validation images of which the checkpoints with the best are kept."""
  watched = [name for name, _ in SELECTABLE.values()]
  if not config.get('watch_losses'):
    return watched[:1]
  return watched if 'supervised' in config['methods'] else [watched[0], watched[2]]


def _answer(job: _Job, state: TrainState) -> tuple[PredictFn, np.ndarray | None]:
  """PredictFn of classes; where they come from clusters, also which class each one means."""
  plain = state_predict_fn(job.predict, state, job.config['size'])
  if not job.config.get('match'):
    return plain, None
  how = job.config['match']['how']
  table = cluster_matching.match_clusters(plain, job.found.labeled, len(job.facts.classes), how)
  return cluster_matching.as_classes(plain, table), table


def _val_losses(job: _Job) -> Callable[[TrainState], dict[str, float]]:
  """The losses of steps on validation images, shown as labeled and as unlabeled; none is taken."""
  shown = job.found._replace(labeled=job.found.val, unlabeled=job.found.val)
  streams = build.streams(job.config, shown, 0)
  measure = jax.jit(lambda *given: job.learner.update(*given)[1])
  many = -(-len(job.found.val) // min(stream.batch for stream in streams.values()))

  def losses(state: TrainState) -> dict[str, float]:
    steps = [
      measure(state, parallel.shard(batch), jax.random.key(i))
      for i, batch in enumerate(data.batches([streams], 0, many))
    ]
    means = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
    of_labels = [value for name, value in means.items() if name.startswith('loss/supervised/')]
    return {'val/loss': means['loss'], 'val/loss_supervised': sum(of_labels)}

  return losses


def _beginning(config: Mapping, stage: Path | None, facts: dataset_stats.DatasetStats) -> Callable:
  """For each seed, what puts weights into its fresh state: a file's, or those of `stage`."""
  if stage is None:
    return lambda seed: build.beginning(config)
  settings = read_config(stage)
  network, folders = Network(settings, facts), build.folders_of_seeds(settings, stage)

  def of_seed(seed: int) -> Callable[[TrainState], TrainState]:
    def begin(state: TrainState) -> TrainState:
      first = network.state(folders[seed], settings['select'])
      return state.starting_from(
        first.average if settings['teacher'] == 'average' else first.student
      )

    return begin

  return of_seed
