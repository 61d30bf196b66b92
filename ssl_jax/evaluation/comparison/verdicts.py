"""Sentences that say what a comparison shows, and how sure that is."""

from collections.abc import Mapping, Sequence

import numpy as np

from ssl_jax.evaluation import statistics
from ssl_jax.evaluation.comparison.repetitions import Compared
from ssl_jax.evaluation.statistics import ERROR, MIN_REPETITIONS, MIN_UNITS, Difference

ORDINALS = {1: 'first', 2: 'second', 3: 'third', 4: 'fourth', 5: 'fifth'}


def verdict(
  name: str,
  compared: Compared,
  metric: str = 'mIoU',
  against: str = 'the supervised control',
  look: int = 1,
) -> str:
  """Returns a sentence or two that say whether `name` helps.

  Args:
    name: of the system.
    compared: the system and its control.
    metric: of the scores.
    against: what the control is called.
    look: how many times this comparison was judged, this one included.
  """
  difference = compared.difference
  points = f'{difference.mean:+.2f} points of test {metric} against {against}'
  interval = f'95 % interval [{difference.low:+.2f}, {difference.high:+.2f}]'
  over = _over(compared)
  missing = _missing(compared)
  if missing:
    # Nothing can be said of other test images where there is one.
    known = difference.units > 1 and not np.isnan(difference.low)
    shown = f', {interval}' if known else ''
    return f'Too little to say whether {name} helps: {points}{shown}, {over}. {missing}'
  p = difference.p
  allowed = statistics.look_error(look)
  text = f'{points}, {interval}, {over} ({p_text(p)})'
  better = difference.mean > 0
  if p < allowed:
    sentence = f'{name} {"helps" if better else "HURTS"}: {text}.'
  elif p < ERROR:
    may = 'may help' if better else 'may hurt'
    # The interval leaves 0 out, and still this is no verdict; the reader must see why.
    sentence = (
      f'{name} {may}: {text}; a {_ordinal(look)} look must have p < {allowed:.3g}, because the '
      f'rest of the 5 % is kept for repetitions that are added later.'
    )
  else:
    sentence = f'No difference shown for {name}: {text}; the interval includes 0.'
  if look > 1:
    sentence += f' This is the {_ordinal(look)} look at this comparison.'
  if p >= allowed:
    sentence += _advice(difference, statistics.look_error(look + 1))
  return sentence


def p_text(p: float) -> str:
  """A p-value with two digits; of very small ones a bound."""
  return f'p = {p:.2g}' if p >= 0.001 else 'p < 0.001'


def _ordinal(number: int) -> str:
  return ORDINALS.get(number, f'{number}th')


def _over(compared: Compared) -> str:
  """Over what the mean and the interval are."""
  difference = compared.difference
  r, units = difference.repetitions, difference.units
  if r == 1:
    return f'1 repetition, {units} test images redrawn'
  own = 'each with its own seed and labels'
  if compared.labels_vary and compared.tests_vary:
    own = 'each with its own seed, labels and test images'
  elif compared.tests_vary:
    own = 'each with its own seed and test images'
  elif not compared.labels_vary:
    own = 'each with its own seed, all with the same labels'
  redrawn = '' if compared.tests_vary else f'; {units} test images redrawn'
  return f'{r} repetitions, {own}{redrawn}'


def _missing(compared: Compared) -> str:
  """What is missing for a verdict, in a sentence; empty where nothing is."""
  difference = compared.difference
  if difference.units < MIN_UNITS:
    return (
      f'{difference.units} test images (or groups) are too few; give {MIN_UNITS} or more in all.'
    )
  if difference.repetitions < MIN_REPETITIONS:
    return (
      f'It takes {MIN_REPETITIONS} repetitions or more (--config.num_seeds={MIN_REPETITIONS}), '
      f'because nobody can tell the spread from {difference.repetitions}.'
    )
  return ''


