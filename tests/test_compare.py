"""What a comparison says beside its verdict: margins, classes, labels, minutes, calibration."""

import json

import numpy as np
import pytest
from conftest import tiny_page

from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.calibration import Calibration
from ssl_jax.evaluation.comparison import verdicts
from ssl_jax.evaluation.comparison.repetitions import Repetition
from ssl_jax.io.run_log import read_log
from ssl_jax.run import run
from ssl_jax.stages import compare
from ssl_jax.stages.comparing.equal_minutes import seconds_per_step, steps_of


def page():
  config = tiny_page()
  config.unlock()
  config.update(num_seeds=3, steps=4, eval_every=4, log_every=1)
  verdict = dict(run='compare', of='fixmatch')
  config.stages = (
    dict(name='control', control_of='fixmatch'),
    {'name': 'more', 'control_of': 'fixmatch', 'data.labeled': 12},
    dict(name='fixmatch'),
    dict(name='longer', control_of='fixmatch', equal_minutes=('fixmatch', 'control')),
    dict(name='verdict', against='control', margin=50, curve=('more',), **verdict),
    dict(name='minutes', against='longer', differences=('equal_minutes',), **verdict),
  )
  return config


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  folder = tmp_path_factory.mktemp('compare') / 'run'
  return folder, run(page(), folder)


def test_a_verdict_says_more_than_yes_or_no(done):
  folder, figures = done
  lines = (folder / 'verdict' / 'verdict.txt').read_text().splitlines()
  assert 'points of test mIoU against the supervised control, 95 % interval' in lines[0]
  assert lines[1].startswith(('The two are equal within 50 points', 'fixmatch is not worse'))
  assert 'class' in lines[2]
  assert lines[3].startswith('The gain is worth ')
  assert ' with 6, ' in lines[3]
  assert lines[3].endswith(' with 12.')
  assert lines[4].endswith('% of the test images are worse than with control.')
  assert lines[5].startswith('A step of fixmatch took ')
  assert lines[6].startswith('Expected calibration error: ')
  assert 0 <= figures['verdict/test/images_worse'] <= 100
  assert 0 <= figures['verdict/test/miou_difference_p'] <= 1


def test_the_control_of_equal_minutes_has_steps_by_the_time_of_both(done):
  folder, _ = done
  longer = json.loads((folder / 'longer' / 'steps.json').read_text())
  times = [seconds_per_step(folder / name) for name in ('fixmatch', 'control')]
  assert longer['steps'] == max(4, round(4 * times[0] / times[1]))
  assert read_log(folder / 'longer' / 'seed_0')[-1]['step'] == longer['steps']
  # Decided once: a resumed training does not measure anew.
  assert steps_of(folder / 'longer', 99, ('nobody', 'noone')) == longer['steps']
  said = (folder / 'minutes' / 'verdict.txt').read_text()
  assert 'points of test mIoU against longer, a control of equal minutes, 95 % interval' in said


def test_several_verdicts_of_a_page_are_corrected(done):
  folder, _ = done
  lines = (folder / 'verdicts.txt').read_text().splitlines()
  assert [line.split(':')[0] for line in lines] == [
    'fixmatch against control',
    'fixmatch against longer',
  ]
  assert all('at its level of ' in line for line in lines)


def test_equal_minutes_need_pairs_of_stages_that_log_a_speed(tmp_path):
  config = page()
  config.stages = (
    dict(name='control', control_of='fixmatch'),
    dict(name='fixmatch'),
    dict(name='longer', control_of='fixmatch', equal_minutes=('fixmatch',)),
  )
  with pytest.raises(UserError, match='equal_minutes names pairs of stages'):
    run(config, tmp_path / 'run')
  (tmp_path / 'fixmatch').mkdir()
  with pytest.raises(UserError, match='fixmatch has logged no speed'):
    steps_of(tmp_path / 'longer', 4, ('fixmatch', 'control'))


