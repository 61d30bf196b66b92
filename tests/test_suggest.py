"""Which images to label next, and what more labels would give."""

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import tiny_page
from PIL import Image

from ssl_jax import run_folder, suggest
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.data.selection import farthest_first
from ssl_jax.datasets import synthetic
from ssl_jax.errors import UserError
from ssl_jax.evaluation.comparison import label_gain, learning_curve
from ssl_jax.inference import candidates, committee, run_networks
from ssl_jax.parsing import parse_settings
from ssl_jax.run import run

# ---- Disagreement


def test_two_that_contradict_each_other_disagree_by_one_bit():
  sure_of_one = np.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
  sure_of_other = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
  opinion = committee.combine([sure_of_one, sure_of_other])
  # Both unsure alike is no disagreement.
  np.testing.assert_allclose(opinion.uncertainty, [1, 0, 0], atol=1e-6)
  np.testing.assert_allclose(opinion.probs, [[0.5, 0.5], [0.5, 0.5], [1, 0]])


def test_mutual_information_by_hand():
  opinion = committee.combine([np.array([[0.9, 0.1]]), np.array([[0.6, 0.4]])])

  def bits(p):
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)

  assert opinion.uncertainty[0] == pytest.approx(bits(0.75) - (bits(0.9) + bits(0.6)) / 2)


def test_of_one_network_it_is_the_entropy():
  opinion = committee.combine([np.array([[0.25, 0.25, 0.5], [1.0, 0.0, 0.0]])])
  np.testing.assert_allclose(opinion.uncertainty, [1.5, 0], atol=1e-6)


# ---- Choice


def test_the_most_uncertain_of_those_far_away_come_first():
  places = np.array([[0.0], [10.0], [10.5], [4.0]])
  chosen = farthest_first.choose(places, np.array([1.0, 1.0, 0.9, 1.0]), np.array([[0.0]]), 3)
  # Scores: 0, 10, 9.45, 4; then 0 (a copy of the labeled), 0.45 near the first, 4.
  assert [one.index for one in chosen] == [1, 3, 2]
  assert [one.distance for one in chosen] == [10, 4, 0.5]
  # Positions count the one labeled image first: 1 + 1 is the second candidate.
  assert [one.nearest for one in chosen] == [0, 0, 2]
  assert chosen[2].score == pytest.approx(0.45)


def test_copies_are_never_chosen():
  places = np.array([[0.0], [0.0], [2.0], [2.0]])
  chosen = farthest_first.choose(places, np.ones(4), np.array([[0.0]]), 4)
  assert [one.index for one in chosen] == [2]


def test_without_labels_the_first_is_the_most_uncertain():
  places = np.array([[0.0], [1.0], [9.0]])
  uncertainty = np.array([0.5, 0.9, 0.2])
  chosen = farthest_first.choose(places, uncertainty, np.zeros((0, 1)), 2)
  assert [one.index for one in chosen] == [1, 2]
  assert np.isnan(chosen[0].distance)
  assert chosen[0].nearest == -1


def test_a_number_that_never_changes_says_nothing_and_groups_weigh_alike():
  wide = np.array([[0.0, 5.0, 1.0], [2.0, 5.0, 3.0]])
  narrow = np.array([[1e3], [3e3]])
  scaled = farthest_first.standardize([wide, narrow])
  assert scaled.shape == (2, 3)
  squares = (scaled[0] - scaled[1]) ** 2
  assert squares[:2].sum() == pytest.approx(squares[2:].sum())


# ---- Learning curve


def test_a_power_law_is_found_again():
  rate = learning_curve.RATES[17]
  numbers = [4, 8, 16, 64]
  law = learning_curve.fit(numbers, [90 - 50 * n**-rate for n in numbers])
  assert law == pytest.approx((90, 50, rate), rel=1e-6)


