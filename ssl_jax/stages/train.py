"""A stage that trains a network for each seed, one seed after another or all in one program."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ssl_jax import build, parallel, run_folder
from ssl_jax.data import dataset_stats, stream
from ssl_jax.errors import UserError
from ssl_jax.evaluation.comparison import headline
from ssl_jax.evaluation.evaluate import Evaluation, evaluate
from ssl_jax.inference import cluster_matching
from ssl_jax.inference.trained_networks import state_predict_fn
from ssl_jax.io.run_log import read_done, read_log, write_done
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Inputs, Learning, Loop, Seeds, Selection, Settings
from ssl_jax.stages.comparing import equal_minutes as equal_minutes_stage
from ssl_jax.stages.comparing.seed_scores import mean_over_seeds, shares_to_expect, write_evaluation
from ssl_jax.stages.labeling import ensembles
from ssl_jax.stages.learning import initial_weights, training_sources
from ssl_jax.stages.learning.training_sources import StageOutputs
from ssl_jax.stages.learning.validation_losses import validation_losses
from ssl_jax.training import collapse, loop
from ssl_jax.training.checkpoint import SELECTABLE, Checkpoints, DamagedCheckpoint
from ssl_jax.types import (
  CELLS,
  MASKS,
  NOTHING,
  Figures,
  Learner,
  PredictFn,
  Source,
  Splits,
  TrainState,
)

INPUT_STAGES = {
  'pseudo': 'pseudo_label',
  'replay': 'label_crops',
  'init_from': 'train',
  'equal_minutes': 'train',
}
TASKS = (MASKS, CELLS)


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that the stage has the images, masks and weights that it needs.

  Raises:
    UserError: if it lacks one, or settings do not fit the data or the stage `init_from`.
  """
  settings = spec.settings
  inputs = settings.part(Inputs)
  where = f'stages.{spec.name}'
  # Everything that can be known beforehand is refused now, before any stage has trained.
  _check_selection(settings.part(Selection), splits)
  training_sources.check_streams(spec)
  training_sources.check_images(inputs, splits)
  training_sources.check_truth(splits)
  if len(spec.stage_kwargs.get('equal_minutes', ())) % 2:
    raise UserError(
      f"{where}: equal_minutes names pairs of stages, as in ('fixmatch', 'control'): the one whose "
      f'time this stage has, and one with its steps and the network of this stage.'
    )
  # Validation images have true labels; no stream of pseudo-labels could be made of them.
  if settings.watch_losses and (spec.stage_kwargs.get('pseudo') or spec.stage_kwargs.get('replay')):
    raise UserError(f'{where}: watch_losses cannot tell a loss on pseudo-labels.')
  if splits.task == CELLS:
    _check_cells(inputs, splits)
    if settings.match:
      raise UserError('match names clusters of pixels; it cannot be with cells.')
  build.check_draws(settings)
  # It is read only when training begins, which may be hours of earlier stages later.
  initial_weights.check(settings.model)
  if init_from := spec.stage_kwargs.get('init_from'):
    # The weights must fit the network, and each seed starts from the same seed of the other stage.
    before = earlier[init_from].settings
    for field in ('model', 'heads', 'seed', 'num_seeds'):
      ours, theirs = getattr(settings, field), getattr(before, field)
      if ours != theirs:
        raise UserError(
          f'{where}: init_from={init_from} has another {field} ({theirs}, here {ours}).'
        )


def _check_selection(selection: Selection, splits: Splits) -> None:
  """Raises UserError where a checkpoint cannot be chosen as asked."""
  checkpoint = selection.checkpoint
  if (selection.watch_losses or checkpoint != 'last') and splits.val is None:
    # The message names the setting that asks for validation images.
    which = 'watch_losses looks'
    if checkpoint != 'last':
      which = f'checkpoint={checkpoint!r} chooses'
    raise UserError(f'{which} on validation images; give some as data.val.')
  if checkpoint in ('best_supervised', 'best_total') and not selection.watch_losses:
    raise UserError(
      f'checkpoint={checkpoint!r} needs losses on validation images: watch_losses=True.'
    )


