"""What the screen shows while a network trains."""

import sys
import time

import pytest

from ssl_jax.training import progress


@pytest.fixture
def lines(monkeypatch, capsys):
  """A function that returns what was printed; every line is, and none is held back."""
  monkeypatch.setattr(progress, 'LINE_EVERY', 0.0)
  return lambda: capsys.readouterr().err.splitlines()


def test_time_left_comes_from_training_steps_alone(lines):
  shown = progress.Progress('control', 0, 101)
  shown.skip(1)  # compiled for a minute, say
  shown.advance(50, 25.0, {'loss': 1.0})
  shown.close()
  # Two steps a second, and fifty steps to go.
  assert lines()[-1] == 'control: 51/101 steps  2.00 steps/s  0:25 left  loss 1.000'


def test_a_resumed_training_does_not_count_the_steps_before(lines):
  shown = progress.Progress('control', 1000, 1020)
  shown.advance(10, 5.0, {'loss': 1.0})
  assert '1010/1020 steps  2.00 steps/s  0:05 left' in lines()[-1]


def test_a_long_phase_is_named_with_its_seconds(lines, monkeypatch):
  monkeypatch.setattr(progress, 'LINE_EVERY', 0.02)
  shown = progress.Progress('control', 0, 10)
  with shown.phase('compiling the training step'):
    time.sleep(0.2)
  said = lines()
  assert len(said) > 2
  assert said[-1].startswith('control: 0/10 steps  compiling the training step, ')
  time.sleep(0.1)
  assert lines() == []  # its clock has stopped


def test_a_phase_says_what_becomes_known_of_it(lines, monkeypatch):
  monkeypatch.setattr(progress, 'LINE_EVERY', 0.02)
  shown = progress.Progress('control', 0, 10)
  with shown.phase('compiling') as phase:
    phase.add('')
    phase.add('last time 40 s')
    time.sleep(0.1)
  assert 'control: 0/10 steps  compiling (last time 40 s), ' in lines()[-1]


def test_a_log_file_gets_few_lines(capsys):
  shown = progress.Progress('control', 0, 100)
  for _ in range(50):
    shown.advance(1, 0.01, {'loss': 1.0})
  assert len(capsys.readouterr().err.splitlines()) == 1


def test_losses_and_mask_rates_are_shown(lines):
  shown = progress.Progress('fixmatch', 0, 10)
  figures = {'loss': 2.0, 'loss/fixmatch/unlabeled': 0.5, 'fixmatch/mask_rate': 0.25, 'other': 1.0}
  shown.advance(1, 1.0, {**figures, 'images_per_second': 16.0, 'share_of_peak': 0.354})
  expected = (
    '16 images/s  35% of the matrix peak  loss 2.000  fixmatch/unlabeled 0.500  '
    'fixmatch/mask_rate 25%'
  )
  assert lines()[-1].endswith(expected)


def test_waiting_for_images_is_said_where_it_is_much(lines):
  shown = progress.Progress('fixmatch', 0, 10)
  shown.advance(1, 1.0, {'loss': 2.0, 'waiting_for_data': 0.05})
  assert lines()[-1].endswith('left  loss 2.000')
  shown.advance(1, 1.0, {'loss': 2.0, 'waiting_for_data': 0.25})
  assert lines()[-1].endswith('25% of the time waiting for images  loss 2.000')


def test_a_terminal_of_no_columns_still_shows_the_line(monkeypatch, capsys):
  monkeypatch.setenv('COLUMNS', '0')
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
  shown = progress.Progress('control', 0, 10)
  shown.advance(5, 1.0, {'loss': 1.0})
  shown.close()
  assert 'control: 5/10 steps' in capsys.readouterr().err


@pytest.mark.parametrize(('seconds', 'text'), [(5.0, '0:05'), (65.0, '1:05'), (3661.0, '1:01:01')])
def test_a_clock(seconds, text):
  assert progress._clock(seconds) == text
