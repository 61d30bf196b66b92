"""Organs on native grids: scores by hand, coarser where memory ends, what it cost."""

import time

import nibabel
import numpy as np
import pytest

from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.evaluation import organs, resource_meter
from ssl_jax.inference import volumes
from ssl_jax.io import nifti

HOW = VolumePreprocessing(spacing=(1.0, 1.0, 1.0), window=(0.0, 100.0), foreground_threshold=0.0)
WINDOWS = volumes.WindowSettings((8, 8, 8))


def _volume(tmp_path, shape=(14, 12, 10)):
  voxels = np.full(shape, -5.0)
  voxels[2:12, 2:10, 2:8] = 20
  voxels[4:8, 4:8, 3:7] = 80
  nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, 1.0, 2.0, 1.0])), tmp_path / 'a.nii.gz')
  return nifti.read_volume(tmp_path / 'a.nii.gz')


def bright(windows):
  organ = (windows > 0.5).astype(np.float32)
  return np.concatenate([1 - organ, organ], -1)


def test_an_organ_is_found_on_the_volumes_own_grid(tmp_path):
  volume = _volume(tmp_path)
  segmentation = volumes.segment_volume(bright, volume, HOW, WINDOWS)
  assert segmentation.ids.shape == volume.voxels.shape
  assert not segmentation.coarser
  scores = organs.organ_scores(
    (volume.voxels > 50).astype(np.uint8), segmentation.ids, volume.spacing, 'bo'
  )
  assert scores['dsc'] > 90  # halfway between voxels it may round


def test_where_memory_ends_voxels_become_coarser(tmp_path):
  volume = _volume(tmp_path)
  sizes = []

  def predict_fn(windows):
    sizes.append(windows.shape)
    return bright(windows)

  segmentation = volumes.segment_volume(predict_fn, volume, HOW, WINDOWS._replace(max_voxels=500))
  assert segmentation.coarser
  assert segmentation.ids.shape == volume.voxels.shape
  fewer = len(sizes)
  volumes.segment_volume(predict_fn, volume, HOW, WINDOWS)
  assert len(sizes) - fewer > fewer

  calls = []

  def exhausted(windows):
    calls.append(windows.shape)
    if len(calls) == 1:
      raise MemoryError
    return bright(windows)

  assert volumes.segment_volume(exhausted, volume, HOW, WINDOWS).coarser


def test_another_fault_is_not_taken_for_a_lack_of_memory(tmp_path):
  def broken(windows):
    raise ZeroDivisionError

  with pytest.raises(ZeroDivisionError):
    volumes.segment_volume(broken, _volume(tmp_path), HOW, WINDOWS)


def test_scores_by_hand():
  truth, predicted = np.zeros((2, 10, 10, 10), np.uint8)
  truth[2:6, 2:6, 2:6], predicted[2:6, 2:6, 3:7] = 1, 1
  truth[8, 8, 8] = 2  # missed; the third class is in neither
  scores = organs.organ_scores(
    truth, predicted, (1.0, 1.0, 1.0), ('none', 'a', 'b', 'c'), tolerance=1.0
  )
  assert scores['dsc/a'] == pytest.approx(75)
  assert scores['nsd/a'] == 100
  assert scores['hd95/a'] == pytest.approx(1)
  assert (scores['dsc/b'], scores['nsd/b'], scores['hd95/b']) == (0, 0, np.inf)
  assert not [name for name in scores if name.endswith('/c')]
  assert scores['dsc'] == pytest.approx((75 + 0) / 2)
  # As challenges score an organ that is in neither.
  scores = organs.organ_scores(
    truth, predicted, (1.0, 1.0, 1.0), ('none', 'a', 'b', 'c'), tolerance=1.0, count_absent=True
  )
  assert (scores['dsc/c'], scores['nsd/c'], scores['hd95/c']) == (100, 100, 0)
  assert scores['dsc'] == pytest.approx((75 + 0 + 100) / 3)


def test_a_case_without_organs_has_no_scores():
  nothing = np.zeros((4, 4, 4), np.uint8)
  assert organs.organ_scores(nothing, nothing, (1.0, 1.0, 1.0), ('none', 'a')) == {}


def test_what_is_unknown_is_not_scored():
  truth, predicted = np.zeros((2, 4, 4, 4), np.uint8)
  truth[:2] = predicted[:2] = 1
  truth[2], predicted[2] = 255, 1
  assert organs.organ_scores(truth, predicted, (1.0, 1.0, 1.0), ('none', 'a'))['dsc/a'] == 100


def test_each_organ_has_its_tolerance():
  # Plates of one voxel, two voxels (4 mm) apart: the faces between them are 2 mm apart, and
  # the outer ones 4 mm.
  truth, predicted = np.zeros((2, 6, 6, 12), np.uint8)
  truth[:, :, 2], predicted[:, :, 4] = 1, 1
  truth[:, :, 7], predicted[:, :, 9] = 2, 2
  given = truth, predicted, (1.0, 1.0, 2.0), ('none', 'liver', 'aorta')
  scores = organs.organ_scores(*given, tolerance={'liver': 4.0, 'aorta': 2.0})
  assert (scores['nsd/liver'], scores['nsd/aorta']) == (100, 50)
  # Without a number it is a voxel's shortest side, 1 mm; so it is for what the table leaves out.
  assert organs.organ_scores(*given)['nsd/liver'] == 0
  only_liver = organs.organ_scores(*given, tolerance={'liver': 4.0})
  assert (only_liver['nsd/liver'], only_liver['nsd/aorta']) == (100, 0)


