"""A stage that says whether one trained stage beats another on the test images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel, run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, statistics
from ssl_jax.evaluation.comparison import headline, repetitions, verdicts
from ssl_jax.evaluation.comparison.repetitions import Repetition
from ssl_jax.evaluation.statistics import MIN_REPETITIONS, MIN_UNITS, Difference
from ssl_jax.io.run_log import read_done, read_log, replace_text
from ssl_jax.parsing.stage_list import StageSpec, differences
from ssl_jax.settings import Learning, Seeds, Settings
from ssl_jax.stages.comparing import comparison_figures, looks
from ssl_jax.stages.comparing.equal_minutes import seconds_per_step
from ssl_jax.stages.comparing.seed_scores import learns_from_labels_alone, shares_to_expect
from ssl_jax.stages.labeling import unfound_classes
from ssl_jax.stages.labeling.ensembles import names_of, same_seeds, trained_stages
from ssl_jax.stages.learning import initial_weights
from ssl_jax.training import collapse
from ssl_jax.types import CELLS, MASKS, Figures, Splits

INPUT_STAGES = {'of': ('train', 'score'), 'against': ('train', 'score'), 'curve': 'train'}
SIDES = ('of', 'against')
TASKS = (MASKS, CELLS)
USES = ('seed', 'num_seeds', 'data')


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that the two stages can be compared, and differ in nothing but what is asked.

  Raises:
    UserError: if there are no test images, the seeds are not the same, or the two stages differ
      in more than what a supervised control takes away and the page names.
  """
  where = f'stages.{spec.name}'
  if splits.test is None:
    raise UserError(
      f'{where} compares on test images, and the data hold none out; give some '
      f'(data.test or data.test_fraction), or take the stage away.'
    )
  of, against = (earlier[spec.stage_kwargs[key]] for key in SIDES)
  if not same_seeds(of, against):
    raise UserError(f'{where}: seeds are compared in pairs, so both stages need the same ones.')
  # Any other difference would be confounded with the effect of the unlabeled images.
  unnamed = unnamed_differences(spec, earlier)
  if unnamed:
    listed = '; '.join(f'{key} is {a!r} and {b!r}' for key, (a, b) in unnamed.items())
    names = ', '.join(repr(key) for key in unnamed)
    raise UserError(
      f'{where}: {of.name} and {against.name} differ in more than the unlabeled images, so their '
      f'scores would not tell what those do: {listed}. Set it for both, make one with '
      f'control_of={of.name!r}, or name it: differences=({names},).'
    )


def no_verdict(spec: StageSpec, splits: Splits) -> list[str]:
  """Why a comparison will end without a verdict, a sentence each without its full stop."""
  settings = spec.settings
  reasons = []
  if settings.num_seeds < MIN_REPETITIONS:
    reasons.append(
      f'{spec.name}: {settings.num_seeds} repetitions give no verdict; set '
      f'num_seeds={MIN_REPETITIONS} or more'
    )
  if splits.test is not None:
    # Patches are not independent, whole images are.
    images = splits.test if splits.whole is None else splits.whole
    groups = set(splits.draw.groups.values())
    units = len(groups) if groups else len(images)
    # In a cross-validation each repetition tests others.
    if splits.draw.own_test and build.redraws(settings):
      units *= settings.num_seeds
    if units < MIN_UNITS:
      reasons.append(
        f'{spec.name}: {units} test images (or groups) give no verdict; it takes {MIN_UNITS} or '
        f'more in all'
      )
  return reasons


