"""Self-training as a list of stages: ranking, pseudo-labels, learning from them."""

import csv
import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import tiny_page
from PIL import Image

from ssl_jax import build, registry, run_folder
from ssl_jax.data import dataset_stats, pseudo_labels
from ssl_jax.errors import Stopped, UserError
from ssl_jax.inference import cluster_matching
from ssl_jax.inference.images import predict_averaged
from ssl_jax.inference.trained_networks import TrainedNetwork
from ssl_jax.parsing.stage_list import plain, resolve
from ssl_jax.run import run
from ssl_jax.stages import rank
from ssl_jax.stages.comparing import seed_scores
from ssl_jax.stages.labeling.pseudo_label_quality import Quality
from ssl_jax.types import IGNORE


def self_training(**changes):
  """ST++ on two seeds: teacher, ranking, labels, student, labels of the rest, student."""
  config = tiny_page()
  config.unlock()
  config.update(seed=3, num_seeds=2, steps=4, checkpoint_every=3)
  config.methods = dict(supervised=dict())
  learn = dict(
    batch=dict(labeled=2, pseudo=2),
    views=dict(labeled=config.views.labeled.to_dict(), pseudo=dict(source='pseudo', flip=0.5)),
    methods=dict(supervised=dict(shown=('labeled', 'pseudo'))),
  )
  label = dict(run='pseudo_label', scales=(0.5, 1.0))
  config.stages = (
    dict(name='teacher', num_snapshots=2),
    dict(name='ranking', run='rank', of='teacher', fraction=0.75),
    dict(name='reliable', of='teacher', ranking='ranking', subset='reliable', **label),
    dict(name='first', pseudo='reliable', **learn),
    dict(name='rest', of='first', ranking='ranking', subset='rest', **label),
    dict(name='second', pseudo=('reliable', 'rest'), **learn),
    dict(
      name='verdict',
      run='compare',
      of='second',
      against='teacher',
      differences=('batch.labeled',),
    ),
  )
  config.update(changes)
  return config


def settings_of(config, stage):
  """The settings of a stage of a config."""
  return next(spec.settings for spec in resolve(plain(config)) if spec.name == stage)


@pytest.mark.parametrize(
  ('fraction', 'images', 'expected'),
  [(0.75, 9, 6), (0.75, 177, 132), (0.5, 5, 2), (0.29, 100, 29), (0.01, 5, 1), (1, 7, 7)],
)
def test_the_number_of_reliable_images_is_rounded_down(fraction, images, expected):
  """ST++ keeps int(3/4 n): 6.75 of 9 are 6, 132.75 of 177 are 132."""
  assert rank.reliable_count(fraction, images) == expected


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp('st')
  return folder, run(self_training(), folder)


def rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_the_stages_hand_on_what_they_made(trained):
  folder, done = trained
  for seed in ('seed_3', 'seed_4'):
    ranking = rows(folder / 'ranking' / seed / 'ranking.csv')
    assert [row['reliable'] for row in ranking] == ['1'] * 6 + ['0'] * 2
    scores = [float(row['reliability']) for row in ranking]
    assert scores == sorted(scores, reverse=True)
    parts = {}
    for part, count in (('reliable', 6), ('rest', 2)):
      parts[part] = {row['name'] for row in rows(folder / part / seed / 'labels.csv')}
      assert parts[part] == {path.stem for path in (folder / part / seed / 'masks').iterdir()}
      assert len(parts[part]) == count
    assert parts['reliable'] == {row['name'] for row in ranking if row['reliable'] == '1'}
    assert not parts['reliable'] & parts['rest']
  for picture in ('verdict/picture.png', 'verdict/extremes.png', 'reliable/seed_3/picture.png'):
    with Image.open(folder / picture) as opened:
      assert min(opened.size) > 200
  assert np.isfinite(done['verdict/test/miou_difference'])
  assert done['second/steps'] == 4
  assert 'seed_4/test/miou' in done
  for figure in ('coverage', 'confidence', 'miou', 'accuracy'):
    assert 0 <= done[f'reliable/labels/{figure}'] <= 100
  assert done['reliable/labels/coverage'] == 100


