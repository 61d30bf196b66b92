"""A stage that scores trained networks anew: another checkpoint or head, or several averaged."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ssl_jax import build, registry, run_folder
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation.evaluate import evaluate
from ssl_jax.inference import cluster_matching
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.io.run_log import write_done
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import CHECKPOINTS, Learning, Match, Seeds, Settings
from ssl_jax.stages.comparing.seed_scores import mean_over_seeds, write_evaluation
from ssl_jax.stages.labeling import missing_labels
from ssl_jax.stages.labeling.ensembles import check_members, names_of
from ssl_jax.stages.learning.training_sources import held_out, required
from ssl_jax.types import CELLS, MASKS, Figures, Splits

INPUT_STAGES = {'of': 'train'}
TASKS = (MASKS, CELLS)
USES = ('seed', 'num_seeds', 'data', 'count_absent')


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that there is something to score, and that the checkpoint or head is kept.

  Raises:
    UserError: if it is not.
  """
  where = f'stages.{spec.name}'
  check_members(spec, earlier)
  names = names_of(spec.stage_kwargs['of'])
  checkpoint = spec.stage_kwargs.get('checkpoint', 'last')
  if checkpoint not in CHECKPOINTS:
    guess = registry.nearest(str(checkpoint), CHECKPOINTS)
    raise UserError(
      f'{where}: checkpoint={checkpoint!r} is not one of {", ".join(CHECKPOINTS)}{guess}.'
    )
  required(splits.test, f'{where} scores test images, and the data hold none out.')
  if checkpoint != 'last':
    problem = f'{where}: checkpoint={checkpoint!r} needs validation images (data.val).'
    required(splits.val, problem)
  # Checkpoints that are best by a loss exist only if the training computed that loss.
  for name in names:
    by_loss = checkpoint in ('best_supervised', 'best_total')
    if by_loss and not earlier[name].settings.watch_losses:
      raise UserError(f'{where}: let {name} keep them: watch_losses=True.')
  # A match replaces the head, so it is about one network.
  if match := spec.stage_kwargs.get('match'):
    if len(names) > 1:
      raise UserError(f'{where}: match names the clusters of one stage, not of several.')
    _check_match(match, earlier[names[0]].settings.part(Learning), where)
  if spec.stage_kwargs.get('train') and splits.task == CELLS:
    raise UserError(f'{where}: train=True looks for gaps in masks; these are cells.')


def _check_match(match: Mapping[str, str], learning: Learning, where: str) -> None:
  """Raises UserError where `match` names no head of the network, or no way of matching."""
  fields = [field.name for field in dataclasses.fields(Match)]
  for key in match:
    if key not in fields:
      guess = registry.nearest(key, fields)
      raise UserError(f'{where}: match.{key} is no field of match{guess}.')
  asked = Match(**match)
  # Every network has the head 'class'.
  heads = ('class', *(learning.heads or ()))
  if asked.head not in heads:
    raise UserError(f'{where}: match.head={asked.head!r} is not one of {", ".join(heads)}.')
  rules = tuple(cluster_matching.RULES)
  if asked.how not in rules:
    raise UserError(f'{where}: match.how={asked.how!r} is not one of {", ".join(rules)}.')


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str | Sequence[str],
  checkpoint: str = 'last',
  match: Mapping | None = None,
  train: bool = False,
) -> Figures:
  """Scores each seed of training stages on test images, and on validation images if there are any.

  Of each seed it writes val/ and test/ as a training does. With `train` it scores the training
  images as well: against their masks (train/...) and, where instances were dropped from those,
  against the complete ones (complete/...), with the recall of what was dropped (removed/...); it
  also draws bars.png and picture.png.

  Args:
    settings: of this stage; the data set is that of the training stage.
    folder: of this stage.
    stop: asked before each seed whether to stop.
    of: the training stage; several are scored as one, by the mean of their probabilities.
    checkpoint: the last, or one that was the best on validation images.
    match: replaces `match` of the config: another head, whose clusters are matched to classes.
    train: whether training images are scored as well.

  Raises:
    UserError: if a checkpoint is missing.
    Stopped: if it was asked to stop; the stage begins again then.
  """
  ensemble = Ensemble(folder.parent, of)
  # Members of an ensemble have the same seeds; data and classes are read off the first.
  trained = ensemble.settings[0]
  chosen = trained.match
  if match:
    chosen = Match(**match)
  seed_folders = run_folder.folders_of_seeds(trained.part(Seeds), folder)
  done: dict[int, Figures] = {}
  for seed, seed_folder in seed_folders.items():
    if stop():
      raise Stopped(f'{folder.name}: stopped; the same command begins this stage again.')
    splits = build.splits_of_seed(trained, seed)
    # Statistics of the data that the network was trained with, not of today's.
    stats = ensemble.stats(seed)
    if chosen is not None:
      clusters, step = ensemble.cluster_predict_fn(seed, checkpoint, chosen)
      # Which class each cluster means is fitted on training images, never on those that are scored.
      table = cluster_matching.match_clusters(
        clusters, splits.labeled, len(splits.classes), chosen.how
      )
      predict_fn = cluster_matching.as_classes(clusters, table)
    else:
      predict_fn, step = ensemble.predict_fn(seed, checkpoint)
    done[seed] = {'steps': step}
    for name, source in held_out(splits).items():
      what = stats.classes, stats.task, settings.count_absent, stats.instances
      evaluation = evaluate(predict_fn, source, *what)
      done[seed] |= write_evaluation(evaluation, seed_folder, name, splits)
    if train:
      done[seed] |= missing_labels.score(
        predict_fn, splits, stats, seed_folder, settings.count_absent
      )
    # A single seed has the folder of the stage, whose done.json the run writes.
    if len(seed_folders) > 1:
      write_done(seed_folder, done[seed])
  # Drawn once for the stage, since the bars are means over seeds.
  if train:
    first = min(seed_folders)
    missing_labels.draw(folder, done, build.splits_of_seed(trained, first), seed_folders[first])
  return mean_over_seeds(done)