def unnamed_differences(
  spec: StageSpec, earlier: Mapping[str, StageSpec]
) -> dict[str, tuple[object, object]]:
  """Fields in which the two sides differ, apart from the control's and those that the page names.

  Of an ensemble that a `score` stage scores, the first network is compared.
  """
  sides = []
  for key in SIDES:
    side = earlier[spec.stage_kwargs[key]]
    # A `score` stage trains nothing; what counts are the settings of the networks that it scores.
    if side.run == 'score':
      side = earlier[names_of(side.stage_kwargs['of'])[0]]
    sides.append(side)
  named = tuple(spec.stage_kwargs.get('differences', ()))
  return {
    key: values
    for key, values in differences(*sides).items()
    # Naming a dict of fields also names the fields inside.
    if not any(key == name or key.startswith(f'{name}.') for name in named)
  }


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  against: str,
  differences: Sequence[str] = (),
  margin: float | int = 0.0,
  curve: Sequence[str] = (),
) -> Figures:
  """Says whether stage `of` beats stage `against` on the test images, and shows some of them.

  The interval is over repetitions (seeds, with their draws of labels and test images), as
  evaluation/statistics.py defines it; with one there is no verdict. Writes verdict.txt, pictures
  and, into the run folder, looks.jsonl.

  Args:
    settings: of this stage.
    folder: of this stage.
    stop: not asked; a comparison takes seconds.
    of: a `train` stage, or a `score` stage of several.
    against: what it is compared with, usually its control.
    differences: fields in which the two may differ beside what a control takes away.
    margin: points of the metric; above 0 it is also said whether `of` is worse by more than that.
    curve: controls with more and more labels, by which the gain is told in labels.

  Returns:
    The difference of the primary metric, the ends of its interval and its p-value; the percentage
    of test images that got worse; where there is a curve, how many labels the gain is worth.

  Raises:
    UserError: if one of them has no scores on test images.
  """
  run = folder.parent
  splits = build.splits_of_seed(settings, settings.seed)
  metric, read = headline.primary_metric(splits)
  sides = [_repetitions(run / name) for name in (of, against)]
  # What the metric is read from: instances are counted as objects, not as pixels.
  ours, control, unscored = _scored_pairs(*sides, metric, read)
  judged = headline.counted(ours, metric), headline.counted(control, metric)
  compared = repetitions.compare(*judged, read)
  difference = compared.difference
  look = 1
  # Without a verdict no error is spent, so it is no look.
  if difference.repetitions >= MIN_REPETITIONS and difference.units >= MIN_UNITS:
    seeds = list(range(settings.seed, settings.seed + settings.num_seeds))
    look = looks.count_look(run, f'{of} against {against}', seeds, difference)
  # A supervised control is called so in the verdict; anything else by its name.
  words = {} if learns_from_labels_alone(run / against) else {'against': against}
  if run_folder.stage_entry(run / against).get('equal_minutes'):
    words = {'against': f'{against}, a control of equal minutes'}
  text = verdicts.verdict(of, compared, confusion.DISPLAY_NAME[metric], look=look, **words)
  # A collapsed seed lowers the mean for a reason of its own, which the verdict must tell.
  for side in (of, against):
    for trained in trained_stages(run / side):
      text += ''.join(f' {sentence}' for sentence in _collapsed_seeds(trained))
    # Its mean holds a 0 for a reason that no interval tells.
    text += ''.join(f' {line}' for line in unfound_classes.sentences(run / side, side))
    text += ''.join(f' {sentence}' for sentence in initial_weights.doubts(run / side))
  text += _starved(run / of, run / against) + unscored + _unseen_classes(control, splits)
  # Nobody should take a number from generated images for a result on real cells.
  if splits.synthetic:
    text += ' These are synthetic images.'
  worse = repetitions.fraction_worse(*judged, read)
  figures = {
    f'test/{metric}_difference': difference.mean,
    f'test/{metric}_difference_low': difference.low,
    f'test/{metric}_difference_high': difference.high,
    f'test/{metric}_difference_p': difference.p,
    'test/images_worse': worse,
  }
  lines = [text]
  if difference.repetitions >= MIN_REPETITIONS:
    if margin > 0:
      lines.append(verdicts.not_worse(of, difference, margin, look))
    lines.append(verdicts.where(of, _by_class(ours, control, splits), statistics.look_error(look)))
    if curve:
      points = _curve(run, against, curve, metric, read)
      gained = float(np.mean([float(read(one.matrices.sum(0))) for one in judged[0]]))
      sentence, worth = _worth(points, gained, against)
      lines.append(sentence)
      if worth is not None:
        figures['test/labels_worth'] = worth
  lines.append(f'{worse:.0f} % of the test images are worse than with {against}.')
  lines += _cost_and_calibration(run / of, run / against)
  replace_text(folder / run_folder.VERDICT, '\n'.join(lines) + '\n')
  print('\n'.join(lines))
  if parallel.is_main():
    draw = comparison_figures.of_masks
    if splits.task == CELLS:
      draw = comparison_figures.of_cells
    shown = {against: control, of: ours}
    draw(folder, splits, {name: [r.matrices for r in side] for name, side in shown.items()})
  return figures


def _scored_pairs(
  ours: list[Repetition], control: list[Repetition], metric: str, read: statistics.Score
) -> tuple[list[Repetition], list[Repetition], str]:
  """The repetitions that both sides have a score of, and a sentence on those left out.

  Raises:
    UserError: if none is left.
  """
  if len(ours) != len(control):
    return ours, control, ''  # which `repetitions.compare` refuses
  pairs = []
  for one, other in zip(ours, control, strict=True):
    judged = headline.counted([one, other], metric)
    # Every pixel of the test masks may be unknown in one draw.
    if not np.isnan([float(read(side.matrices.sum(0))) for side in judged]).any():
      pairs.append((one, other))
  if not pairs:
    raise UserError('No test image has a known pixel, so there is nothing to compare.')
  missing = len(ours) - len(pairs)
  sentence = ''
  if missing:
    sentence = f' {missing} repetitions whose test masks have no known pixel were left out.'
  return [one for one, _ in pairs], [other for _, other in pairs], sentence