def _check_cells(inputs: Inputs, splits: Splits) -> None:
  """Raises UserError where settings for masks would be at odds with patches."""
  # Patches of a data set all have one size, so that of the first is compared.
  scored = splits.test or splits.val
  patch = (scored or splits.labeled)[0]['image'].shape[:2]
  if scored and patch != inputs.crop_size:
    raise UserError(
      f'crop_size={inputs.crop_size}, but data.size makes patches of {patch}; use one size.'
    )
  for name, view in inputs.views.items():
    # After pasting a patch would hold parts of two cells, of two classes.
    if view.get('cutmix'):
      raise UserError(f'View {name!r}: cutmix pastes pixels, and patches have one label each.')


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  pseudo: str | Sequence[str] = (),
  replay: Mapping[str, str] = NOTHING,
  buffer: int = 64,
  renew: float = 0.02,
  init_from: str = '',
  member: int = 0,
  equal_minutes: Sequence[str] = (),
) -> Figures:
  """Trains every seed, and returns the scores of the checkpoint that the settings choose.

  Of each seed it writes checkpoints/, metrics.jsonl, data.json and, of the splits val and test,
  the predicted masks/ and matrices.npz (of cells patches.csv). One seed has the stage's folder;
  of several each has a folder seed_N, scores are their means, and seed_N/... are each one's.
  `vmap_seeds` says whether one program trains all seeds; by default it does on an accelerator,
  while a CPU, which is slower at that, trains them one after another.

  Args:
    settings: all of the config, for this stage.
    folder: of this stage.
    stop: asked after each step whether to save and stop.
    pseudo: stages whose masks for unlabeled images become the stream 'pseudo'.
    replay: by stream, the label_crops stages whose pairs it draws from a replay buffer.
    buffer: pairs in the replay buffer.
    renew: probability that a draw takes a new pair into the buffer.
    init_from: training stage whose predicting weights this training starts from.
    member: number of this network in an ensemble; others start from other weights and see their
      images in another order.
    equal_minutes: two stages: it has as many steps as fit into the time of the first, of which the
      second, with the same network as this one, tells how long a step takes. Of several such pairs
      the median counts.

  Raises:
    UserError: if a file or a setting is wrong, or a loss is not finite.
    Stopped: if it was asked to stop; the state is saved.
  """
  run = folder.parent
  if equal_minutes:
    steps = equal_minutes_stage.steps_of(folder, settings.steps, equal_minutes)
    settings = dataclasses.replace(settings, steps=steps)
  # Number of channels and classes are the same for all seeds, and with them the programs.
  stats = dataset_stats.compute_stats(
    build.splits_of_seed(settings, settings.seed), settings.normalize
  )
  learner = build.learner(settings.part(Learning), settings.part(Inputs), settings.steps, stats)
  seed_folders = run_folder.folders_of_seeds(settings.part(Seeds), folder)
  done: dict[int, Figures] = {}
  # A killed stage does only those seeds that have no done.json yet.
  waiting = []
  for seed, seed_folder in seed_folders.items():
    figures = read_done(seed_folder)
    if figures is None:
      waiting.append(seed)
    else:
      done[seed] = figures
  vmap_seeds = settings.vmap_seeds
  # A batch of seeds is faster than one after another on an accelerator, and slower on a CPU.
  if vmap_seeds is None:
    vmap_seeds = parallel.has_accelerator()
  # All waiting seeds in one program, or one after another.
  group_size = max(len(waiting), 1) if vmap_seeds else 1
  # Both functions are compiled once; seeds differ in data and weights only.
  training = _Training(
    settings=settings,
    classes=stats.classes,
    learner=learner,
    update=parallel.jit_update(learner.update, group_size),
    predict=parallel.jit_predict(learner.predict),
    outputs=StageOutputs(
      pseudo=[run / name for name in ensembles.names_of(pseudo)],
      replay={name: run / stage_name for name, stage_name in replay.items()},
      buffer=buffer,
      renew=renew,
    ),
    member=member,
    initializer=initial_weights.initializer(settings, folder, init_from, stats),
    stop=stop,
  )
  for start in range(0, len(waiting), group_size):
    group = {seed: seed_folders[seed] for seed in waiting[start : start + group_size]}
    done |= _train_seeds(training, group, folder.name)
    # The done.json of a single seed is written by the run, because its folder is the stage's.
    if len(seed_folders) > 1:
      for seed, seed_folder in group.items():
        write_done(seed_folder, done[seed])
  # In the order of the seeds, also where some of them had been done before.
  return mean_over_seeds(dict(sorted(done.items())))


