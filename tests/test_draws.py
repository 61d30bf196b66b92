"""Repetitions draw other labels and test images, and nothing else changes."""

import numpy as np
import pytest
from conftest import tiny_page

from ssl_jax import build, registry, run_folder
from ssl_jax.data.selection import draws
from ssl_jax.datasets import folder as folders
from ssl_jax.datasets import synthetic
from ssl_jax.errors import UserError
from ssl_jax.io.images import write_image, write_mask
from ssl_jax.io.run_log import read_done
from ssl_jax.parsing import parse_settings, stage_list
from ssl_jax.run import run
from ssl_jax.running.validate import settings_problems
from ssl_jax.stages.comparing import looks


@pytest.mark.parametrize('count', [4, 10, 11, 40])
@pytest.mark.parametrize('fraction', [0.5, 1 / 3, 0.25, 0.1])
def test_the_folds_of_a_cross_validation_test_every_unit_once(count, fraction):
  folds = min(round(1 / fraction), count)
  repeats = []
  for first in (0, folds):
    tested = [draws.fold_of_draw(count, fraction, 5, first + draw) for draw in range(folds)]
    repeats.append([i for fold in tested for i in fold])
    assert sorted(repeats[-1]) == list(range(count))
  # The second time in another order, or there would be nothing new in it.
  assert repeats[0] != repeats[1]


def test_a_fraction_that_makes_no_folds_is_drawn_anew():
  sets = [frozenset(draws.fold_of_draw(20, 0.7, 0, draw)) for draw in range(4)]
  assert len(set(sets)) == 4
  assert {len(one) for one in sets} == {14}


def test_draw_0_is_what_a_seed_alone_gave_before():
  order = np.random.default_rng(3).permutation(12).tolist()
  assert draws.draw_order(12, 3) == order
  assert draws.fold_of_draw(12, 0.25, 3) == order[:3]
  assert draws.draw_order(12, 3, 1) != order


def own_images(folder, names):
  rng = np.random.default_rng(0)
  for kind in ('images', 'masks'):
    (folder / kind).mkdir(parents=True)
  for name in names:
    write_image(folder / 'images' / f'{name}.png', rng.integers(0, 255, (16, 16, 3), np.uint8))
    write_mask(folder / 'masks' / f'{name}.png', np.eye(16, dtype=np.uint8))
  return folder


def names_of(source):
  return {source[i]['name'] for i in range(len(source))}


def test_patients_are_held_out_whole(tmp_path):
  names = [f'p{patient}_{slide}' for patient in range(4) for slide in range(3)]
  own_images(tmp_path, names)
  tested = set()
  for draw in range(4):
    splits = folders.load(labeled=tmp_path, draw=draw, group=r'(p\d)_')
    test, train = names_of(splits.test), names_of(splits.labeled)
    assert {name[:2] for name in test}.isdisjoint(name[:2] for name in train)
    assert set(splits.draw.groups.values()) == {name[:2] for name in test}
    assert splits.draw.overlap == pytest.approx(1 / 3)
    tested |= test
  assert tested == set(names)
  with pytest.raises(UserError, match=r"data.group='q' does not match the name p0_0"):
    folders.load(labeled=tmp_path, group='q')
  with pytest.raises(UserError, match='is no regular expression'):
    folders.load(labeled=tmp_path, group='(')
  with pytest.raises(UserError, match=r'puts all labeled images into one group \(p\)'):
    folders.load(labeled=tmp_path, group='p')


def test_unlabeled_images_stay_and_the_others_are_new():
  first, second = (synthetic.load(labeled=3, unlabeled=2, test=3, size=32, draw=d) for d in (0, 1))
  for split in ('labeled', 'test'):
    a, b = getattr(first, split), getattr(second, split)
    assert names_of(a).isdisjoint(names_of(b))
    assert not np.array_equal(a[0]['image'], b[0]['image'])
  np.testing.assert_array_equal(first.unlabeled[1]['image'], second.unlabeled[1]['image'])


def settings_of(**fields):
  config = tiny_page()
  config.unlock()
  for name, value in fields.items():
    config[name] = value
  return stage_list.resolve(stage_list.plain(config))[0].settings


def test_each_seed_draws_unless_the_page_says_otherwise():
  one, other = (names_of(build.splits_of_seed(settings_of(), seed).labeled) for seed in (0, 1))
  assert one.isdisjoint(other)
  same = settings_of(redraw=False)
  assert names_of(build.splits_of_seed(same, 1).labeled) == one
  # A page that names a draw wants that one.
  named = settings_of(data=dict(name='synthetic', draw=1, labeled=6, size=40))
  assert names_of(build.splits_of_seed(named, 0).labeled) == other


