"""Intervals and verdicts against tables, other definitions, and what must hold."""

import numpy as np
import pytest
from scipy import stats

from ssl_jax.evaluation import confusion, statistics
from ssl_jax.evaluation.comparison import repetitions, verdicts
from ssl_jax.evaluation.comparison.repetitions import Compared, Repetition

SCORES = np.array([81.0, 83.0, 85.0])
CONTROL = np.array([80.0, 80.0, 80.0])


def difference(ours=SCORES, control=CONTROL, **kwargs):
  return statistics.mean_difference(np.asarray(ours, float), np.asarray(control, float), **kwargs)


def compared(ours=SCORES, control=CONTROL, labels=True, tests=True, **kwargs):
  return Compared(difference(ours, control, **({'units': 30} | kwargs)), labels, tests)


def gained(*points):
  """Scores that are so much above the control's 80."""
  return CONTROL + np.array(points)


def images(hits: np.ndarray) -> np.ndarray:
  """Matrices of images of 100 pixels, of which half are objects, of which some are found."""
  return np.stack([np.array([[50, 0], [50 - h, h]]) for h in hits])


def test_three_repetitions_give_students_interval():
  found = difference(percent=False)
  half = 4.302653 * 2 / np.sqrt(3)  # Student's t, 2 degrees of freedom
  assert found.mean == pytest.approx(3)
  assert (found.low, found.high) == (pytest.approx(3 - half), pytest.approx(3 + half))
  assert found.p == pytest.approx(stats.ttest_1samp([1, 3, 5], 0).pvalue)


def test_repetitions_are_paired():
  luck = np.array([0.0, 10.0, 20.0])
  assert difference(60 + luck + [1, 1.1, 0.9], 60 + luck).low > 0.5


def test_overlap_is_the_correction_of_nadeau_and_bengio():
  """Five folds: the variance is s2 (1 / 5 + 1 / 4) in place of s2 / 5."""
  scores = np.array([82.0, 80.5, 84.0, 81.0, 83.5])
  plain, corrected = (difference(scores, np.full(5, 80.0), overlap=o) for o in (0, 1 / 4))
  assert corrected.error**2 / plain.error**2 == pytest.approx((1 / 5 + 1 / 4) / (1 / 5))
  assert corrected.df == plain.df == 4


def test_shared_test_images_add_their_variance():
  found = difference(image_variance=1.0, units=101)
  between = 4 / 3
  assert found.error == pytest.approx(np.sqrt(between + 1))
  # Satterthwaite: more certain than the two degrees of freedom of three repetitions.
  assert found.df == pytest.approx((between + 1) ** 2 / (between**2 / 2 + 1 / 100))


@pytest.mark.parametrize('control', [1.0, 50.0, 96.0])
@pytest.mark.parametrize('spread', [0.5, 3.0, 30.0])
def test_intervals_stay_within_scores_and_agree_with_p(control, spread):
  offsets = np.array([-1.0, 0.2, 0.9])
  ours = np.clip(control + 1.5 + spread * offsets, 0, 100)
  found = difference(ours, np.full(3, control))
  assert 0 <= control + found.low <= control + found.mean <= control + found.high <= 100
  assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
  mean, low, high = statistics.mean_interval(ours)
  assert 0 <= low <= mean <= high <= 100


def test_the_scale_hardly_matters_in_the_middle():
  found = difference(np.array([51.0, 51.2, 51.4]), np.full(3, 50.0))
  plain = difference(np.array([51.0, 51.2, 51.4]), np.full(3, 50.0), percent=False)
  assert (found.low, found.high) == (
    pytest.approx(plain.low, abs=0.01),
    pytest.approx(plain.high, abs=0.01),
  )