def test_a_crash_in_a_late_stage_resumes_there(trained, tmp_path):
  folder, done = trained
  broken = tmp_path / 'broken'
  shutil.copytree(folder, broken)
  for name in ('done.json', 'second/done.json', 'second/seed_4/done.json', 'verdict/done.json'):
    (broken / name).unlink()
  shutil.rmtree(broken / 'second' / 'seed_4' / 'checkpoints' / '4')
  before = (broken / 'first' / 'done.json').stat().st_mtime_ns
  assert run(self_training(), broken) == done
  assert (broken / 'first' / 'done.json').stat().st_mtime_ns == before


def test_pseudo_labels_are_what_the_teacher_says(trained):
  from ssl_jax.inference import predict_folder

  folder, _ = trained
  unlabeled = build.splits(run_folder.read_settings(folder / 'teacher').data).unlabeled
  predict_fn, _, _ = predict_folder.load(folder / 'teacher' / 'seed_3')
  own = [rows(folder / part / 'seed_3' / 'labels.csv') for part in ('reliable', 'rest')]
  assert len(own[0]) + len(own[1]) == len(unlabeled)
  index = int(own[0][0]['index'])
  with Image.open(folder / 'reliable' / 'seed_3' / 'masks' / f'{own[0][0]["name"]}.png') as file:
    stored = np.asarray(file)
  image = dataset_stats.to_float(unlabeled[index]['image'])
  ((_, probs),) = predict_averaged(predict_fn, [image], scales=(0.5, 1.0))
  np.testing.assert_array_equal(stored, probs.argmax(-1))


def test_several_teachers_predict_by_their_mean(trained, tmp_path):
  folder, _ = trained
  for name in ('teacher', 'first'):
    shutil.copytree(folder / name, tmp_path / name)
  shutil.copy(folder / 'config.json', tmp_path)
  settings = settings_of(self_training(), 'reliable')
  label = registry.find('stages', 'pseudo_label').stage
  label(
    settings, tmp_path / 'both', lambda: False, of=('teacher', 'first'), scales=(1.0,), flip=False
  )
  unlabeled = build.splits(settings.data).unlabeled
  image = dataset_stats.to_float(unlabeled[0]['image'])
  each = []
  for name in ('teacher', 'first'):
    own = tmp_path / name / 'seed_4'
    network = TrainedNetwork(run_folder.read_settings(own), run_folder.read_stats(own))
    predict_fn, _ = network.predict_fn(own)
    ((_, probs),) = predict_averaged(predict_fn, [image], scales=(1.0,), flip=False)
    each.append(probs)
  with Image.open(tmp_path / 'both/seed_4/masks' / f'{unlabeled[0]["name"]}.png') as file:
    np.testing.assert_array_equal(np.asarray(file), np.mean(each, 0).argmax(-1))
  assert (each[0] != each[1]).any()


@pytest.mark.parametrize(('name', 'kwargs'), [('rank', {}), ('pseudo_label', {'scales': (1.0,)})])
def test_label_stages_stop_when_asked_and_go_on(trained, tmp_path, name, kwargs):
  folder, _ = trained
  shutil.copytree(folder / 'teacher', tmp_path / 'teacher')
  settings = settings_of(self_training(), 'teacher')
  stage = registry.find('stages', name).stage
  asked = []

  def after_three() -> bool:
    asked.append(0)
    return len(asked) > 3

  stage(settings, tmp_path / 'whole', lambda: False, of='teacher', **kwargs)
  with pytest.raises(Stopped, match='the same command goes on'):
    stage(settings, tmp_path / 'x', after_three, of='teacher', **kwargs)
  assert len((tmp_path / 'x/seed_3/cases.jsonl').read_text().splitlines()) == 3
  stage(settings, tmp_path / 'x', lambda: len(asked) == 3, of='teacher', **kwargs)
  files = [path.relative_to(tmp_path / 'whole') for path in tmp_path.glob('whole/**/*.[cp]*')]
  assert len(files) > 1
  for path in files:
    assert (tmp_path / 'x' / path).read_bytes() == (tmp_path / 'whole' / path).read_bytes(), path


def test_reliability_by_hand():
  last = np.array([[0, 0, 1, 1]])
  same, half = last, np.array([[0, 0, 0, 1]])
  # IoU of class 0: 2 / 3, of class 1: 1 / 2.
  assert rank.reliability([same, half, last], 3) == pytest.approx(
    100 * (1 + (2 / 3 + 1 / 2) / 2) / 2
  )