def _advice(difference: Difference, error: float) -> str:
  """How many repetitions would show a difference of this size, in a sentence."""
  needed = statistics.repetitions_needed(difference, error)
  if needed is None:
    if not difference.mean:
      return ''
    limit = 'test images' if difference.image_variance else 'labeled images'
    return f' More repetitions alone would not show a difference of this size; more {limit} might.'
  if needed <= difference.repetitions:
    return ''
  return (
    f' A difference of this size would show with about {needed} repetitions '
    f'(--config.num_seeds={needed} goes on in the same folder).'
  )


def not_worse(name: str, difference: Difference, margin: float | int, look: int = 1) -> str:
  """Returns a sentence on whether `name` is not worse, or equal, by more than `margin` points.

  Two one-sided tests (Schuirmann 1987).
  """
  allowed = statistics.look_error(look) / 2
  worse = difference.p_beyond(-margin, 'above')
  better = difference.p_beyond(margin, 'below')
  if worse < allowed and better < allowed:
    return (
      f'The two are equal within {margin:g} points ({p_text(max(worse, better))}, two '
      f'one-sided tests).'
    )
  if worse < allowed:
    return f'{name} is not worse by more than {margin:g} points ({p_text(worse)}).'
  return f'That {name} is worse by more than {margin:g} points is not excluded.'


def where(name: str, by_class: Mapping[str, Difference], error: float = ERROR) -> str:
  """Returns a sentence on the classes for which `name` helps or hurts, corrected for their number.

  Args:
    name: of the system.
    by_class: the difference of each class.
    error: rate of wrong sentences, over all classes together.
  """
  adjusted = statistics.holm([difference.p for difference in by_class.values()])
  sentences = []
  for word, sign in (('helps', 1), ('HURTS', -1)):
    shown = [
      f'{of_class} ({difference})'
      for (of_class, difference), p in zip(by_class.items(), adjusted, strict=True)
      if p < error and difference.mean * sign > 0
    ]
    if shown:
      sentences.append(f'By class (Holm), {name} {word}: {", ".join(shown)}.')
  return ' '.join(sentences) or 'No single class shows a difference (Holm).'


def page_verdicts(
  names: Sequence[str], differences: Sequence[Difference], looks: Sequence[int]
) -> list[str]:
  """Returns a line for each of several comparisons of one page, corrected for their number.

  Args:
    names: of the comparisons.
    differences: what each shows.
    looks: how many times each was judged.
  """
  ps = [difference.p for difference in differences]
  adjusted = statistics.holm(ps)
  levels = statistics.holm_levels(ps)
  lines = []
  for name, difference, p, level, look in zip(
    names, differences, adjusted, levels, looks, strict=True
  ):
    word = 'no difference shown'
    too_few = difference.repetitions < MIN_REPETITIONS or difference.units < MIN_UNITS
    if too_few:
      word = 'too little to say'
    elif p < statistics.look_error(look):
      word = 'helps' if difference.mean > 0 else 'HURTS'
    elif p < ERROR:
      word = 'may help' if difference.mean > 0 else 'may hurt'
    low, high = difference.interval(level)
    lines.append(
      f'{name}: {word}, {difference}, at its level of {100 * level:.3g} % '
      f'[{low:+.2f}, {high:+.2f}], {p_text(p)}'
    )
  return lines


def labels_worth(
  gain_score: float, curve: Sequence[tuple[int, float]]
) -> tuple[float, bool] | None:
  """Returns how many labels a control would need for a score, from its learning curve.

  Interpolated in the logarithm of the number of labels.

  Args:
    gain_score: of the system that has the fewest labels of the curve.
    curve: number of labels and the control's score, in the order of the labels.

  Returns:
    The number, and whether it is only a lower bound, as the curve ends below the score; None if
    the score is below the curve's beginning.
  """
  counts = [count for count, _ in curve]
  scores = [score for _, score in curve]
  if gain_score < scores[0]:
    return None
  for k in range(1, len(curve)):
    if scores[k] >= gain_score:
      part = (gain_score - scores[k - 1]) / (scores[k] - scores[k - 1])
      logs = np.log(counts[k - 1 : k + 1])
      return float(np.exp(logs[0] + part * (logs[1] - logs[0]))), False
  return float(counts[-1]), True
