"""Cells in whole images: windows that slide, what is suppressed, and the F1 of detected cells."""

import csv
import json

import numpy as np
import pytest
from conftest import tiny_cells, write_discs

from ssl_jax import predict, run_folder
from ssl_jax.datasets import points
from ssl_jax.errors import UserError
from ssl_jax.evaluation import detection as detection_scores
from ssl_jax.inference import detection
from ssl_jax.inference.detection import Cells
from ssl_jax.io import overlays
from ssl_jax.run import run
from ssl_jax.stages import compare, score
from ssl_jax.types import IGNORE

NAMES = ('background', 'blue', 'red')


def oracle(patches):
  """Knows a disc by its color: where the middle of the nearest one is, and of which class."""
  side = patches.shape[1]
  outputs = {'class': np.tile([0.9, 0.05, 0.05], (len(patches), 1)), 'x': np.zeros(len(patches))}
  outputs['y'] = outputs['x'].copy()
  rows, columns = np.mgrid[:side, :side]
  for i, patch in enumerate(patches):
    apart = np.hypot(rows - side // 2, columns - side // 2)
    disc = (np.abs(patch[..., 0] - patch[..., 2]) > 0.35) & (apart < 9)
    if disc.sum() > 60:
      red = patch[disc][:, 0].mean() > 0.5
      outputs['class'][i] = [0.02, 0.08, 0.9] if red else [0.02, 0.9, 0.08]
      outputs['y'][i] = (rows[disc].mean() + 0.5) / side
      outputs['x'][i] = (columns[disc].mean() + 0.5) / side
  return outputs


@pytest.mark.parametrize('stride', [4, 5])
def test_discs_are_found_where_they_are(tmp_path, stride):
  write_discs(tmp_path, images=4)
  whole = points.load(labeled=tmp_path, size=21, jitter=3).whole
  record = whole[0]
  cells = detection.detect_cells(oracle, record['image'] / 255, 21, stride=stride, radius=8)
  assert len(cells.points) == len(record['points'])
  pairs = detection_scores.match_points(cells.points, record['points'], 1.0)
  assert len(pairs) == len(cells.points)
  for detected, true in pairs:
    assert record['classes'][true] in (IGNORE, cells.classes[detected])
  counts = detection_scores.tp_fp_fn(cells, record['points'], record['classes'], NAMES, 6.0)
  assert (counts[:, 1:] == 0).all()
  scores = detection_scores.f1_scores(counts, NAMES)
  assert scores['f1'] == scores['detection_f1'] == scores['f1/red'] == 100


def test_a_window_votes_for_cells_near_its_center_and_with_high_probability():
  def predict_fn(patches):
    n = len(patches)
    return {
      'class': np.tile([0.4, 0.6], (n, 1)),
      'x': np.full(n, 0.5 + 5 / 21),
      'y': np.full(n, 0.5),
    }

  def detect(image, stride, **kwargs):
    return detection.detect_cells(predict_fn, image, 21, stride, radius=1, **kwargs)

  image = np.zeros((64, 64, 3), np.float32)
  assert len(detect(image, 4).points) == 0  # 5 pixels beside
  cells = detect(image, 8)
  assert len(cells.points) == 8 * 7  # the last in each row is put outside of the image
  np.testing.assert_allclose(sorted(set(cells.points[:, 0])), 3 + 8 * np.arange(8), atol=1e-5)
  np.testing.assert_allclose(sorted(set(cells.points[:, 1])), 3 + 8 * np.arange(7) + 5, atol=1e-5)
  assert len(detect(image, 8, score=0.7).points) == 0
  assert len(detect(image[:, :60], 8).points) == 8 * 7


def test_of_close_cells_the_surest_is_kept():
  at, weights = np.array([[0.0, 0], [0, 3], [0, 6], [20, 20]]), np.array([0.6, 0.9, 0.7, 0.5])
  assert detection.non_max_suppression(at, weights, 4.0) == [1, 3]
  assert detection.non_max_suppression(at, weights, 3.0) == [1, 2, 0, 3]  # 3 is not closer


def test_votes_are_joined_by_hand():
  at = np.array([[10.0, 10], [10, 13], [10, 20], [40, 40]])
  probs = np.array([[0.2, 0.8, 0], [0.4, 0.1, 0.5], [0.3, 0, 0.7], [0.1, 0.2, 0.7]])
  cells = detection.cluster_votes(at, probs, 8.0)  # the first two are one cell, joined within 4
  order = np.argsort(cells.points[:, 1])
  np.testing.assert_allclose(cells.points[order[0]], [10, (0.8 * 10 + 0.6 * 13) / 1.4])
  assert cells.classes[order].tolist() == [1, 2, 2]  # 0.9 of class 1 against 0.5
  np.testing.assert_allclose(cells.scores[order], [0.7, 0.7, 0.9])
  assert len(detection.cluster_votes(at, probs, 9.0).points) == 2  # the third is 8.7 pixels beside
  assert len(detection.cluster_votes(at[:0], probs[:0], 8.0).points) == 0


def test_pairs_are_as_many_as_can_be_then_the_closest():
  detected, annotated = np.array([[0.0, 0], [0, 4]]), np.array([[0.0, 3], [0, 8]])
  match = detection_scores.match_points
  assert match(detected, annotated, 5.0) == [(0, 0), (1, 1)]  # not (1, 0) alone, which is closer
  assert match(detected, annotated, 3.5) in ([(1, 0)], [(0, 0)])
  assert match(detected, annotated, 2.0) == [(1, 0)]
  assert match(detected, np.zeros((0, 2)), 5.0) == []


def test_hits_false_and_missed_by_hand():
  at = np.array([[0.0, 0], [50, 50], [90, 90], [70, 0]])
  truth_classes = np.array([1, 2, IGNORE, 2])
  cells = Cells(
    np.array([[1.0, 0], [50, 52], [90, 91], [30, 30], [0, 3]]),
    np.array([1, 1, 1, 2, 1]),
    np.full(5, 0.9),
  )
  counts = detection_scores.tp_fp_fn(cells, at, truth_classes, NAMES, 6.0)
  assert counts[0].tolist() == [3, 2, 1]  # any class: three cells, two too many, one missed
  assert counts[1].tolist() == [1, 2, 0]  # of four one hits, one lies on a cell nobody named
  assert counts[2].tolist() == [0, 1, 2]
  scores = detection_scores.f1_scores(counts, NAMES)
  assert scores['detection_f1'] == pytest.approx(100 * 6 / 9)
  assert scores['detection_precision'] == pytest.approx(60)
  assert scores['detection_recall'] == pytest.approx(75)
  assert scores['f1/blue'] == pytest.approx(50)
  assert scores['f1'] == pytest.approx(25)
  nothing = detection_scores.f1_scores(np.zeros((3, 3), int), NAMES)
  assert nothing['detection_f1'] == 0
  assert np.isnan(nothing['f1'])


def test_a_csv_of_cells_can_be_read_as_points(tmp_path):
  cells = Cells(np.array([[10.25, 20.5]]), np.array([2]), np.array([0.75]))
  lines = detection.cells_to_csv(cells, NAMES).splitlines()
  assert lines == ['x,y,class,score', '21.00,10.75,red,0.7500']
  write_discs(tmp_path)
  (tmp_path / 'points' / 'disc0.csv').write_text(detection.cells_to_csv(cells, NAMES))
  splits = points.load(labeled=tmp_path, size=15, jitter=3, test_fraction=0)
  window = splits.labeled.windows[0]
  assert (window.point, window.label) == ((10.25, 20.5), 2)


def test_rings_have_the_color_of_their_class():
  image = np.zeros((40, 40, 3), np.uint8)
  drawn = overlays.draw_cells(image, np.array([[20.0, 20], [8, 8]]), np.array([1, IGNORE]))
  assert drawn[20, 14].any()
  assert not drawn[20, 20].any()
  assert len(set(drawn[8, 2].tolist())) == 1  # gray


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
  """A run of cells: a control and HydraMix-Net, long enough to tell red discs from blue."""
  folder = tmp_path_factory.mktemp('cells')
  write_discs(folder / 'data', images=8, side=100)
  return folder, run(tiny_cells(folder / 'data'), folder / 'run')


def test_a_trained_network_finds_the_discs_of_images_it_has_not_seen(learned):
  folder, done = learned
  assert done['control/test/balanced_accuracy'] > 90
  assert done['cells/test/f1'] > 75
  assert done['cells/test/detection_f1'] > 75
  names = sorted(path.stem for path in (folder / 'run' / 'cells' / 'points').iterdir())
  with (folder / 'run' / 'cells' / 'counts.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert sorted({row['image'] for row in rows}) == names
  assert {row['class'] for row in rows} == {'any', 'blue', 'red'}


def test_a_run_of_cells_says_what_helped_and_shows_it(learned):
  folder, done = learned
  verdict = (folder / 'run' / 'verdict' / 'verdict.txt').read_text()
  assert 'points of test balanced accuracy against the supervised control' in verdict
  assert 'verdict/test/balanced_accuracy_difference' in done
  settings = run_folder.read_settings(folder / 'run' / 'verdict')
  sides = dict(of='control', against='hydramix')
  compare.stage(settings, folder / 'run' / 'turned', lambda: False, **sides)
  verdict = (folder / 'run' / 'turned' / 'verdict.txt').read_text()
  assert 'points of test balanced accuracy against hydramix, ' in verdict
  for name in ('picture', 'confusion', 'centroids', 'curves'):
    assert (folder / 'run' / 'verdict' / f'{name}.png').stat().st_size > 5000
  assert (folder / 'run' / 'cells' / 'picture.png').exists()
  with (folder / 'run' / 'control' / 'test' / 'patches.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  right = np.mean([row['class'] == row['predicted'] for row in rows])
  assert done['control/test/accuracy'] == pytest.approx(100 * right)
  cells = [row for row in rows if row['class'] != 'background']
  off = [
    np.hypot(*(float(row[axis]) - float(row[f'true_{axis}']) for axis in 'xy')) for row in cells
  ]
  assert done['control/test/pixels_off'] == pytest.approx(np.mean(off), abs=0.01)


def test_a_network_of_cells_is_scored_again_and_its_best_step_is_found(learned, tmp_path):
  folder, done = learned
  settings = run_folder.read_settings(folder / 'run' / 'control')
  again = score.stage(settings, folder / 'run' / 'again', lambda: False, of='control')
  assert again['test/balanced_accuracy'] == done['control/test/balanced_accuracy']
  assert again['test/pixels_off'] == done['control/test/pixels_off']
  page = tiny_cells(folder / 'data')
  page.unlock()
  write_discs(tmp_path / 'val', images=1, seed=7)
  page.update(steps=4, eval_every=2, checkpoint='best', stages=page.stages[1:2])
  page.data.val = str(tmp_path / 'val')
  chosen = run(page, tmp_path / 'run')
  lines = [
    json.loads(x) for x in (tmp_path / 'run/hydramix/metrics.jsonl').read_text().split('\n') if x
  ]
  scores = {x['step']: x['val/balanced_accuracy'] for x in lines if 'val/score' in x}
  assert scores[chosen['steps']] == max(scores.values()) == chosen['val/balanced_accuracy']


def test_predict_writes_points_and_goes_on_past_a_broken_file(learned, tmp_path, capsys):
  folder, _ = learned
  images = write_discs(tmp_path / 'new', images=2, side=70, seed=9)
  (tmp_path / 'new' / 'images' / 'broken.png').write_bytes(b'no image')
  arguments = ['--run', folder / 'run', '--images', tmp_path / 'new' / 'images']
  arguments = [*map(str, arguments), '--out', str(tmp_path / 'out'), '--stride', '5']
  assert predict.main(arguments) == 1
  printed = capsys.readouterr()
  assert 'broken.png' in printed.err
  assert 'Classes: blue, red' in printed.out
  hits = 0
  for name, marks in images.items():
    with (tmp_path / 'out' / 'points' / f'{name}.csv').open(newline='') as file:
      detected = [(float(row['x']), float(row['y'])) for row in csv.DictReader(file)]
    annotated = np.array([mark[:2] for mark in marks])
    hits += len(detection_scores.match_points(np.array(detected), annotated, 6.0))
    assert (tmp_path / 'out' / 'overlays' / f'{name}.png').exists()
  assert hits > 0.6 * sum(map(len, images.values()))
  assert predict.main([*arguments, '--score', '2']) == 1
  assert '--score in the range 0 to 1' in capsys.readouterr().err


def test_the_same_command_does_nothing_twice(learned, capsys):
  folder, done = learned
  assert run(tiny_cells(folder / 'data'), folder / 'run') == done
  assert run_folder.read_stats(folder / 'run' / 'control').task == 'cells'


def _refused(folder, says, **changes):
  config = tiny_cells(folder)
  config.unlock()
  for key, value in changes.items():
    config[key] = value
  with pytest.raises(UserError, match=says):
    run(config, folder / 'run')


def test_what_is_not_for_cells_is_refused_at_the_start(tmp_path):
  write_discs(tmp_path, images=8, side=100)
  views = dict(labeled=dict(source='labeled'))
  alone = dict(name='one', methods=dict(supervised=dict(weight=1.0)), batch=dict(labeled=4))
  unet = dict(name='unet', widths=(4, 8))
  _refused(tmp_path, r'unet \(of models\) is not for cells.*hydra, wideresnet are', model=unet)
  fixmatch = dict(fixmatch=dict(weight=1.0))
  _refused(
    tmp_path,
    r'fixmatch \(of methods\) is not for cells',
    stages=(dict(name='f', methods=fixmatch),),
  )
  ranked = (alone, dict(name='r', run='rank', of='one'))
  _refused(
    tmp_path, r'rank \(of stages\) is not for cells', stages=ranked, num_snapshots=2, views=views
  )
  pasted = dict(labeled=dict(source='labeled', cutmix=dict(p=1.0)))
  _refused(tmp_path, 'cutmix pastes pixels', stages=(alone,), views=pasted)
  _refused(
    tmp_path, r'size=\(24, 24\), but data.size makes patches of \(21, 21\)', crop_size=(24, 24)
  )
  wrong = (alone, dict(name='c', run='detect', of='one', stride=0))
  _refused(tmp_path, 'stride=0 is not above 0', stages=wrong, views=views)
  unsure = (alone, dict(name='c', run='detect', of='one', score=1.5))
  _refused(tmp_path, 'score=1.5 is not in the range 0 to 1', stages=unsure, views=views)


def test_cells_are_not_for_masks(page, tmp_path):
  page.unlock()
  page.stages = (dict(name='a'), dict(name='b', run='detect', of='a'))
  with pytest.raises(UserError, match=r'detect \(of stages\) is not for masks'):
    run(page, tmp_path / 'run')