def _unseen_classes(control: Sequence[Repetition], splits: Splits) -> str:
  """A sentence on the classes that no test image of any repetition shows; else nothing."""
  total = np.sum([repetition.matrices.sum(0) for repetition in control], 0)
  names = confusion.classes_without_truth(total, splits.classes)
  return f' No test image shows {", ".join(names)}.' if names else ''


def _by_class(
  ours: Sequence[Repetition], control: Sequence[Repetition], splits: Splits
) -> dict[str, Difference]:
  """The difference of each class that is in all repetitions: its IoU, or its recall of cells."""
  found = {}
  for name in splits.classes:
    read = confusion.score_of(
      f'{"recall" if splits.task == CELLS else "iou"}/{name}', splits.classes
    )
    assert read is not None  # both are known for every class
    known = [float(read(one.matrices.sum(0))) for one in (*ours, *control)]
    # A class that neither truth nor prediction shows has no score.
    if not np.isnan(known).any():
      found[name] = repetitions.compare(ours, control, read).difference
  return found


def _curve(
  run: Path, against: str, curve: Sequence[str], metric: str, read: statistics.Score
) -> list[tuple[int, float]]:
  """Labels and mean score of the control and of those with more labels, the fewest labels first."""
  points = []
  for name in (against, *curve):
    settings = run_folder.read_settings(run / name)
    labels = len(build.splits_of_seed(settings, settings.seed).labeled)
    counted = headline.counted(_repetitions(run / name), metric)
    scores = [float(read(one.matrices.sum(0))) for one in counted]
    points.append((labels, float(np.mean(scores))))
  return sorted(points)


def _worth(
  points: Sequence[tuple[int, float]], gained: float, against: str
) -> tuple[str, float | None]:
  """A sentence on how many labels a score is worth, and that number."""
  least = points[0][0]
  found = verdicts.labels_worth(gained, points)
  shown = ', '.join(f'{score:.1f} with {count}' for count, score in points)
  if found is None:
    return f'The gain is worth no labels: {against} has {shown}.', None
  count, only_bound = found
  more = count - least
  bound = 'at least ' if only_bound else ''
  return f'The gain is worth {bound}{more:.0f} more labels: {against} has {shown}.', more


def _cost_and_calibration(ours: Path, control: Path) -> list[str]:
  """Sentences on what the two cost, and on how far their probabilities are off."""
  sentences = []
  speeds = [seconds_per_step(stage) for stage in (ours, control)]
  if speeds[0] and speeds[1]:
    sentences.append(
      f'A step of {ours.name} took {speeds[0] / speeds[1]:.2f} times as long as one of '
      f'{control.name}.'
    )
  errors = [(read_done(stage) or {}).get('test/ece') for stage in (control, ours)]
  if None not in errors:
    sentences.append(
      f'Expected calibration error: {errors[0]:.1f} % of {control.name}, {errors[1]:.1f} % of '
      f'{ours.name}.'
    )
  return sentences


def _collapsed_seeds(stage: Path) -> list[str]:
  """Sentences that name the seeds whose training collapsed, and how."""
  settings = run_folder.read_settings(stage)
  # The log of each seed holds the fractions of the classes among its targets.
  folders = run_folder.folders_of_seeds(settings.part(Seeds), stage)
  sentences = []
  for seed, folder in folders.items():
    shares = shares_to_expect(settings.part(Learning), build.splits_of_seed(settings, seed))
    if faults := collapse.collapse_at_end(read_log(folder), shares):
      sentences.append(f'{stage.name} collapsed with seed {seed}: {"; ".join(faults)}.')
  return sentences


def _starved(ours: Path, control: Path) -> str:
  """A sentence where unlabeled images kept the network from fitting its labels; else nothing."""
  sides = []
  for stage in (ours, control):
    # A `score` stage of several networks has no log of its own.
    logs = [read_log(folder) for folder in run_folder.seed_folders(stage)]
    sides.append([log for log in logs if collapse.supervised_losses(log)])
  if not all(sides):
    return ''
  # Those of all: a network that also learns from pseudo-labels has more of them than its control.
  shared = set.intersection(*(collapse.supervised_losses(log) for side in sides for log in side))
  if not shared:
    return ''
  ends = []
  for side in sides:
    losses = [collapse.supervised_loss_at_end(log, shared) or 0.0 for log in side]
    ends.append(sum(losses) / len(losses))
  if not collapse.is_starved(*ends):
    return ''
  return (
    f' {ours.name} fits its labels worse (supervised loss {ends[0]:.2f} at the end, {control.name} '
    f'{ends[1]:.2f}): train longer, begin with labels_first, or lower the weight of its method.'
  )


def _repetitions(stage: Path) -> list[Repetition]:
  """The test scores of a stage, by seed.

  Raises:
    UserError: if the stage has none.
  """
  return [repetitions.read_repetition(folder) for folder in run_folder.seed_folders(stage)]