def test_the_fit_is_that_of_scipy():
  from scipy import optimize

  numbers, scores = np.array([5.0, 10, 20, 40]), np.array([61.0, 70.5, 74.0, 78.5])
  law = learning_curve.fit(numbers.tolist(), scores.tolist())

  def curve(n, limit, loss, rate):
    return limit - loss * n**-rate

  bounds = ([0, 0, 0.1], [100, 1e3, 2])
  (limit, loss, rate), _ = optimize.curve_fit(curve, numbers, scores, (90, 50, 0.5), bounds=bounds)
  assert law.at(50) == pytest.approx(curve(50, limit, loss, rate), abs=0.05)


def test_a_curve_never_falls_and_never_ends_above_100():
  assert learning_curve.fit([5, 10, 20], [70, 65, 60])[:2] == pytest.approx((65, 0))
  law = learning_curve.fit([5, 10, 20], [50, 75, 99])
  assert law.at(1e9) <= 100


def test_the_interval_holds_the_truth_and_is_wider_where_draws_vary():
  rng = np.random.default_rng(1)
  numbers = [5, 10, 20, 40]
  means = [85 - 60 * n**-0.6 for n in numbers]
  truth = 60 * (40**-0.6 - 50**-0.6)
  widths = []
  for noise in (0.2, 2.0):
    scores = [mean + noise * rng.standard_normal(5) for mean in means]
    gain = learning_curve.gain(learning_curve.Curve(numbers, scores), 40, 10)
    assert gain.low <= truth <= gain.high
    widths.append(gain.high - gain.low)
  assert widths[0] < widths[1]


def _stage(run, name, labels, scores, **fields):
  """A stage of a run as far as its curve is read: its settings, statistics and scores."""
  tree = tiny_page().to_dict()
  tree = {key: tree[key] for key in parse_settings.FIELDS if key in tree} | fields
  tree['data'] = {**tree['data'], 'labeled': labels}
  settings = parse_settings.to_dict(parse_settings.parse({**tree, 'num_seeds': len(scores)}))
  run_folder.write_page(run / name, settings)
  for seed, score in enumerate(scores):
    folder = run / name / f'seed_{seed}'
    folder.mkdir()
    stats = DatasetStats(('a', 'b'), 1, None, (0.5,), (0.2,), {'labeled': labels}, 0)
    (folder / 'data.json').write_text(json.dumps(stats._asdict()))
    (folder / 'done.json').write_text(json.dumps({'test/miou': score}))


def _curve_run(folder, numbers, command=''):
  for number in numbers:
    (folder / f'n{number}').mkdir(parents=True)
    base = 80 - 40 * number**-0.5
    _stage(folder, f'n{number}', number, [base - 0.5, base, base + 0.5])
  stages = [{'name': f'n{number}'} for number in numbers]
  (folder / 'config.json').write_text(json.dumps({'stages': stages}))
  (folder / 'command.txt').write_text(command)
  return folder / f'n{numbers[-1]}'


def test_a_run_with_three_numbers_of_labels_has_a_curve(tmp_path):
  stage = _curve_run(tmp_path / 'run', (5, 10, 20))
  outlook = label_gain.outlook(stage, 10)
  truth = 40 * (20**-0.5 - 30**-0.5)
  assert outlook.gain.mean == pytest.approx(truth, abs=0.2)
  assert '10 more labels beside the 20 that there are' in outlook.text
  assert [number for number, _ in outlook.points] == [5, 10, 20]


def test_a_stage_that_differs_in_more_is_no_point_of_the_curve(tmp_path):
  stage = _curve_run(tmp_path / 'run', (5, 10, 20))
  page = json.loads((tmp_path / 'run' / 'n10' / 'config.json').read_text())
  (tmp_path / 'run' / 'n10' / 'config.json').write_text(json.dumps({**page, 'steps': 99}))
  outlook = label_gain.outlook(stage)
  assert outlook.gain is None
  assert 'scores at 2 numbers of labels' in outlook.text