def test_the_bootstrap_of_images_agrees_with_the_jackknife():
  rng = np.random.default_rng(0)
  control = [images(rng.integers(15, 40, 60)) for _ in range(3)]
  ours = [images(np.clip(rng.integers(18, 45, 60), 0, 50)) for _ in range(3)]
  names = [str(i) for i in range(60)]
  found = statistics.variance_over_images(ours, control, names, confusion.mean_iou, draws=4000)

  def mean(kept: np.ndarray) -> float:
    sides = [[confusion.mean_iou(m[kept].sum(0)) for m in side] for side in (ours, control)]
    return float(np.mean(sides[0]) - np.mean(sides[1]))

  left_out = [mean(np.arange(60) != i) for i in range(60)]
  jackknife = 59 / 60 * np.sum((np.array(left_out) - np.mean(left_out)) ** 2)
  assert found == pytest.approx(jackknife, rel=0.1)


def test_images_of_one_group_are_redrawn_together():
  """Ten copies of each image in a group say no more than the image."""
  rng = np.random.default_rng(0)
  control, ours = (images(rng.integers(15, 40, 12)) for _ in range(2))
  once = statistics.variance_over_images(
    [ours], [control], [str(i) for i in range(12)], confusion.mean_iou
  )
  often = [np.repeat(matrices, 10, axis=0) for matrices in (ours, control)]
  groups = [str(i // 10) for i in range(120)]
  assert statistics.variance_over_images(
    [often[0]], [often[1]], groups, confusion.mean_iou
  ) == pytest.approx(once)


def test_holm_by_hand():
  """Holm's own steps: 0.01 x 4, 0.013 x 3 raised to that, 0.03 x 2, 0.2 x 1."""
  assert statistics.holm([0.03, 0.01, 0.2, 0.013]) == pytest.approx([0.06, 0.04, 0.2, 0.04])


def test_intervals_at_holms_levels_leave_0_out_where_holm_does():
  cells = [
    difference(np.array([80 + d, 80 + 1.1 * d, 80 + 1.3 * d]), CONTROL)
    for d in (0.1, 0.5, 1.5, 3.0)
  ]
  cells += [difference(np.array([70.0, 85.0, 84.0]), CONTROL)]
  ps = [cell.p for cell in cells]
  for cell, p, level in zip(cells, statistics.holm(ps), statistics.holm_levels(ps), strict=True):
    low, high = cell.interval(level)
    assert (low > 0 or high < 0) == (p < 0.05)


def test_all_looks_together_spend_no_more_than_the_error():
  spent = [statistics.look_error(look) for look in range(1, 40)]
  assert sum(spent) <= statistics.ERROR
  assert spent[1] == spent[0] / 2


def test_as_many_repetitions_as_are_said_to_be_needed_show_the_difference_in_four_of_five():
  rng = np.random.default_rng(0)
  seen = difference(np.array([83.0, 80.5, 82.5, 81.5]), np.full(4, 80.0), percent=False)
  needed = statistics.repetitions_needed(seen)
  assert needed is not None
  shown = [
    difference(80 + rng.normal(seen.mean, seen.spread, needed), np.full(needed, 80.0)).p < 0.05
    for _ in range(2000)
  ]
  assert 0.75 < np.mean(shown) < 0.9
  assert statistics.repetitions_needed(seen._replace(overlap=3.0)) is None


def test_the_same_network_twice_shows_no_difference():
  same = [Repetition(images(np.arange(10, 30)), ('a',) * 20, ('a',) * 20)] * 3
  found = repetitions.compare(same, same, confusion.mean_iou).difference
  assert (found.mean, found.low, found.high) == (0, 0, 0)
  assert found.p == 1
  assert 'No difference shown' in verdicts.verdict(
    'a', Compared(found._replace(units=9), True, True)
  )


@pytest.mark.parametrize(
  ('gains', 'says'),
  [
    ([3, 3.1, 3.2], 'a helps: +3.10 points of test mIoU against the supervised control, 95 %'),
    ([-3, -3.1, -3.2], 'a HURTS: -3.10'),
    ([-1, 2, 0], 'No difference shown for a: +0.33'),
    # p = 0.035: below 5 %, above the half of it that a first look may spend.
    ([1.0, 2.0, 1.9], 'a may help: +1.63'),
  ],
)
def test_a_verdict_follows_from_p(gains, says):
  sentence = verdicts.verdict('a', compared(gained(*gains), CONTROL))
  assert sentence.startswith(says)
  assert '3 repetitions, each with its own seed, labels and test images' in sentence


def test_a_second_look_is_stricter_and_says_so():
  found = compared(gained(1.0, 1.4, 1.6), CONTROL)
  assert 0.0125 < found.difference.p < 0.025
  assert verdicts.verdict('a', found).startswith('a helps')
  second = verdicts.verdict('a', found, look=2)
  assert second.startswith('a may help')
  assert 'This is the second look at this comparison.' in second


def test_a_verdict_says_what_varied_and_what_it_compares_with():
  same = verdicts.verdict('a', compared(labels=False, tests=False), against='b')
  assert 'against b' in same
  assert '3 repetitions, each with its own seed, all with the same labels; 30 test images' in same


@pytest.mark.parametrize(
  ('count', 'units', 'says'),
  [
    (2, 30, 'It takes 3 repetitions or more (--config.num_seeds=3)'),
    (1, 30, 'It takes 3 repetitions or more'),
    (3, 2, '2 test images (or groups) are too few; give 6 or more'),
  ],
)
def test_too_little_gives_no_verdict_however_clear_it_looks(count, units, says):
  found = compared(np.array([90.0, 90.1, 90.2])[:count], CONTROL[:count], units=units)
  sentence = verdicts.verdict('a', found)
  assert sentence.startswith('Too little to say whether a helps: +10')
  assert says in sentence


def test_not_worse_by_a_margin():
  near = difference(gained(-0.1, 0.1, 0.05), CONTROL)
  assert 'equal within 1 points' in verdicts.not_worse('a', near, 1)
  better = difference(gained(2.9, 3.1, 3.0), CONTROL)
  assert verdicts.not_worse('a', better, 1).startswith('a is not worse by more than 1 points')
  wide = difference(gained(-9, 5, 2), CONTROL)
  assert 'is not excluded' in verdicts.not_worse('a', wide, 1)


def test_classes_are_corrected_for_their_number():
  clear = difference(gained(3, 3.05, 3.1), CONTROL)
  weak = difference(gained(1, 1.5, 1.8), CONTROL)
  assert weak.p < 0.05
  said = verdicts.where('a', {'nucleus': clear, 'cytoplasm': weak, 'background': weak})
  assert said == f'By class (Holm), a helps: nucleus ({clear}).'
  assert 'No single class' in verdicts.where('a', {'nucleus': weak, 'cytoplasm': weak})


def test_a_very_small_p_is_a_bound():
  assert verdicts.p_text(0.0131) == 'p = 0.013'
  assert verdicts.p_text(1e-9) == 'p < 0.001'


def test_a_gain_is_told_in_labels():
  """80 lies half way between the scores with 10 and with 40 labels: 20 on a logarithmic scale."""
  count, bound = verdicts.labels_worth(80.0, [(5, 60.0), (10, 75.0), (40, 85.0)])
  assert (count, bound) == (pytest.approx(20), False)
  assert verdicts.labels_worth(90.0, [(5, 60.0), (40, 85.0)]) == (40, True)
  assert verdicts.labels_worth(50.0, [(5, 60.0), (40, 85.0)]) is None


def test_images_that_got_worse_are_counted():
  ours = [Repetition(images(np.array([10, 20, 30, 40])), tuple('abcd'), tuple('abcd'))]
  control = [Repetition(images(np.array([20, 20, 20, 20])), tuple('abcd'), tuple('abcd'))]
  assert repetitions.fraction_worse(ours, control, confusion.mean_iou) == 25


def test_pages_with_several_comparisons_are_corrected():
  weak = difference(gained(1.0, 1.5, 1.8), CONTROL, units=30)
  clear = difference(gained(3, 3.05, 3.1), CONTROL, units=30)
  alone = verdicts.page_verdicts(['weak'], [weak], [1])
  assert 'may help' in alone[0]
  together = verdicts.page_verdicts(['weak', 'same', 'clear'], [weak, weak, clear], [1, 1, 1])
  assert 'no difference shown' in together[0]
  assert 'clear: helps' in together[2]