def test_one_pair_that_was_disturbed_does_not_decide_equal_minutes(tmp_path):
  """Seconds a step of method and control: twice, twice, and a control beside other work."""
  seconds = {'method-0': 2, 'control-0': 1, 'method-1': 4, 'control-1': 2, 'method-2': 2}
  seconds['control-2'] = 2
  for name, of_a_step in seconds.items():
    (tmp_path / name).mkdir()
    line = json.dumps({'step': 1, 'steps_per_second': 1 / of_a_step})
    (tmp_path / name / 'metrics.jsonl').write_text(f'{line}\n')
  (tmp_path / 'longer').mkdir()
  assert steps_of(tmp_path / 'longer', 100, tuple(seconds)) == 200


def test_a_method_that_starves_its_labels_is_named(tmp_path):
  """Two seeds of the method, one of the control; the loss is that of the end."""

  def write(folder, end):
    folder.mkdir(parents=True)
    rows = [
      {'step': step, 'loss': 1.0, 'loss/supervised/labeled': 9.0 if step < 80 else end}
      for step in range(10, 110, 10)
    ]
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))

  write(tmp_path / 'control', 0.14)
  for seed, end in enumerate((0.30, 0.40)):
    write(tmp_path / 'fixmatch' / f'seed_{seed}', end)
    write(tmp_path / 'close' / f'seed_{seed}', end / 2)
  sentence = compare._starved(tmp_path / 'fixmatch', tmp_path / 'control')
  assert (
    'fixmatch fits its labels worse (supervised loss 0.35 at the end, control 0.14)' in sentence
  )
  assert compare._starved(tmp_path / 'close', tmp_path / 'control') == ''
  # A method that replaces the supervised one has no such loss.
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'metrics.jsonl').write_text('{"step": 10, "loss": 1.0}\n')
  assert compare._starved(tmp_path / 'other', tmp_path / 'control') == ''


def test_only_losses_that_both_have_are_compared(tmp_path):
  """A network that also learns from pseudo-labels has one more supervised loss."""

  def write(folder, **losses):
    folder.mkdir(parents=True)
    named = {f'loss/supervised/{view}': value for view, value in losses.items()}
    rows = [{'step': step, 'loss': 1.0, **named} for step in range(10, 110, 10)]
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))

  write(tmp_path / 'control', labeled=0.2)
  write(tmp_path / 'tuned', labeled=0.2, pseudo=0.9)
  assert compare._starved(tmp_path / 'tuned', tmp_path / 'control') == ''
  write(tmp_path / 'other', pseudo=0.9)
  assert compare._starved(tmp_path / 'other', tmp_path / 'control') == ''


def _repetition(*matrices):
  names = tuple(f'im{i}' for i in range(len(matrices)))
  return Repetition(np.stack(matrices), names, names)


def test_repetitions_without_a_known_pixel_are_left_out():
  known, unknown = np.array([[9, 1], [2, 8]]), np.zeros((2, 2), int)
  pairs = [_repetition(known), _repetition(unknown), _repetition(known)]
  ours, control, sentence = compare._scored_pairs(pairs, pairs, 'miou', confusion.mean_iou)
  assert len(ours) == len(control) == 2
  assert sentence == ' 1 repetitions whose test masks have no known pixel were left out.'
  with pytest.raises(UserError, match='No test image has a known pixel'):
    compare._scored_pairs(pairs[1:2], pairs[1:2], 'miou', confusion.mean_iou)


def test_one_test_image_has_no_interval():
  """The spread over test images cannot be known from one."""
  one = [_repetition(np.array([[9, 1], [2, 8]]))] * 3
  other = [_repetition(np.array([[9, 1], [4, 6]]))] * 3
  text = verdicts.verdict('fixmatch', compare.repetitions.compare(one, other, confusion.mean_iou))
  assert text.startswith('Too little to say whether fixmatch helps: +')
  assert '1 test images (or groups) are too few' in text
  assert 'interval' not in text


def test_calibration_by_hand():
  """Four pixels of 0.9, three right: off by 0.15; two of 0.6, one right: by 0.1; two unknown."""
  truth = np.array([1, 1, 1, 1, 0, 0, 255, 255])
  predicted = np.array([1, 1, 1, 0, 0, 1, 0, 0])
  confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.62, 0.62, 1.0, 1.0])
  calibration = Calibration()
  calibration.add(truth, predicted, confidence)
  assert calibration.error() == pytest.approx(100 * (4 / 6 * 0.15 + 2 / 6 * 0.12))
  assert np.isnan(Calibration().error())
