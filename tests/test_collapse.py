"""The watch for networks that teach themselves nonsense."""

import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.io.run_log import read_log
from ssl_jax.run import run
from ssl_jax.training import collapse

SHARES = {'background': 0.8, 'cell': 0.2}


def _seen(cell, **more):
  return {'targets/background': 1 - cell, 'targets/cell': cell, 'targets/entropy': 0.1, **more}


def test_figures_by_hand():
  answers = [jnp.array([[[1.0, 0.0], [0.5, 0.5]]]), jnp.array([[[0.0, 1.0], [0.5, 0.5]]])]
  figures = collapse.target_metrics(answers)
  assert figures['targets/0'] == pytest.approx(0.5)
  assert figures['targets/entropy'] == pytest.approx(0.5)  # two pixels know all, two know nothing


def test_a_lost_class_is_named_with_both_shares():
  assert collapse.find_collapse(_seen(0.15), SHARES) == []
  assert collapse.find_collapse(_seen(0.01), SHARES) == [
    'its targets hold 1.0% cell, the labels 20.0%'
  ]
  assert (
    collapse.find_collapse(_seen(0.0), {'background': 1.0, 'cell': 0.0}) == []
  )  # nobody drew any


def test_a_supervised_network_that_sees_one_class_is_named():
  """Its mean probabilities would look healthy: they are near the fractions of the labels."""
  logits = jnp.log(jnp.array([[[0.8, 0.2], [0.8, 0.2]]]))
  figures = collapse.predicted_metrics([logits])
  assert [float(value) for value in figures.values()] == [1.0, 0.0]
  names = collapse.prediction_names(('background', 'cell'))
  named = {names[name]: float(value) for name, value in figures.items()}
  assert collapse.find_collapse(named, SHARES) == [
    'its predictions hold 0.0% cell, the labels 20.0%'
  ]
  assert collapse.find_collapse(named | {'predictions/cell': 0.03}, SHARES) == []
  lines = [{'step': step, 'loss': 1.0, **named} for step in range(1, 101)]
  assert collapse.collapse_at_end(lines, SHARES) == [
    'its predictions hold 0.0% cell, the labels 20.0%'
  ]
  # Of patches, whose fractions nobody knows.
  assert collapse.find_collapse(named, None) == ['nearly all pixels (100.0%) are background']


def test_a_loss_far_above_that_of_the_control_is_starved():
  assert collapse.is_starved(0.30, 0.14)
  assert not collapse.is_starved(0.20, 0.14)
  # Both fit their labels.
  assert not collapse.is_starved(0.02, 0.01)
  assert not collapse.is_starved(0.0, 0.0)


def test_clusters_that_became_one_are_named():
  one = {'targets/cluster 0': 0.999, 'targets/cluster 1': 0.001, 'targets/entropy': 0.0}
  assert collapse.find_collapse(one, None) == ['nearly all pixels (99.9%) are cluster 0']
  assert (
    collapse.find_collapse(one | {'targets/cluster 0': 0.9, 'targets/cluster 1': 0.1}, None) == []
  )


def test_a_method_that_is_confident_nowhere_is_named():
  faults = collapse.find_collapse(_seen(0.2, **{'fixmatch/mask_rate': 0.001}), SHARES)
  assert faults == ['fixmatch is confident in 0.1% of the pixels']


def test_a_class_that_nobody_vouches_for_is_named():
  """The total looks healthy all the while."""
  rates = {'fixmatch/mask_rate': 0.94, 'fixmatch/mask_rate/cell': 0.0}
  faults = collapse.find_collapse(_seen(0.2, **rates), SHARES)
  assert faults == ['fixmatch is confident in 0.0% of what it takes for cell']
  assert collapse.find_collapse(_seen(0.2, **rates), {'background': 1.0, 'cell': 0.0}) == []
  assert collapse.metric_names(('background', 'cell'), ['fixmatch']) == {
    'targets/0': 'targets/background',
    'targets/1': 'targets/cell',
    'fixmatch/mask_rate/0': 'fixmatch/mask_rate/background',
    'fixmatch/mask_rate/1': 'fixmatch/mask_rate/cell',
  }


def test_a_collapse_is_told_once_and_only_when_it_lasts():
  watch = collapse.Watch(100)
  # At 20 nothing is settled; from 30 to 40 the network recovers.
  told = [watch.lasting_since(step, faulty=step != 40) for step in range(10, 110, 10)]
  assert told == [None, None, None, None, None, None, 50, None, None, None]
  watch = collapse.Watch(100)
  assert not any(watch.lasting_since(step, faulty=step < 30) for step in range(10, 110, 10))


def test_the_supervised_loss_is_that_of_the_end():
  lines = [{'step': s, 'loss': 9.0, 'loss/supervised/labeled': 1.0 / s} for s in range(1, 101)]
  expected = np.mean([1.0 / s for s in range(81, 101)])
  assert collapse.supervised_loss_at_end(lines) == pytest.approx(expected)
  assert collapse.supervised_loss_at_end([{'step': 1, 'loss': 0.5}]) is None
  assert collapse.supervised_loss_at_end([]) is None


def test_the_end_of_a_run_counts_and_not_its_beginning():
  lines = [
    {'step': step, 'loss': 1.0, **_seen(0.2 if step > 80 else 0.0)} for step in range(1, 101)
  ]
  assert collapse.collapse_at_end([*lines, {'step': 100, 'test/miou': 3.0}], SHARES) == []
  lines = [{**line, **_seen(0.0)} for line in lines]
  assert collapse.collapse_at_end(lines, SHARES) == ['its targets hold 0.0% cell, the labels 20.0%']
  assert collapse.collapse_at_end([], SHARES) == []


def test_a_collapsed_run_says_so_in_its_log_its_figures_and_its_verdict(page, tmp_path, capfd):
  page.unlock()
  page.log_every, page.methods.fixmatch.threshold = 2, 1.0  # nothing is ever so sure
  done = run(page, tmp_path)
  assert done['fixmatch/collapsed'] == 1.0
  assert 'control/collapsed' not in done or done['control/collapsed'] == 0.0
  last = [line for line in read_log(tmp_path / 'control') if 'loss' in line][-1]
  assert sum(value for name, value in last.items() if name.startswith('predictions/')) == (
    pytest.approx(1.0)
  )
  of_fixmatch = [line for line in read_log(tmp_path / 'fixmatch') if 'loss' in line][-1]
  assert not any(name.startswith('predictions/') for name in of_fixmatch)
  assert 'is confident in 0.0% of the pixels' in capfd.readouterr().out
  assert 'fixmatch collapsed with seed 0' in (tmp_path / 'verdict' / 'verdict.txt').read_text()


def test_without_unlabeled_images_nothing_is_watched():
  assert np.array_equal(collapse.collapse_at_end([{'step': 1, 'loss': 0.5}], SHARES), [])