def test_pseudo_labels_become_a_source(tmp_path):
  class Unlabeled:
    def __len__(self):
      return 3

    def __getitem__(self, index):
      return {'image': np.full((2, 2, 1), index, np.uint8), 'name': f'im{index}'}

  for folder, names in (('a', [2]), ('b', [0, 1])):
    (tmp_path / folder / 'masks').mkdir(parents=True)
    for i in names:
      mask = np.full((2, 2), 10 + i, np.uint8)
      Image.fromarray(mask).save(tmp_path / folder / 'masks' / f'im{i}.png')
    lines = ''.join(f'{i},im{i}\n' for i in names)
    (tmp_path / folder / 'labels.csv').write_text('index,name\n' + lines)
  source = pseudo_labels.PseudoLabeled(Unlabeled(), [tmp_path / 'a', tmp_path / 'b'])
  assert [source[i]['image'][0, 0, 0] for i in range(len(source))] == [2, 0, 1]
  assert [source[i]['label'][0, 0] for i in range(len(source))] == [12, 10, 11]


def test_quality_by_hand(tmp_path):
  class Truth:
    def __len__(self):
      return 1

    def __getitem__(self, index):
      return {'label': np.array([[0, 1, 1, IGNORE]])}

  quality = Quality(('sky', 'cell'), Truth())
  mask = np.array([[0, 0, 1, 1]], np.uint8)
  counts = quality.count(0, mask, np.array([[0.99, 0.55, 0.97, 0.9]]))
  quality.add(json.loads(json.dumps(counts)))
  quality.add(quality.count(0, np.full((1, 4), IGNORE, np.uint8), np.full((1, 4), 0.5)))
  figures = quality.write(tmp_path)
  assert figures['labels/coverage'] == 50
  assert figures['labels/accuracy'] == pytest.approx(200 / 3)
  assert figures['labels/precision/sky'] == 50
  assert figures['labels/precision/cell'] == 100
  assert figures['labels/miou'] == pytest.approx(50)
  sky = {
    row['confidence_from']: row for row in rows(tmp_path / 'quality.csv') if row['class'] == 'sky'
  }
  assert (sky['0.99']['pixels'], sky['0.99']['precision']) == ('1', '100.00')
  assert (sky['0.5']['pixels'], sky['0.5']['precision']) == ('1', '0.00')


@pytest.mark.parametrize(
  ('changes', 'says'),
  [
    ({1: {'fraction': 1.5}}, 'fraction=1.5 is not above 0 and at most 1'),
    ({0: {'num_snapshots': 1}}, 'let teacher keep some: num_snapshots=3'),
    ({2: {'ranking': 'nobody'}}, "ranking='nobody' is no rank stage before it; there is ranking"),
    ({2: {'subset': 'some'}}, "subset='some' is not one of all, reliable, rest"),
    ({2: {'subset': 'all'}}, 'need each other'),
    ({2: {'threshold': 2.0}}, 'threshold=2.0 is not at least 0 and below 1'),
    ({3: {'pseudo': 'teacher'}}, "pseudo='teacher' is no pseudo_label stage before it"),
    ({3: {'pseudo': ()}}, 'need each other'),
    ({0: {'checkpoint': 'best'}}, "checkpoint='best' chooses on validation images"),
    ({3: {'init_from': 'ranking'}}, "init_from='ranking' is no train stage before it"),
    ({3: {'init_from': 'teacher', 'model.widths': (4, 6)}}, 'init_from=teacher has another model'),
    (
      {3: {'init_from': 'teacher', 'num_seeds': 3}},
      'init_from=teacher has another num_seeds',
    ),
  ],
)
def test_stages_that_cannot_work_are_refused_at_the_start(tmp_path, changes, says):
  config = self_training()
  stages = [dict(stage) for stage in config.to_dict()['stages']]
  for index, change in changes.items():
    stages[index] |= change
  config.stages = tuple(stages)
  with pytest.raises(UserError, match=says):
    run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('ema_decay', [0.0, 0.9])