def test_the_slices_of_the_truth_alone():
  truth, predicted = np.zeros((2, 6, 6, 12), np.uint8)
  # The truth ends two slices before the prediction does, at either end.
  truth[2:4, 2:4, 4:8], predicted[2:4, 2:4, 2:10] = 1, 1
  predicted[0, 0, 0] = 2
  given = truth, predicted, (1.0, 1.0, 1.0), ('none', 'aorta', 'spleen')
  # 2 * 16 / (16 + 32) of the whole volumes, 2 * 16 / (16 + 16) of the slices.
  assert organs.organ_scores(*given)['dsc/aorta'] == pytest.approx(200 / 3)
  scores = organs.organ_scores(*given, truth_slices=('aorta', 'spleen'))
  assert (scores['dsc/aorta'], scores['nsd/aorta'], scores['hd95/aorta']) == (100, 100, 0)
  # An organ that the truth has nowhere is scored on the whole volume.
  assert scores['dsc/spleen'] == 0


def test_of_an_organ_in_pieces_the_largest_is_kept():
  ids = np.zeros((6, 6, 6), np.uint8)
  ids[0, 0, :3], ids[1, 1, 3] = 1, 1  # they touch at corners only
  ids[3:5, 3:5, 3:5], ids[5, 0, 0] = 3, 3
  expected = ids.copy()
  expected[1, 1, 3] = expected[5, 0, 0] = 0
  np.testing.assert_array_equal(volumes.largest_components(ids), expected)


def test_the_table_has_a_line_for_each_organ():
  rows = [
    {'dsc/a': 80.0, 'nsd/a': 90.0, 'hd95/a': 2.0, 'dsc': 80.0, 'nsd': 90.0},
    {'dsc/a': 60.0, 'nsd/a': 70.0, 'hd95/a': np.inf, 'dsc': 60.0, 'nsd': 70.0},
  ]
  costs = [dict.fromkeys(organs.COSTS, 1.0), dict.fromkeys(organs.COSTS, 4.0)]
  rows = [row | cost for row, cost in zip(rows, costs, strict=True)]
  lines = organs.organ_table(rows, ('none', 'a')).splitlines()
  assert lines[2] == '| a | 70.00 ± 10.00 | 80.00 ± 10.00 | 2.0 (n=1) |'
  assert lines[3].startswith('| mean | 70.00')
  assert lines[7] == '| running time, s | 2.5 | 4.0 |'


def test_an_organ_that_no_case_has_is_no_line_of_the_table():
  costs = dict.fromkeys(organs.COSTS, 1.0)
  with_a = {'dsc/a': 80.0, 'nsd/a': 90.0, 'hd95/a': 0.0123, 'dsc': 80.0, 'nsd': 90.0}
  rows = [
    with_a | costs | {'voxels_true/a': 5, 'voxels_predicted/a': 4},
    costs | {'voxels_true/a': 0, 'voxels_predicted/a': 0, 'voxels_true/b': 0},
  ]
  table = organs.organ_table(rows, ('none', 'a', 'b'))
  # HD95 of micro-CT keeps its digits.
  assert '| a | 80.00 ± 0.00 (n=1) | 90.00 ± 0.00 (n=1) | 0.0123 (n=1) |' in table
  assert '| mean | 80.00 ± 0.00 (n=1) |' in table
  assert '| b |' not in table
  assert 'No test volume has b, and none was found; left out of the means.' in table
  # Without any organ there is still a table of costs.
  assert '| mean |' not in organs.organ_table([costs], ('none', 'a')).split('| of ')[0]


def test_an_organ_that_is_found_nowhere_is_named():
  truth, predicted = np.zeros((2, 4, 4, 4), np.uint8)
  truth[0], truth[1], predicted[0] = 1, 2, 1
  counts = organs.voxel_counts(truth, predicted, ('none', 'a', 'b'))
  assert counts == {
    'voxels_true/a': 16,
    'voxels_predicted/a': 16,
    'voxels_true/b': 16,
    'voxels_predicted/b': 0,
  }
  rows = [counts | organs.organ_scores(truth, predicted, (1.0, 1.0, 1.0), ('none', 'a', 'b'))]
  assert organs.table_notes(rows, ('none', 'a', 'b')) == [
    'The network never predicts b on the test volumes.'
  ]
  # The other way round: what is predicted and not there scores 0, which is said.
  rows = [organs.voxel_counts(predicted, truth, ('none', 'a', 'b'))]
  rows[0] |= organs.organ_scores(predicted, truth, (1.0, 1.0, 1.0), ('none', 'a', 'b'))
  assert rows[0]['dsc/b'] == 0
  assert organs.table_notes(rows, ('none', 'a', 'b')) == [
    'No test volume has b; where the network predicts it, it scores 0.'
  ]


def test_the_meter_sees_what_is_used():
  with resource_meter.ResourceMeter() as meter:
    held = np.ones(60 * 2**17)  # 60 MiB
    until = time.process_time() + 0.4
    while time.process_time() < until:
      pass
  cost = meter.cost
  assert held.all()
  assert cost['seconds'] >= 0.4
  assert cost['processor_area'] >= 40
  assert cost['memory_area'] > 0.4 * 60
  assert cost['peak_mib'] > 60
  seconds, mib, busy = meter.trace.T
  assert len(seconds) >= 4  # a look each 0.1 s
  assert seconds[0] == 0
  assert (np.diff(seconds) > 0).all()
  assert mib.max() == cost['peak_mib']
  assert busy.max() > 10