@pytest.mark.parametrize(
  ('command', 'says'),
  [
    (
      'python main.py --config=configs/your_images.py --config.data.labeled=a',
      'python main.py --config=configs/your_images.py:curve --config.data.labeled=a',
    ),
    ('ssl-jax train --config=your_volumes', 'ssl-jax train --config=your_volumes:curve'),
    ('python main.py --config=your_images:minutes', '--config=your_images:minutes,curve'),
    ('python main.py --config=mine.py', 'differ in the number of labels alone (data.num_labeled'),
  ],
)
def test_without_a_curve_the_command_that_makes_one_is_told(tmp_path, command, says):
  stage = _curve_run(tmp_path / 'run', (8,), command)
  outlook = label_gain.outlook(stage)
  assert 'cannot be estimated: the run has scores at one number of labels' in outlook.text
  assert says in f'{outlook.text} {outlook.command}'


# ---- The command


@pytest.fixture(scope='module')
def ensemble(finished, tmp_path_factory):
  """The finished run, with the networks of its two stages as two seeds of `fixmatch`."""
  folder = tmp_path_factory.mktemp('runs') / 'two'
  shutil.copytree(finished, folder)
  seeds = folder / 'seeds'
  shutil.move(folder / 'fixmatch', seeds)
  (folder / 'fixmatch').mkdir()
  shutil.move(seeds, folder / 'fixmatch' / 'seed_0')
  shutil.copytree(finished / 'control', folder / 'fixmatch' / 'seed_1')
  for seed in ('seed_0', 'seed_1'):
    (folder / 'fixmatch' / seed / 'config.json').unlink()
  page = json.loads((finished / 'fixmatch' / 'config.json').read_text())
  (folder / 'fixmatch' / 'config.json').write_text(json.dumps({**page, 'num_seeds': 2}))
  return folder


def test_a_committee_is_of_the_networks_that_predict(ensemble, tmp_path):
  loaded = committee.load(committee.find_stage(ensemble))
  assert [member.folder.name for member in loaded.members] == ['seed_0', 'seed_1']
  image = np.random.default_rng(0).uniform(size=(32, 32, 3)).astype(np.float32)
  predict_fn, _ = run_networks.find(ensemble).predict_fn()
  opinion = committee.ask(loaded, [image])
  np.testing.assert_allclose(opinion.probs, predict_fn(image[None])[0], atol=1e-6)
  assert opinion.uncertainty.max() > 0
  shutil.copytree(ensemble / 'fixmatch', tmp_path / 'fixmatch')
  shutil.rmtree(tmp_path / 'fixmatch' / 'seed_1')
  with pytest.raises(UserError, match='no trained network yet of the seeds 1; let the run come'):
    committee.load(tmp_path / 'fixmatch')


@pytest.fixture
def pool(tmp_path):
  """Eight unlabeled images; the first is one of the labeled ones, the last of another kind."""
  page = tiny_page()
  data = {k: v for k, v in page.data.items() if k in ('labeled', 'unlabeled', 'test', 'size')}
  splits = synthetic.load(**data)
  (tmp_path / 'in').mkdir()
  Image.fromarray(splits.labeled[0]['image']).save(tmp_path / 'in' / 'a-copy.png')
  for i in range(6):
    Image.fromarray(splits.unlabeled[i]['image']).save(tmp_path / 'in' / f'b{i}.png')
  dark = splits.unlabeled[6]['image'] // 4
  Image.fromarray(dark).save(tmp_path / 'in' / 'dark.png')
  return tmp_path


def _call(run, pool, *more):
  words = [f'--run={run}', f'--unlabeled={pool / "in"}', f'--out={pool / "out"}', *more]
  return suggest.main(words)


def _table(pool):
  with (pool / 'out' / 'suggestions.csv').open() as file:
    return list(csv.DictReader(file))


def test_suggestions_come_with_reasons_and_masks_to_correct(ensemble, pool, capsys):
  assert _call(ensemble, pool, '--n=3') == 0
  said = capsys.readouterr().out
  assert 'disagreement of the 2 networks of fixmatch' in said
  assert 'cannot be estimated' in said
  rows = _table(pool)
  assert [row['rank'] for row in rows] == ['1', '2', '3']
  # Unlike all others, and nothing is gained by a copy.
  assert 'dark.png' in {row['image'] for row in rows}
  assert 'a-copy.png' not in {row['image'] for row in rows}
  for row in rows:
    assert float(row['score']) == pytest.approx(
      float(row['uncertainty']) * float(row['distance']), rel=1e-2
    )
    to_label = pool / 'out' / 'to_label'
    copied = to_label / 'images' / row['image']
    assert copied.read_bytes() == (pool / 'in' / row['image']).read_bytes()
    with Image.open(to_label / 'masks' / row['image']) as mask, Image.open(copied) as image:
      assert mask.mode == 'L'
      assert mask.size == image.size
  html = (pool / 'out' / 'suggestions.html').read_text()
  assert html.count('<figure>') == 3
  # The quickstart's page has no command for more.
  assert 'docs/suggest.md shows how' in html
  assert html.count('data:image/png') == 6


