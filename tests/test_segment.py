"""Volumes from folders to organs: teacher, pseudo-labels, fine-tuning, scores, and new volumes."""

import csv
import runpy
import shutil

import nibabel
import numpy as np
import pytest
from conftest import ROOT, write_volumes

from ssl_jax import predict, registry
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import organs
from ssl_jax.io import mask_store, nifti
from ssl_jax.io.run_log import read_done
from ssl_jax.parsing.stage_list import plain, resolve
from ssl_jax.run import run

STAGES = ('teacher', 'labels1', 'tuned1', 'control', 'labels2', 'tuned2', 'tuned2-organs')


def _page(folder, **changes):
  """The paper's page with two rounds, of a network that learns the balls of `folder`."""
  config = runpy.run_path(str(ROOT / 'configs' / 'flare22.py'))['get_config']('2')
  config.unlock()
  small = {'data.labeled': str(folder / 'labeled'), 'data.num_labeled': 3}
  small |= {'data.window': (0.0, 150.0), 'data.foreground_threshold': None}
  small |= {'data.unlabeled': None, 'data.classes': ('none', 'bright', 'dark'), 'data.seed': 1}
  small |= {'data.cache': str(folder / 'cache'), 'crop_size': (16, 16, 16)}
  small |= {'model.widths': (6, 12), 'optimizer.lr': 0.02, 'steps': 40, 'eval_every': 40}
  config.update_from_flattened_dict(small | changes)
  few = dict(steps=4, eval_every=4, batch=dict(labeled=2, pseudo=2), min_voxels=20)
  stages = {stage['name']: dict(stage) for stage in config.to_dict()['stages']}
  for stage in stages.values():
    stage |= {key: value for key, value in few.items() if key in stage}
  stages['labels2'] |= dict(agreement=0.5)
  stages['tuned2-organs'] |= dict(batch=2, overlap=0.5, blend='gaussian')
  # The page's are of thirteen organs.
  stages['tuned2-organs'] |= dict(tolerance={'bright': 2.0, 'dark': 2.0}, truth_slices=())
  config.stages, config.table = tuple(stages[name] for name in STAGES), ()
  return config.lock()


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  folder = tmp_path_factory.mktemp('volumes')
  write_volumes(folder / 'labeled')
  run(_page(folder), folder / 'run')
  return folder


def _rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_organs_are_found_and_scored_on_the_grid_of_the_file(finished):
  stage = finished / 'run' / 'tuned2-organs'
  rows, done = _rows(stage / 'cases.csv'), read_done(stage)
  assert len(rows) == 2  # a quarter of eight
  assert done['test/dsc'] > 70
  assert done['test/dsc'] == pytest.approx(np.mean([float(row['dsc']) for row in rows]))
  assert done['test/hd95/bright'] < 10
  for row in rows:
    original = nibabel.load(finished / 'labeled' / 'masks' / f'{row["name"]}.nii.gz')
    found = nibabel.load(stage / 'masks' / f'{row["name"]}.nii.gz')
    np.testing.assert_allclose(found.affine, original.affine)
    truth, ids = np.asarray(original.dataobj), np.asarray(found.dataobj)
    dice = 200 * ((truth == 1) & (ids == 1)).sum() / ((truth == 1).sum() + (ids == 1).sum())
    assert float(row['dsc/bright']) == pytest.approx(dice)
    trace = _rows(stage / 'traces' / f'{row["name"]}.csv')
    assert float(trace[-1]['seconds']) == pytest.approx(float(row['seconds']), abs=0.01)
    assert max(float(look['mib']) for look in trace) == pytest.approx(float(row['peak_mib']), abs=1)
  text = (stage / 'organs.md').read_text()
  assert '| bright |' in text
  assert '| running time, s |' in text


def test_pseudo_labels_are_volumes_that_pass_the_filters(finished):
  first, second = (finished / 'run' / f'labels{i}' for i in (1, 2))
  kept = [row['name'] for row in _rows(first / 'labels.csv')]
  done = read_done(first)
  assert 0 < len(kept) == 3 - done['labels/left_out']  # of six, three have masks
  for name in kept:
    counts = np.bincount(mask_store.read_mask(first, name).ravel(), minlength=3)
    assert counts[1:].min() >= 20
  assert {row['name'] for row in _rows(second / 'labels.csv')} <= set(kept)
  assert done['labels/miou'] > 50  # the hidden masks are known
  assert (first / 'picture.png').exists() or list(first.glob('*.png'))


def _with(config, stages, changes):
  """The page with its first `stages`, the last of them changed."""
  with config.unlocked():
    chosen = [dict(stage) for stage in config.to_dict()['stages']][:stages]
    chosen[-1] |= changes
    config.stages = tuple(chosen)
  return config


def test_filters_that_leave_nothing_say_so_and_may_be_changed(finished, tmp_path, capsys):
  """The teacher was days of work; it is not to be trained again because of a filter."""
  run(_with(_page(finished), 1, {}), tmp_path)  # a stage may be added later
  with pytest.raises(UserError, match='none of 3'):
    run(_with(_page(finished), 2, dict(min_voxels=10**6)), tmp_path)
  run(_with(_page(finished), 2, dict(min_voxels=20)), tmp_path)
  assert f'{tmp_path}/teacher is done' in capsys.readouterr().out
  assert read_done(tmp_path / 'labels1') == read_done(finished / 'run' / 'labels1')
  with pytest.raises(UserError, match=r'another config: labels1\.min_voxels was 20, now it is 30'):
    run(_with(_page(finished), 2, dict(min_voxels=30)), tmp_path)
  with pytest.raises(UserError, match="its stage 'labels1' is there no more"):
    run(_with(_page(finished), 1, {}), tmp_path)