class _Training(NamedTuple):
  """What all seeds of a stage share, compiled programs included."""

  settings: Settings
  classes: Sequence[str]
  learner: Learner
  update: Callable
  predict: Callable
  outputs: StageOutputs
  member: int
  initializer: Callable[[int], initial_weights.Load]  # of a seed
  stop: Callable[[], bool]


class _Data(NamedTuple):
  """The images of a seed, and what the training must know of them."""

  splits: Splits
  stats: dataset_stats.DatasetStats  # of the training images, which normalizes all splits
  shares: Mapping[str, float] | None  # of the classes among the labels
  count_absent: bool  # see confusion.per_image

  @property
  def held_out(self) -> dict[str, Source]:
    return training_sources.held_out(self.splits)


def _data_of_seed(training: _Training, seed: int) -> _Data:
  """The data of a seed.

  Raises:
    UserError: if its labels have other classes than those of the first seed.
  """
  settings = training.settings
  splits = build.splits_of_seed(settings, seed)
  build.check_classes(seed, splits.classes, training.classes)
  stats = dataset_stats.compute_stats(splits, settings.normalize)
  shares = shares_to_expect(settings.part(Learning), splits)
  return _Data(splits, stats, shares, settings.count_absent)


def _train_seeds(
  training: _Training, seed_folders: Mapping[int, Path], stage_name: str
) -> dict[int, dict]:
  """Trains some seeds in one program and scores each; returns their figures by seed."""
  settings = training.settings
  data = {seed: _data_of_seed(training, seed) for seed in seed_folders}
  seeds = [_seed_run(training, data[seed], seed, folder) for seed, folder in seed_folders.items()]
  # Batches of seeds that train together are one array, and other draws may have other sizes.
  stream.share_canvases([seed.streams for seed in seeds])
  first = next(iter(data.values()))
  # 'fixmatch/seed_0+seed_1', or just 'fixmatch' for a single seed.
  names = [folder.name for folder in seed_folders.values() if folder.name != stage_name]
  states = loop.train(
    training.learner,
    training.update,
    seeds,
    # An example [1, *space, C], by whose shape the weights are initialized.
    np.zeros((1, *settings.crop_size, first.stats.channels), np.float32),
    _monitor(training, data),
    loop=settings.part(Loop),
    label='/'.join([stage_name, '+'.join(names)] if names else [stage_name]),
    # Without validation images there is no best checkpoint.
    best=_best_figures(settings) if 'val' in first.held_out else (),
    # Noticed by the fractions of the classes among the labels.
    alarm=lambda seed, figures: collapse.find_collapse(figures, data[seed].shares),
    stop=training.stop,
  )
  done: dict[int, Figures] = {}
  for (seed, folder), state in zip(seed_folders.items(), states, strict=True):
    done[seed] = _final_figures(training, data[seed], folder, state)
  return done


def _seed_run(training: _Training, data: _Data, seed: int, folder: Path) -> loop.SeedRun:
  """What the loop needs of a seed: its streams, its folder, and how its weights begin."""
  settings = training.settings
  # Refuses to resume with other data than the training began with.
  training_sources.keep_stats(folder, data.stats)
  # Members of an ensemble share the number of the seed and differ in everything random.
  draw_seed = stream.member_seed(seed, training.member)
  # A replay buffer plans all its draws in advance, so that a resumed training repeats them.
  draws = {name: settings.steps * size for name, size in settings.batch.items()}
  made = training_sources.stage_sources(
    training.outputs, settings.part(Seeds), data.splits, seed, draw_seed, draws
  )
  streams = build.streams(settings.part(Inputs), data.splits, draw_seed, made)
  begin = training.initializer(seed)
  return loop.SeedRun(seed, streams, folder, begin, draw_seed, data.stats.normalization())