def test_one_network_is_said_to_be_one(finished, pool, capsys):
  assert _call(finished, pool, '--n=1') == 0
  assert 'mean entropy of one network' in capsys.readouterr().out


def test_corrected_masks_are_never_lost(finished, pool, capsys):
  (pool / 'out').mkdir()
  (pool / 'out' / 'notes.txt').write_text('mine')
  assert _call(finished, pool) == 1
  assert 'holds other files' in capsys.readouterr().err
  (pool / 'out' / 'notes.txt').rename(pool / 'out' / 'suggestions.csv')
  assert _call(finished, pool) == 1
  assert 'perhaps corrected' in capsys.readouterr().err


def test_an_interrupted_look_goes_on(finished, pool, monkeypatch, capsys):
  looked = []
  look = candidates.Candidates.look

  def interrupted(self, files):
    looked.append(files[0].name)
    if len(looked) == 4:
      raise KeyboardInterrupt
    return look(self, files)

  monkeypatch.setattr(candidates.Candidates, 'look', interrupted)
  assert _call(finished, pool, '--n=1') == 130
  assert 'the same command goes on' in capsys.readouterr().err
  assert _call(finished, pool, '--n=1') == 0
  # The fourth again, the others once; at last the chosen one for its picture.
  assert looked[4:9] == ['b2.png', 'b3.png', 'b4.png', 'b5.png', 'dark.png']
  assert len(looked) == 10


@pytest.mark.parametrize(
  ('more', 'says'),
  [(['--n=0'], '--n=0 is not at least 1'), (['--run=nowhere'], 'nowhere holds no')],
)
def test_a_mistake_is_a_sentence(finished, pool, more, says, capsys):
  assert _call(finished, pool, *more) == 1
  assert says in capsys.readouterr().err
  assert not (pool / 'out').exists()


def test_what_cannot_be_read_is_named_and_the_others_are_done(finished, pool, capsys):
  (pool / 'in' / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\nnot really')
  assert _call(finished, pool, '--n=1') == 1
  assert 'broken.png' in capsys.readouterr().err
  assert len(_table(pool)) == 1


def test_labeled_images_that_are_gone_are_a_warning(finished, pool, monkeypatch, capsys):
  def gone(*_):
    raise UserError('a.png does not exist.')

  monkeypatch.setattr(candidates.build, 'splits_of_seed', gone)
  assert _call(finished, pool, '--n=1') == 0
  assert 'could not be read (a.png does not exist.)' in capsys.readouterr().out
  assert _table(pool)[0]['distance'] == ''


def test_volumes_are_suggested_as_well(tmp_path):
  """With two tiny steps of your_volumes, by volume."""
  from conftest import write_volumes
  from page_cases import page_of
  from tiny_pages import shrink

  config = shrink(page_of('your_volumes'), tmp_path, 'mean-teacher')
  run(config, tmp_path / 'run')
  write_volumes(tmp_path / 'more', count=3, seed=5, first=50)
  out = tmp_path / 'out'
  folder = tmp_path / 'more' / 'images'
  words = [f'--run={tmp_path / "run"}', f'--unlabeled={folder}', f'--out={out}', '--n=2']
  assert suggest.main(words) == 0
  copied = {path.name for path in (out / 'to_label' / 'images').iterdir()}
  assert len(copied) == 2
  assert {path.name for path in (out / 'to_label' / 'masks').iterdir()} == copied
  assert (out / 'suggestions.html').read_text().count('<figure>') == 2