def test_a_stage_starts_from_the_weights_of_an_earlier_one(tmp_path, ema_decay):
  config = tiny_page()
  config.unlock()
  config.update(num_seeds=2, steps=3, checkpoint_every=1, methods=dict(supervised=dict()))
  config.update(ema_decay=ema_decay, teacher='ema' if ema_decay else 'student')
  config.model.norm = 'group'  # batch statistics would move on
  still = dict(init_from='first', steps=1, ema_decay=0.0, teacher='student', crop_size=24)
  config.stages = (dict(name='first'), {**still, 'name': 'then', 'optimizer.lr': 0.0})
  done = run(config, tmp_path)
  scores = [f'seed_{seed}/test/miou' for seed in (0, 1)]
  assert [done[f'then/{score}'] for score in scores] == [done[f'first/{score}'] for score in scores]
  folders = [tmp_path / stage / 'seed_1' / 'test' / 'matrices.npz' for stage in ('first', 'then')]
  first, then = (np.load(file)['matrices'] for file in folders)
  np.testing.assert_array_equal(first, then)
  weights = [_weights(tmp_path / 'first' / 'seed_1' / 'checkpoints' / str(n)) for n in (2, 3)]
  assert (weights[0] != weights[1]).any()  # it had learned, and the last step counts
  begun = _weights(tmp_path / 'then' / 'seed_1' / 'checkpoints' / '1')
  source = 'ema' if ema_decay else 'student'
  np.testing.assert_array_equal(begun, _weights(folders[0].parents[1] / 'checkpoints/3', source))


def _weights(checkpoint, source='student'):
  saved = ocp.StandardCheckpointer().restore(checkpoint / 'default')
  return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(saved[source]['params'])])


def test_the_best_step_is_the_one_that_validation_chose(tmp_path):
  config = tiny_page()
  config.unlock()
  config.stages = ()
  config.checkpoint = 'best'
  config.data.val = 3
  config.update(eval_every=2, checkpoint_every=2, steps=6)
  done = run(config, tmp_path)
  assert done['val/miou'] == done['val/best_seen_miou']
  assert done['steps'] in (2, 4, 6)


def clustering(**changes):
  """IIC on two seeds, and the same networks by their other head."""
  config = tiny_page()
  config.unlock()
  config.update(num_seeds=2, steps=4, batch=dict(unlabeled=4), heads=dict(over=5))
  config.match = dict(head='class', how='one-to-one')
  config.views = dict(weak=dict(source='unlabeled'), strong=dict(source='weak', rotate=180.0))
  config.methods = dict(iic=dict(weight=1.0, radius=1, over='over'))
  over = dict(head='over', how='overlap')
  config.stages = (dict(name='iic'), dict(name='over', run='score', of='iic', match=over))
  config.update(changes)
  return config


def test_clusters_get_their_classes_from_training_images_alone(tmp_path):
  config = clustering()
  run(config, tmp_path)
  settings = run_folder.read_settings(tmp_path / 'iic')
  for number, seed in enumerate(('seed_0', 'seed_1')):
    splits = build.splits_of_seed(settings_of(config, 'iic'), number)
    own = tmp_path / 'iic' / seed
    network = TrainedNetwork(settings, run_folder.read_stats(own))
    clusters, _ = network.cluster_predict_fn(own)
    table = cluster_matching.match_clusters(clusters, splits.labeled, 3, 'one-to-one')
    np.testing.assert_array_equal(table, cluster_matching.read_table(own))
    assert table.shape == (3, 3)
    # What was scored, and what anybody predicts later, is the matched network.
    image = dataset_stats.to_float(splits.test[0]['image'])
    predict_fn, _ = network.predict_fn(own)
    margin = [(0, -side % predict_fn.multiple) for side in image.shape[:2]]
    padded = np.pad(image, [*margin, (0, 0)], mode='reflect')
    mask = np.asarray(predict_fn(padded[None]))[0, : image.shape[0], : image.shape[1]].argmax(-1)
    written = own / 'test' / 'masks' / f'{splits.test[0]["name"]}.png'
    np.testing.assert_array_equal(np.asarray(Image.open(written)), mask)
    assert (tmp_path / 'over' / seed / 'test' / 'matrices.npz').exists()
  done = json.loads((tmp_path / 'over' / 'done.json').read_text())
  assert done['test/miou'] == pytest.approx(
    np.mean([done[f'seed_{seed}/test/miou'] for seed in (0, 1)])
  )


def test_figures_of_several_seeds_are_means_and_each_ones_own():
  one, two = {'test/miou': 50.0, 'steps': 4}, {'test/miou': 60.0, 'steps': 4, 'extra': 1.0}
  assert seed_scores.mean_over_seeds({7: one}) == one
  means = seed_scores.mean_over_seeds({7: one, 8: two})
  assert means['test/miou'] == 55.0
  assert (means['seed_7/test/miou'], means['seed_8/extra']) == (50.0, 1.0)
  assert 'extra' not in means  # a mean of some seeds would mislead