def _monitor(training: _Training, data: Mapping[int, _Data]) -> loop.Evaluate:
  """Returns what evaluates a state of a seed during training.

  Scores on test images are recorded for monitoring only; nothing is ever chosen by them.
  """
  losses = {}
  if training.settings.watch_losses:
    for seed, of_seed in data.items():
      losses[seed] = validation_losses(training.settings, training.learner, of_seed.splits)

  def evaluate_state(seed: int, state: TrainState, everything: bool) -> dict[str, float]:
    figures = {}
    of_seed = data[seed]
    predict_fn, _ = _predict_fn(training, of_seed, state)
    # Between regular evaluations a save needs only the figures by which the best is found.
    evaluations = _evaluate(of_seed, predict_fn, of_seed.held_out if everything else ['val'])
    for split, evaluation in evaluations.items():
      for name, value in evaluation.scores.items():
        figures[f'{split}/{name}'] = value
    # The metric by which 'best' is chosen has one name for all tasks (see checkpoint.SELECTABLE).
    if 'val' in evaluations:
      primary, _ = headline.primary_metric(of_seed.stats)
      figures['val/score'] = evaluations['val'].scores[primary]
    if losses:
      figures |= losses[seed](state)
    return figures

  return evaluate_state


def _evaluate(data: _Data, predict_fn: PredictFn, names: Iterable[str]) -> dict[str, Evaluation]:
  """The evaluations of the splits of these names."""
  stats, held_out = data.stats, data.held_out
  what = stats.classes, stats.task, data.count_absent, stats.instances
  return {name: evaluate(predict_fn, held_out[name], *what) for name in names}


def _final_figures(
  training: _Training, data: _Data, folder: Path, state: TrainState
) -> dict[str, Any]:
  """Scores the chosen checkpoint of a seed and writes its evaluations."""
  checkpoint = training.settings.checkpoint
  # `state` is the last one, as the loop returned it; here it only gives the shapes.
  if checkpoint != 'last':
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)
    try:
      chosen = checkpoints.restore(state, checkpoints.find(checkpoint))
    except DamagedCheckpoint as error:
      raise UserError(f'{error}; delete {folder}, and the same command trains it again.') from error
    assert chosen is not None  # the last step itself is a checkpoint that was scored
    state = chosen
  figures: dict[str, Any] = {'steps': int(state.step)}
  # Clusters are matched anew for the chosen checkpoint, and the table is kept for `predict`.
  predict_fn, table = _predict_fn(training, data, state)
  if table is not None:
    cluster_matching.write_table(folder, table)
  # Judged by the last part of the log, not by one line that chance may have spoilt.
  faults = collapse.collapse_at_end(read_log(folder), data.shares)
  figures['collapsed'] = float(bool(faults))
  for name, evaluation in _evaluate(data, predict_fn, data.held_out).items():
    figures |= write_evaluation(evaluation, folder, name, data.splits)
  return figures


def _best_figures(settings: Settings) -> list[str]:
  """The figures on validation images of which the best checkpoint is kept."""
  score, supervised, total = (figure for figure, _ in SELECTABLE.values())
  if not settings.watch_losses:
    return [score]
  # Without a supervised method there is no supervised loss to choose by.
  return [score, supervised, total] if 'supervised' in settings.methods else [score, total]


def _predict_fn(
  training: _Training, data: _Data, state: TrainState
) -> tuple[PredictFn, np.ndarray | None]:
  """The predict function of a state, and which class each of its clusters means (or None)."""
  # Volumes are predicted in windows of the crop size, images as a whole.
  predict_fn = state_predict_fn(
    training.predict, state, training.settings.crop_size, training.learner.multiple
  )
  match = training.settings.match
  if match is None:
    return predict_fn, None
  table = cluster_matching.match_clusters(
    predict_fn, data.splits.labeled, len(data.stats.classes), match.how
  )
  return cluster_matching.as_classes(predict_fn, table), table
