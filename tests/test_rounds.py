"""Rounds of ensemble self-training: filters by hand, kills inside a round, what is handed on."""

import csv
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import tiny_rounds, write_sections
from PIL import Image

from ssl_jax import registry, run_folder, table
from ssl_jax.data import stream
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import confusion
from ssl_jax.evaluation.evaluate import Evaluation
from ssl_jax.inference import predict_folder
from ssl_jax.inference.trained_networks import Ensemble, TrainedNetwork
from ssl_jax.io import images, masks
from ssl_jax.io.run_log import read_done, read_log
from ssl_jax.reports import table_cells
from ssl_jax.run import run
from ssl_jax.stages import label_crops
from ssl_jax.stages.comparing import seed_scores
from ssl_jax.stages.labeling import ensembles, missing_labels
from ssl_jax.types import IGNORE, MASKS


@pytest.fixture(scope='module')
def sections(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sections')
  write_sections(folder)
  return folder


@pytest.fixture(scope='module')
def rounds(sections, tmp_path_factory):
  folder = tmp_path_factory.mktemp('rounds') / 'run'
  return folder, run(tiny_rounds(sections), folder, command='python main.py')


def rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_the_threshold_moves_before_it_is_compared():
  state = label_crops.CropRecord()
  state = label_crops.with_candidate(state, 0.5, 10.0, min_prominence=0.1, inertia=0.9)
  assert state.threshold == pytest.approx(1.0)  # from 0, a tenth of the way to 10
  assert state.accepted == 0
  # Not prominent: its entropy is not looked at.
  state = label_crops.with_candidate(state, 0.05, 0.0, min_prominence=0.1, inertia=0.9)
  assert state.threshold == pytest.approx(1.0)
  assert state.accepted == 0
  state = label_crops.with_candidate(state, 0.1, 0.5, min_prominence=0.1, inertia=0.9)
  assert state.threshold == pytest.approx(0.95)
  assert state.accepted == 1
  assert [one.candidate for one in state.candidates] == [0, 1, 2]
  state = label_crops.with_candidate(
    label_crops.CropRecord(), 1.0, 4.0, min_prominence=0.0, inertia=0.5
  )
  state = label_crops.with_candidate(state, 1.0, 2.0, min_prominence=0.0, inertia=0.5)
  assert state.candidates == ((0, 1.0, 4.0, 2.0, 0), (1, 1.0, 2.0, 2.0, 1))  # equal is sure enough


def test_with_no_update_from_zero_nothing_would_ever_pass():
  state = label_crops.CropRecord()
  for _ in range(300):
    state = label_crops.with_candidate(state, 1.0, 7.0, min_prominence=0.0, inertia=0.99)
  assert state.threshold == pytest.approx(7 * (1 - 0.99**300))
  assert state.accepted == 0  # the mean of equal entropies stays below them
  assert label_crops.with_candidate(state, 1.0, 6.0, min_prominence=0.0, inertia=0.99).accepted == 1


def test_entropy_by_hand():
  probs = np.zeros((2, 2, 2, 1), np.float32)
  probs[0, 0, 0], probs[0, 1, 1] = 0.5, 0.25
  expected = -(0.5 * np.log(0.5) + 0.25 * np.log(0.25))
  np.testing.assert_allclose(label_crops.foreground_entropy(probs), [expected, 0])
  assert (label_crops.foreground_entropy(np.ones((1, 4, 4, 1))) == 0).all()  # a sure mask has none


def test_prominence_is_the_fraction_that_is_marked():
  masks = np.zeros((2, 4, 4), np.uint8)
  masks[0, 0], masks[1, 1] = 1, IGNORE
  np.testing.assert_allclose(label_crops.marked_fraction(masks), [0.25, 0])


def test_the_record_reads_back_to_the_last_bit(tmp_path):
  state = label_crops.CropRecord()
  for value in np.random.default_rng(0).exponential(size=20):
    state = label_crops.with_candidate(
      state, float(value) / 3, float(value), min_prominence=0.1, inertia=0.7
    )
  label_crops.write_record(tmp_path, state)
  assert label_crops.read_record(tmp_path) == state
  assert label_crops.read_record(tmp_path / 'nothing') == label_crops.CropRecord()


def test_every_stage_leaves_what_the_next_one_reads(rounds):
  folder, done = rounds
  for name in ('real1-pseudo', 'made1-made'):
    record = rows(folder / name / 'candidates.csv')
    accepted = [row['candidate'] for row in record if row['accepted'] == '1']
    assert len(accepted) >= 6
    for kind in ('images', 'masks'):
      assert {path.stem for path in (folder / name / kind).iterdir()} == {*accepted}
    threshold = 0.0
    for row in record:
      if float(row['prominence']) >= 0.01 and float(row['threshold']) != threshold:
        threshold = 0.5 * threshold + 0.5 * float(row['entropy'])
        assert float(row['threshold']) == pytest.approx(threshold)
    assert (folder / name / 'picture.png').exists()
    assert done[f'{name}/crops/accepted'] == len(accepted)
  assert len([*(folder / 'paint' / 'images').iterdir()]) == 6
  with Image.open(folder / 'paint' / 'images' / '000000.png') as painted:
    assert painted.size == (32, 32)
  assert np.isfinite([done['paint/kid'], done['paint/kid_real']]).all()
  assert sorted(p.name for p in (folder / 'gan' / 'samples').iterdir()) == [
    '000002.png',
    '000004.png',
  ]
  assert done['gan/samples/variety'] > 0
  for picture in (
    'r0/bars.png',
    'made1/picture.png',
    'paint/picture.png',
    'made-verdict/picture.png',
  ):
    with Image.open(folder / picture) as opened:
      assert min(opened.size) > 150
  assert 'against real1' in (folder / 'made-verdict' / 'verdict.txt').read_text()
  assert 'against the supervised control' in (folder / 'real1-verdict' / 'verdict.txt').read_text()


def test_masks_of_crops_hold_what_was_drawn_and_what_was_found(rounds):
  """The union of both; pixels that padding made are nobody's."""
  folder, _ = rounds
  drawn = [masks.read_mask(path) for path in (folder / 'real1-pseudo' / 'masks').iterdir()]
  found = {*np.unique(np.stack(drawn)).tolist()}
  assert found <= {0, 1, IGNORE}
  assert 1 in found
  assert all(label_crops.marked_fraction(mask[None])[0] >= 0.02 for mask in drawn)


def test_the_tables_show_any_figure(rounds, capsys):
  folder, done = rounds
  assert table.main([str(folder)]) == 0
  cells = table_cells.read_cells(folder)
  shown = [c for c in cells if c.figure == 'removed/recall' and c.entry['stage'] == 'real1']
  assert shown[0].mean[0] == done['real1/removed/recall']
  assert shown[0].difference[0] == done['real1/removed/recall'] - done['r0/removed/recall']
  dice = next(c for c in cells if c.figure == 'dice/mitochondrion' and c.entry['stage'] == 'made1')
  assert dice.mean[0] == done['made1/test/dice/mitochondrion']
  assert 'Recall of what was taken out' in capsys.readouterr().out


def test_an_ensemble_predicts_the_mean_of_its_members(rounds):
  folder, _ = rounds
  shown = np.random.default_rng(0).uniform(size=(2, 32, 32, 1)).astype(np.float32)
  ensemble = Ensemble(folder, ('r0-0', 'r0-1'))
  assert ensemble.seeds() == [0]
  each = []
  for member in ensemble.members(0):
    network = TrainedNetwork(run_folder.read_settings(member), run_folder.read_stats(member))
    predict_fn, steps = network.predict_fn(member)
    each.append(predict_fn(shown))
    assert steps == 4
  assert np.abs(each[0] - each[1]).max() > 1e-3  # they began differently
  np.testing.assert_allclose(ensemble.predict_fn(0)[0](shown), np.mean(each, 0), rtol=1e-5)
  both, _, _ = predict_folder.load(folder / 'r0')
  np.testing.assert_allclose(both(shown), np.mean(each, 0), rtol=1e-5)
  assert [p.name for p in ensembles.trained_stages(folder / 'r0')] == ['r0-0', 'r0-1']
  assert [p.name for p in ensembles.trained_stages(folder / 'r0-1')] == ['r0-1']
  assert seed_scores.learns_from_labels_alone(folder / 'r0')
  assert not seed_scores.learns_from_labels_alone(folder / 'real1')


def test_members_see_other_images_and_the_first_is_the_plain_one():
  assert stream.member_seed(3, 0) == 3
  assert len({stream.member_seed(seed, member) for seed in range(50) for member in range(9)}) == 450


def _only(sections, *names, **changes):
  """The page with these stages alone."""
  config = tiny_rounds(sections)
  stages = [dict(stage) for stage in config.to_dict()['stages'] if stage['name'] in names]
  for stage in stages:
    stage |= changes.get(stage['name'], {})
  config.stages = tuple(stages)
  config.table = ()
  return config


def test_a_kill_while_crops_are_labeled_changes_nothing(sections, rounds, tmp_path):
  """Stopped after each batch, and once cut down before the record was written."""
  whole, folder = rounds[0] / 'real1-pseudo', tmp_path / 'run'
  shutil.copytree(rounds[0], folder)
  shutil.rmtree(folder / 'real1-pseudo')
  (folder / 'done.json').unlink()
  settings = run_folder.read_settings(whole)
  known = registry.parameters('stages', 'label_crops')
  kwargs = {k: v for k, v in run_folder.stage_entry(whole).items() if k in known}
  asked = []

  def after_one() -> bool:
    asked.append(1)
    return len(asked) % 2 == 0

  for _ in range(50):
    try:
      label_crops.stage(settings, folder / 'real1-pseudo', after_one, **kwargs)
      break
    except Stopped:
      stray = folder / 'real1-pseudo' / 'masks' / '999999.png'  # of a batch that was not recorded
      images.write_mask(stray, np.zeros((4, 4), np.uint8))
  else:
    raise AssertionError('it never came to an end')
  assert len(asked) > 2
  for path in whole.rglob('*.csv'):
    assert path.read_text() == (folder / 'real1-pseudo' / path.name).read_text()
  for path in (whole / 'masks').iterdir():
    mine = folder / 'real1-pseudo' / 'masks' / path.name
    np.testing.assert_array_equal(masks.read_mask(path), masks.read_mask(mine))


@pytest.mark.parametrize('name', ['made1-1', 'gan'])
def test_a_kill_while_a_later_round_learns_changes_no_bit(sections, rounds, tmp_path, name):
  """The network draws from the same buffers; the generator goes on with its average."""
  whole, folder = rounds[0], tmp_path / 'run'
  shutil.copytree(whole, folder)
  for path in (folder / 'done.json', folder / name / 'done.json'):
    path.unlink()
  shutil.rmtree(folder / name / 'checkpoints' / '4')
  run(tiny_rounds(sections), folder)
  restored = [
    ocp.StandardCheckpointer().restore(path / name / 'checkpoints' / '4' / 'default')
    for path in (whole, folder)
  ]
  for a, b in zip(*map(_leaves, restored), strict=True):
    np.testing.assert_array_equal(a, b)
  figures = [
    [(line['step'], line['loss']) for line in read_log(path / name) if 'loss' in line]
    for path in (whole, folder)
  ]
  assert figures[0] == figures[1]
  assert read_done(whole / name) == read_done(folder / name)


def _leaves(tree):
  import jax

  return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def test_what_was_found_of_what_is_gone_by_hand():
  label = np.zeros((4, 6), np.uint8)
  label[0, :4], label[2, :4], label[3, 4:] = 1, 1, 1
  removed = np.zeros((4, 6), int)
  removed[0, :4], removed[2, :4] = 1, 2
  mask = np.zeros((4, 6), np.uint8)
  mask[0, :3], mask[2, 0], mask[3, 4] = 1, 1, 1
  found = Evaluation({}, np.zeros((1, 2, 2)), ['x'], MASKS, {'x': mask})
  complete = [{'label': label, 'removed': removed, 'name': 'x'}]
  assert missing_labels.recovered(found, complete) == {
    'removed/recall': 50.0,  # 4 of 8 pixels
    'removed/found': 50.0,  # the first of two, of which three quarters are found
    'removed/instances': 2.0,
    'kept/recall': 50.0,
  }
  nothing = [{'label': label, 'removed': 0 * removed, 'name': 'x'}]
  assert missing_labels.recovered(found, nothing) == {}


def test_scores_of_single_images_by_hand():
  one = np.array([[5, 1], [2, 4]])  # truth in rows: TP 4, FN 2, FP 1
  empty, missed = np.array([[9, 0], [0, 0]]), np.array([[7, 0], [3, 0]])
  # As the paper counts: an image without cells in which none are found is right.
  found = confusion.per_image(
    np.stack([one, empty, missed]), ('background', 'cell'), count_absent=True
  )
  assert found == pytest.approx(
    {
      'dice_per_image/cell': 100 * (8 / 11 + 1 + 0) / 3,
      'jaccard_per_image/cell': 100 * (4 / 7 + 1 + 0) / 3,
      'precision_per_image/cell': 100 * (4 / 5 + 1 + 0) / 3,
      'recall_per_image/cell': 100 * (4 / 6 + 1 + 0) / 3,
    }
  )
  pooled = confusion.scores(one + empty + missed, ('background', 'cell'))
  assert pooled['precision/cell'] == pytest.approx(80)
  assert pooled['recall/cell'] == pytest.approx(400 / 9)


@pytest.mark.parametrize(
  ('names', 'changes', 'says'),
  [
    (['r0-0', 'real1-pseudo'], {}, 'r0-1'),
    (['r0-0', 'real1-pseudo'], {'real1-pseudo': dict(of='r0-0', seed=1)}, 'has other seeds'),
    (['r0-0', 'real1-pseudo'], {'real1-pseudo': dict(of=())}, 'names no stage'),
    (['r0-0', 'real1-pseudo'], {'real1-pseudo': dict(of='r0-0', inertia=2)}, 'inertia=2'),
    (['r0-0', 'real1-pseudo'], {'real1-pseudo': dict(of='r0-0', generated='gan')}, 'synthesize'),
    (['r0-0', 'r0-1'], {'r0-1': dict(replay=dict(pseudo='r0-0'))}, 'label_crops'),
    (['r0-0', 'r0-1'], {'r0-1': dict(buffer=0)}, 'buffer'),
    (['gan'], {'gan': dict(crop_size=24)}, '16 pixels a side'),
    (['gan'], {'gan': {'gan.loss': 'poker'}}, "gan.loss='poker'"),
    (['gan'], {'gan': {'gan.critics': 0}}, r'gan\.critics=0 is not in the range 1 to'),
    (['gan'], {'gan': {'gan.loss': 'wasserstein', 'gan.clip': 0.0}}, 'clip=0.0 above 0'),
    (['gan'], {'gan': {'gan.chess': 1}}, r'gan\.chess is no field'),
    (
      ['gan'],
      {'gan': {'gan.discriminators': 0}},
      r'gan\.discriminators=0 is not in the range 1 to',
    ),
    (['gan'], {'gan': {'gan.discriminator': (4,) * 6}}, 'cannot be halved 6 times'),
    (['gan'], {'gan': dict(views=dict(other=dict(source='labeled')))}, "a view 'real'"),
    (['gan', 'paint'], {'paint': dict(judge='', count=1)}, 'at least 2'),
  ],
)
def test_rounds_that_cannot_be_are_refused_at_the_start(sections, tmp_path, names, changes, says):
  with pytest.raises(UserError, match=says):
    run(_only(sections, *names, **changes), tmp_path / 'run')
  assert not [*tmp_path.rglob('done.json')]


def test_when_no_crop_is_good_enough_it_says_what_to_do(sections, rounds, tmp_path):
  config = _only(
    sections,
    'r0-0',
    'real1-pseudo',
    **{'real1-pseudo': dict(of='r0-0', prominence=1.0, max_tries=2)},
  )
  with pytest.raises(UserError, match='accepted none of 12 crops; lower its prominence'):
    run(config, tmp_path / 'run')


def test_both_sizes_of_the_page_are_ready_to_run(sections):
  """The paper's size is one word; its networks fit its images."""
  import runpy

  from conftest import ROOT

  page = runpy.run_path(str(ROOT / 'configs' / 'gan_self_training_em.py'))['get_config']
  for which in ('small', 'full'):
    config = page(which)
    side = 4 * 2 ** len(config.gan.generator)
    game = next(stage for stage in config.to_dict()['stages'] if stage['name'] == 'gan')
    assert game['crop_size'] == (side, side)
    assert config.crop_size == (2 * side, 2 * side)