def _content(path):
  """What a file says, but for the times and the memory that it took."""
  if path.name == 'cases.csv':
    return [{k: v for k, v in row.items() if k not in organs.COSTS} for row in _rows(path)]
  return path.read_bytes()


@pytest.mark.parametrize(
  ('name', 'kind', 'files'),
  [
    ('labels1', 'pseudo_label', ('labels.csv', 'quality.csv', 'masks/*', 'arrays/*/*')),
    ('tuned2-organs', 'segment', ('cases.csv', 'masks/*')),
  ],
)
def test_a_killed_stage_goes_on_with_its_next_volume(finished, tmp_path, name, kind, files):
  whole = finished / 'run' / name
  spec = next(spec for spec in resolve(plain(_page(finished))) if spec.name == name)
  for folder in ('teacher', 'tuned2'):
    shutil.copytree(finished / 'run' / folder, tmp_path / folder)
  stage = registry.find('stages', kind).stage
  asked = []
  with pytest.raises(Stopped, match='the same command goes on'):
    stage(
      spec.settings,
      tmp_path / name,
      lambda: asked.append(0) or len(asked) > 1,
      **spec.stage_kwargs,
    )
  journal = tmp_path / name / 'cases.jsonl'
  assert len(journal.read_text().splitlines()) == 1
  with journal.open('a') as file:
    file.write('[1, {"na')  # the kill came while it was writing
  before = {path: path.stat().st_mtime_ns for path in (tmp_path / name).glob('masks/*')}
  assert len(before) == 1
  stage(spec.settings, tmp_path / name, lambda: False, **spec.stage_kwargs)
  assert all(path.stat().st_mtime_ns == time for path, time in before.items())
  for pattern in files:
    paths = [path.relative_to(whole) for path in whole.glob(pattern)]
    assert paths
    for path in paths:
      assert _content(tmp_path / name / path) == _content(whole / path)


def test_new_volumes_have_the_masks_that_were_scored(finished, tmp_path, capsys):
  images = tmp_path / 'in'
  images.mkdir()
  names = [row['name'] for row in _rows(finished / 'run' / 'tuned2-organs' / 'cases.csv')]
  for name in names:
    path = finished / 'labeled' / 'images' / f'{name}.nii.gz'
    (images / path.name).write_bytes(path.read_bytes())
  (images / 'broken.nii.gz').write_bytes(b'no volume')
  four = nibabel.Nifti1Image(np.zeros((4, 4, 4, 3), np.int16), np.eye(4))
  nibabel.save(four, images / 'series.nii.gz')
  windows = ['--overlap=0.5', '--blend=gaussian']
  asked = [f'--run={finished / "run" / "tuned2"}', f'--images={images}', f'--out={tmp_path}/out']
  assert predict.main([*asked, *windows]) == 1
  said = capsys.readouterr()
  assert 'broken.nii.gz' in said.err
  assert 'series.nii.gz' in said.err
  assert 'Traceback' not in said.err
  assert '1 bright, 2 dark' in said.out
  for name in names:
    ours, _ = nifti.read_labels(tmp_path / 'out' / 'masks' / f'{name}.nii.gz')
    scored, _ = nifti.read_labels(finished / 'run' / 'tuned2-organs' / 'masks' / f'{name}.nii.gz')
    np.testing.assert_array_equal(ours, scored)
  for path in ('broken.nii.gz', 'series.nii.gz'):
    (images / path).unlink()
  first, second = (tmp_path / 'out' / 'masks' / f'{name}.nii.gz' for name in names)
  first.write_bytes(b'of an earlier call')
  second.unlink()
  assert predict.main([*asked, *windows, '--resume']) == 0
  assert first.read_bytes() == b'of an earlier call'
  assert second.exists()
  # It has been changed since it was written, so it is replaced only on request.
  assert predict.main([*asked, *windows, '--budget=0.004', '--largest']) == 1
  assert first.read_bytes() == b'of an earlier call'
  assert predict.main([*asked, *windows, '--budget=0.004', '--largest', '--overwrite']) == 0
  assert 'predicted with voxels 2 times as long' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    (dict(overlap=1.0), 'overlap'),
    (dict(batch=0), 'batch'),
    (dict(blend='mean'), 'constant, gaussian'),
    (dict(tolerance={'brigth': 1.0}), r"'brigth', which is no class.*bright"),
    (dict(tolerance={'bright': 0}), 'not a length in mm'),
    (dict(tolerance=-1.0), 'not a length in mm'),
    (dict(truth_slices=('aorta',)), "'aorta', which is no class"),
  ],
)
def test_windows_that_cannot_be_are_refused_before_the_first_step(
  finished, tmp_path, changes, says
):
  with pytest.raises(UserError, match=says):
    run(_with(_page(finished), len(STAGES), changes), tmp_path / 'run')
  assert not (tmp_path / 'run' / 'teacher').exists()


def test_a_later_stage_without_its_volumes_is_refused_before_the_first_step(finished, tmp_path):
  """The control needs no unlabeled volumes, and would have been trained in vain."""
  config = runpy.run_path(str(ROOT / 'configs' / 'your_volumes.py'))['get_config']()
  small = {'data.labeled': str(finished / 'labeled'), 'data.cache': str(finished / 'cache')}
  config.update_from_flattened_dict(small)
  with pytest.raises(UserError, match="no unlabeled images, of which the view 'weak'"):
    run(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'control').exists()


def test_images_have_no_organs(page, tmp_path):
  with page.unlocked():
    page.stages = (dict(name='control'), dict(name='organs', run='segment', of='control'))
  with pytest.raises(UserError, match='test volumes'):
    run(page, tmp_path / 'run')
