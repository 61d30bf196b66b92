"""A run from config to verdict, and the sentences that refuse a bad one."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import torch_resnet
from PIL import Image

from ssl_jax import build
from ssl_jax.errors import UserError
from ssl_jax.io import run_log
from ssl_jax.parsing import stage_list
from ssl_jax.run import run
from ssl_jax.running.validate import validate
from ssl_jax.settings import Inputs


def test_the_run_folder_holds_what_everything_else_is_made_from(finished):
  for stage in ('control', 'fixmatch'):
    names = {path.name for path in (finished / stage).iterdir()}
    assert names >= {'config.json', 'data.json', 'metrics.jsonl', 'checkpoints', 'done.json',
                     'test'}  # fmt: skip
  done = json.loads((finished / 'done.json').read_text())
  assert done['test/miou'] == done['fixmatch/test/miou']
  assert 0 <= done['control/test/miou'] <= 100
  low, mid, high = (done[f'verdict/test/miou_difference{end}'] for end in ('_low', '', '_high'))
  assert low <= mid <= high
  assert mid == pytest.approx(done['test/miou'] - done['control/test/miou'])


def test_scores_are_those_of_the_written_masks(finished):
  with np.load(finished / 'fixmatch' / 'test' / 'matrices.npz') as found:
    matrix, names = found['matrices'].sum(0), found['names']
  masks = [
    np.asarray(Image.open(finished / 'fixmatch' / 'test' / 'masks' / f'{n}.png')) for n in names
  ]
  assert matrix.sum(0).tolist() == np.bincount(np.concatenate(masks).ravel(), minlength=3).tolist()
  done = json.loads((finished / 'done.json').read_text())
  assert done['test/accuracy'] == pytest.approx(100 * np.trace(matrix) / matrix.sum())


def test_metrics_are_lines_of_a_step_window(finished):
  lines = run_log.read_log(finished / 'fixmatch')
  windows = [line for line in lines if 'loss' in line]
  assert [line['step'] for line in windows] == [1, 2, 3, 4, 5, 6]
  assert {'loss/supervised/labeled', 'loss/fixmatch/unlabeled', 'fixmatch/mask_rate', 'grad_norm',
          'steps_per_second', 'images_per_second'} <= set(windows[1])  # fmt: skip
  assert [line['step'] for line in lines if 'test/miou' in line] == [3, 6]
  assert [line['step'] for line in lines if 'evaluate_seconds' in line] == [3, 6]
  assert all(0 <= line['waiting_for_data'] <= 1 for line in windows[1:])
  assert [line['step'] for line in windows if 'compile_seconds' in line] == [1]
  # Programs that earlier runs have kept do not count, so that there may be none at all.
  assert all(line['compilations'] >= 0 for line in windows)
  assert all('compilations' in line for line in lines if 'test/miou' in line)
  # Whatever was compiled, the steps between evaluations are not.
  assert windows[1]['compilations'] == windows[4]['compilations'] == 0
  # Told with the steps that follow a save.
  assert [line['step'] for line in windows if 'save_seconds' in line] == [3, 5]
  # Nobody knows the peak of a CPU.
  assert not any('share_of_peak' in line for line in windows)


def test_the_verdict_and_the_picture_say_that_the_data_are_synthetic(finished):
  assert 'points of test mIoU against the supervised control, ' in (
    (finished / 'verdict' / 'verdict.txt').read_text()
  )
  assert 'synthetic' in (finished / 'verdict' / 'verdict.txt').read_text()
  with Image.open(finished / 'verdict' / 'picture.png') as picture:
    assert min(picture.size) > 200


def test_a_finished_run_is_left_as_it_is(finished, page, capsys):
  before = (finished / 'done.json').read_text()
  run(page, finished)
  said = capsys.readouterr().out
  assert 'fixmatch is done' in said
  assert (finished / 'verdict' / 'verdict.txt').read_text().strip() in said
  assert (finished / 'done.json').read_text() == before


def test_another_config_is_refused_with_its_first_key(finished, page):
  page.optimizer.lr = 0.5
  with pytest.raises(UserError, match=r'optimizer.lr was 0.003, now it is 0.5'):
    run(page, finished)


def test_several_seeds_share_a_stage_and_give_an_interval(page, tmp_path):
  page.num_seeds, page.steps, page.seed = 2, 2, 5
  done = run(page, tmp_path)
  each = [done[f'fixmatch/seed_{seed}/test/miou'] for seed in (5, 6)]
  assert each[0] != each[1]
  assert done['test/miou'] == pytest.approx(np.mean(each))
  assert '2 repetitions' in (tmp_path / 'verdict' / 'verdict.txt').read_text()


def test_seeds_trained_together_equal_those_trained_apart(page, tmp_path):
  page.unlock()
  page.num_seeds, page.model.dropout, page.stages = 2, 0.3, ()
  page.update(steps=4, num_snapshots=2, checkpoint_every=3)
  # SGD: Adam's first steps divide rounding errors by themselves.
  page.optimizer = dict(name='sgd', lr=0.001, momentum=0.9)
  finals = {}
  for vmap_seeds in (True, False):
    page.vmap_seeds = vmap_seeds
    run(page, tmp_path / str(vmap_seeds))
    for seed in (0, 1):
      folder = tmp_path / str(vmap_seeds) / f'seed_{seed}' / 'checkpoints'
      assert {int(path.name) for path in folder.iterdir()} == {2, 3, 4}
      step = ocp.StandardCheckpointer().restore(folder / '4' / 'default')
      finals[vmap_seeds, seed] = jax.tree.leaves(step['student'])
  assert any((a != b).any() for a, b in zip(finals[True, 0], finals[True, 1], strict=True))
  for seed in (0, 1):
    for ours, theirs in zip(finals[True, seed], finals[False, seed], strict=True):
      np.testing.assert_allclose(ours, theirs, atol=5e-4)


def test_seeds_that_a_kill_left_at_different_checkpoints_go_on_together(page, tmp_path):
  page.unlock()
  page.update(num_seeds=2, vmap_seeds=True, stages=(), steps=6, checkpoint_every=2)
  whole = run(page, tmp_path)
  for name in ('done.json', 'seed_0/done.json', 'seed_1/done.json'):
    (tmp_path / name).unlink()
  shutil.rmtree(tmp_path / 'seed_1' / 'checkpoints' / '6')
  assert run(page, tmp_path) == whole


def test_a_backbone_begins_with_the_weights_of_a_file(page, tmp_path):
  arrays = torch_resnet.state_dict(torch_resnet.shapes_of('resnet18', 32))
  np.savez(tmp_path / 'resnet18.npz', **arrays)
  page.unlock()
  path = str(tmp_path / '{backbone}.npz')
  page.model = dict(
    name='unet_resnet', backbone='resnet18', widths=(8, 8, 4, 4, 4), pretrained=path
  )
  page.optimizer = dict(name='sgd', lr=0.0)
  page.stages, page.steps = (), 1
  run(page, tmp_path / 'run')
  saved = ocp.StandardCheckpointer().restore(tmp_path / 'run' / 'checkpoints' / '1' / 'default')
  kernel = saved['student']['params']['backbone']['layer2_0']['conv1']['kernel']
  np.testing.assert_array_equal(kernel, arrays['layer2.0.conv1.weight'].transpose(2, 3, 1, 0))
  page.model.pretrained = str(tmp_path / 'missing.npz')
  with pytest.raises(UserError, match=r'There is no .*missing.npz'):
    run(page, tmp_path / 'other')
  assert not (tmp_path / 'other').exists()  # it was found before anything began


def test_without_stages_a_run_trains_in_its_own_folder(page, tmp_path):
  page.unlock()
  page.stages, page.steps = (), 2
  page.data.val, page.data.test = 2, 0
  done = run(page, tmp_path)
  assert (tmp_path / 'checkpoints').is_dir()
  assert 'val/miou' in done
  assert 'test/miou' not in done


@pytest.mark.parametrize(
  ('key', 'value', 'says'),
  [
    ('teacher', 'nobody', "teacher='nobody' is not one of student, ema"),
    ('ema_decay', 0.0, "teacher='ema' needs a decay"),
    ('ema_decay', 1.5, r'ema_decay=1.5 is not in the range 0.0 to 1.0'),
    ('steps', 0, 'steps=0 is not in the range at least 1'),
    ('crop_size', 4, 'crop_size=4 is not in the range at least 8'),
    (
      'model.name',
      'vnet',
      r"no 'vnet' in models \(did you mean unet\?\); the known ones are .*unet",
    ),
    ('data.name', 'cats', "no 'cats' in datasets"),
    ('optimizer.name', 'lion', 'is not one of sgd, adam'),
    ('schedule.name', 'square', 'is not one of constant, poly, cosine'),
    ('views.strong.source', 'week', 'views.strong.source=.* is not labeled or'),
    ('methods', {}, 'methods is empty; say'),
    ('methods', {'fixmach': {}}, "no 'fixmach' in methods"),
    (
      'methods',
      {'supervised': {}, 'fixmatch': {'tau': 1.0}},
      'methods.fixmatch.tau is no field of fixmatch',
    ),
    ('methods', {'supervised': {'shown': ('nowhere',)}}, "asks for the view 'nowhere'"),
    ('model.depth', 3, 'model.depth is no field of unet'),
    ('optimizer.speed', 3, 'optimizer.speed is no field of optimizer'),
    ('schedule.speed', 3, 'schedule.speed is no field of schedule'),
    ('data.test', -1, 'test'),
    (
      'stages',
      ({'name': 'a', 'run': 'dance'},),
      "no 'dance' in stages; the known ones are com",
    ),
    ('stages', ({'name': 'a'}, {'name': 'a'}), "'a' is no good name"),
    (
      'stages',
      ({'name': 'a', 'lr': 3},),
      'stages.a: lr is neither a field of the config nor of the stage',
    ),
    ('stages', ({'run': 'train'},), "'' is no good name"),
    ('stages', ({'name': 'v', 'run': 'compare'},), 'stages.v.of is not given'),
    (
      'stages',
      (
        {'name': 'a', 'num_seeds': 1},
        {'name': 'b', 'num_seeds': 2},
        {'name': 'v', 'run': 'compare', 'of': 'a', 'against': 'b'},
      ),
      'both stages need the same ones',
    ),
    ('steps', '10', "steps='10' is not a whole number"),
    ('steps', 2.5, 'steps=2.5 is not a whole number'),
    ('optimizer.lr', '1e-3', "optimizer.lr='1e-3' is not a number"),
    ('methods', ('supervised',), 'methods=.* is not a dict'),
    (
      'methods',
      {'supervised': {}, 'fixmatch': {'threshold': 95}},
      'methods.fixmatch.threshold=95 is not in the range 0.0 to 1.0',
    ),
    (
      'methods',
      {'supervised': {'dice': -1.0}},
      'methods.supervised.dice=-1.0 is not in the range at least 0.0',
    ),
    ('model.dropout', 5.0, 'model.dropout=5.0 is not in'),
    ('model.widths', (), 'model.widths is empty'),
    ('model.name', 'unet.py', "no 'unet.py' in models"),
    ('data.scale', 2.0, 'data.scale=2.0 is not in the range'),
    ('data.unlabeled', 0, 'There are no unlabeled images.*data.unlabeled'),
    ('data.test', 0, 'stages.verdict compares on test images'),
    ('crop_size', (32, 32, 32), 'has 3 sides, and the images have 2'),
    (
      'stages',
      ({'name': 'v', 'run': 'compare', 'of': 'x', 'against': 'y'},),
      "of='x' is no train or score stage before it",
    ),
  ],
)
def test_a_bad_config_gets_one_sentence(page, tmp_path, key, value, says):
  config = stage_list.plain(page)
  inner = config
  *path, last = key.split('.')
  for part in path:
    inner = inner[part]
  inner[last] = value
  with pytest.raises(UserError, match=says):
    run(config, tmp_path)


def test_all_that_is_wrong_is_said_in_one_message(page, tmp_path):
  config = stage_list.plain(page)
  config |= {'teecher': 'ema', 'steps': 0}
  config['optimizer']['learning_rate'] = 1.0
  with pytest.raises(UserError) as error:
    run(config, tmp_path / 'run')
  sentences = str(error.value).splitlines()
  assert len(sentences) == 3
  assert any('teecher is no field of the config (did you mean teacher?)' in x for x in sentences)
  assert any('optimizer.learning_rate' in x and 'did you mean lr?' in x for x in sentences)
  assert any('steps=0 is not in the range' in x for x in sentences)
  assert not (tmp_path / 'run').exists()


def test_a_start_that_failed_claims_nothing(page, tmp_path):
  page.unlock()
  page.stages, page.steps = (), 1
  page.model = dict(name='deeplabv3plus', backbone='resnet51')
  with pytest.raises(UserError, match='resnet51'):
    run(page, tmp_path)
  page.model = dict(name='unet', widths=(4, 8))
  page.data.test = 3
  assert run(page, tmp_path)['steps'] == 1


def test_test_images_are_scored_only_when_due(page, tmp_path):
  page.unlock()
  page.stages, page.data.val, page.eval_every, page.checkpoint_every = (), 2, 6, 2
  run(page, tmp_path)
  lines = run_log.read_log(tmp_path)
  assert [line['step'] for line in lines if 'val/miou' in line] == [2, 4, 6]
  assert [line['step'] for line in lines if 'test/miou' in line] == [6]


def test_every_stage_is_checked_before_the_first_begins(page, tmp_path):
  page.unlock()
  page.stages = ({'name': 'good'}, {'name': 'bad', 'teacher': 'nobody'})
  with pytest.raises(UserError, match='nobody'):
    run(page, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_the_tiny_config_is_valid(page):
  validate(stage_list.resolve(stage_list.plain(page)))


def test_a_loss_that_is_not_finite_stops_the_run_by_name(page, tmp_path):
  page.unlock()
  page.optimizer = dict(name='sgd', lr=1e30)
  page.stages = ()
  with pytest.raises(UserError, match=r'stopped at step \d: (loss/\w+/\w+|grad_norm) is (nan|inf)'):
    run(page, tmp_path)
  assert not (tmp_path / 'done.json').exists()


def test_changed_data_are_refused_on_resume(page, tmp_path):
  page.unlock()
  page.stages, page.steps = (), 2
  run(page, tmp_path)
  (tmp_path / 'done.json').unlink()
  stats = json.loads((tmp_path / 'data.json').read_text())
  (tmp_path / 'data.json').write_text(json.dumps(stats | {'fingerprint': 1}))
  with pytest.raises(UserError, match='The data have changed since'):
    run(page, tmp_path)


def test_tensorboard_when_asked(page, tmp_path):
  page.unlock()
  page.stages, page.steps, page.tensorboard = (), 2, True
  run(page, tmp_path)
  assert list((tmp_path / 'tensorboard').glob('events*'))


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
  text = '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n{"step": 3, "lo'
  (tmp_path / 'metrics.jsonl').write_text(text)
  run_log.RunLog(tmp_path, 1, tensorboard=False).write(2, {'loss': 0.5})
  assert [(x['step'], x['loss']) for x in run_log.read_log(tmp_path)] == [(1, 2.0), (2, 0.5)]


def test_runs_that_share_a_folder_may_write_a_file_at_once(tmp_path):
  texts = [str(number) * 50_000 for number in range(8)]
  with ThreadPoolExecutor(8) as pool:
    for _ in pool.map(
      lambda text: run_log.replace_text(tmp_path / 'config.json', text), 20 * texts
    ):
      assert (tmp_path / 'config.json').read_text() in texts
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_a_loss_that_is_no_number_is_named_with_its_step_and_images(page, tmp_path):
  page.unlock()
  page.stages, page.steps, page.checkpoint_every, page.log_every = (), 8, 2, 4
  # The first steps are harmless; a warm-up then comes to a rate at which the weights overflow.
  page.optimizer = dict(name='sgd', lr=1e30)
  page.schedule = dict(name='constant', warmup=7)
  with pytest.raises(UserError, match=r'stopped at step \d: \S+ is (nan|inf)') as caught:
    run(page, tmp_path / 'run')
  sentence = str(caught.value)
  step = int(sentence.split(' at step ')[1].split(':')[0])
  # Within a window of the log; no later state has replaced a good one.
  kept = [int(path.name) for path in (tmp_path / 'run' / 'checkpoints').iterdir()]
  assert all(number < step for number in kept)
  spec = stage_list.resolve(stage_list.plain(page))[0]
  streams = build.streams(spec.settings.part(Inputs), build.splits(spec.settings.data), 0)
  for name, stream in streams.items():
    rows = [stream.source[int(row)]['name'] for row in stream.plan(step - 1)['row']]
    assert f'{name}: {", ".join(map(str, rows))}' in sentence