def test_a_data_set_that_cannot_draw_is_the_same_for_all_seeds(tmp_path):
  (tmp_path / 'mine' / 'datasets').mkdir(parents=True)
  (tmp_path / 'mine' / 'datasets' / 'fixed.py').write_text(
    'from ssl_jax.datasets import synthetic\n\n\n'
    'def load(*, size: int = 40):\n'
    '  return synthetic.load(labeled=6, test=4, unlabeled=8, size=size)\n'
  )
  registry.add_plugins(tmp_path / 'mine')
  settings = settings_of(data=dict(name='fixed'))
  assert not build.redraws(settings)
  one, other = (names_of(build.splits_of_seed(settings, seed).labeled) for seed in (0, 1))
  assert one == other
  (problem,) = settings_problems(settings_of(data=dict(name='fixed'), redraw=True))
  assert problem.startswith('redraw=True: the data set fixed has no argument `draw`')


def test_every_data_set_of_ours_can_draw():
  for name in registry.known('datasets'):
    if name not in ('microscopy', 'wbc_builder'):
      assert 'draw' in registry.parameters('datasets', name), name


def page_of_seeds(count):
  config = tiny_page()
  config.update(num_seeds=count, steps=2, eval_every=2, checkpoint_every=2)
  return config


def test_repetitions_are_added_in_the_same_folder_and_count_as_a_look(tmp_path):
  run(page_of_seeds(3), tmp_path / 'run')
  before = (tmp_path / 'run' / 'fixmatch' / 'seed_0' / 'metrics.jsonl').read_text()
  assert [line['look'] for line in looks.read_looks(tmp_path / 'run')] == [1]
  done = run(page_of_seeds(4), tmp_path / 'run')
  assert done is not None
  assert (tmp_path / 'run' / 'fixmatch' / 'seed_0' / 'metrics.jsonl').read_text() == before
  stage = tmp_path / 'run' / 'fixmatch'
  assert read_done(stage)['test/miou'] == pytest.approx(
    np.mean([read_done(stage / f'seed_{seed}')['test/miou'] for seed in range(4)])
  )
  assert 'second look' in (tmp_path / 'run' / 'verdict' / 'verdict.txt').read_text()
  # The same verdict again is no new look.
  run(page_of_seeds(4), tmp_path / 'run')
  found = looks.read_looks(tmp_path / 'run')
  assert [(line['look'], line['seeds']) for line in found] == [(1, [0, 1, 2]), (2, [0, 1, 2, 3])]
  with pytest.raises(UserError, match='holds a run of another config'):
    run(page_of_seeds(3), tmp_path / 'run')
  # Each seed was normalized by, and scored on, images of its own.
  stats = [run_folder.read_stats(stage / f'seed_{seed}') for seed in range(2)]
  assert stats[0].mean != stats[1].mean
  tested = [np.load(stage / f'seed_{seed}' / 'test' / 'matrices.npz') for seed in range(2)]
  assert tested[0]['checksum'] != tested[1]['checksum']
  assert parse_settings.to_dict(run_folder.read_settings(stage))['redraw'] is None


def _write_cells(folder, rare, seed):
  """Four images with two common cells each; in image `rare` one of them is rare."""
  (folder / 'images').mkdir(parents=True)
  (folder / 'points').mkdir()
  rng = np.random.default_rng(seed)
  for name in 'abcd':
    write_image(folder / 'images' / f'{name}.png', rng.integers(0, 255, (64, 64, 1), np.uint8))
    cells = ['20,20,common', '40,44,rare' if name == rare else '40,44,common']
    (folder / 'points' / f'{name}.csv').write_text('\n'.join(['x,y,class', *cells]))
  return str(folder)


@pytest.mark.parametrize('rare', list('abcd'))
def test_a_draw_that_cannot_teach_is_refused_before_the_first_trains(tmp_path, rare):
  # A quarter of the images is the test of each repetition: one of them takes the only rare cell.
  data = dict(name='points', labeled=_write_cells(tmp_path / 'labeled', rare, 0), size=15, jitter=3)
  settings = parse_settings.parse({'data': data, 'num_seeds': 4})
  with pytest.raises(UserError, match='No labeled patch is rare; mark cells of this class in more'):
    build.check_draws(settings)
  # With test images of one's own, as the sentence says, all learn from all.
  data['test'] = _write_cells(tmp_path / 'test', 'a', 1)
  build.check_draws(parse_settings.parse({'data': data, 'num_seeds': 4}))
