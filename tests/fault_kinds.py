"""The kinds of runs that faults.py kills: their data, pages and commands, all tiny."""

import hashlib
import pprint
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KINDS = ('training', 'self-training', 'predict', 'gan-rounds', 'volumes', 'report')


class Kind(NamedTuple):
  """A kind of run: its command, with {folder} for where it writes."""

  name: str
  command: list[str]
  again: list[str]  # words that a restart adds


def page_kind(work: Path, name: str, config) -> Kind:
  """A kind that runs a page, which is written as plain Python: nothing of the tests is imported."""
  page = work / f'{name.replace("-", "_")}_page.py'
  tree = pprint.pformat(config.to_dict(), width=100)
  page.write_text(
    f'from ml_collections import ConfigDict\n\n\ndef get_config():\n  return ConfigDict({tree})\n'
  )
  command = [sys.executable, 'main.py', f'--config={page}', '--workdir={folder}']
  return Kind(name, command, [])


def training_page(work: Path):
  """A control and FixMatch: training, evaluation, and checkpoints being written."""
  import conftest

  config = conftest.tiny_page()
  config.unlock()
  config.model.dropout = 0.2
  config.update(steps=16, checkpoint_every=3, eval_every=16)
  flip = dict(flip=0.5)
  # Views that are traced quickly: most of a tiny run is tracing.
  config.views = dict(
    labeled=dict(source='labeled', **flip),
    weak=dict(source='unlabeled', **flip),
    strong=dict(source='weak', cutmix=dict(p=0.5)),
  )
  config.stages = config.to_dict()['stages'][:2]
  return config


def self_training_page(work: Path):
  """A teacher, a ranking of the images, pseudo-labels, a student, and the labels of the rest."""
  import test_stages

  config = test_stages.self_training(num_seeds=1, steps=6)
  flip = dict(flip=0.5)
  config.views = dict(labeled=dict(source='labeled', **flip))
  stages = []
  for stage in config.to_dict()['stages'][:5]:
    stage = dict(stage)
    if 'views' in stage:
      stage['views'] = dict(stage['views'], labeled=dict(source='labeled', **flip))
    stages.append(stage)
  config.stages = tuple(stages)
  return config


def gan_page(work: Path):
  """A network, a GAN, images that it makes, crops with labels, and a network that replays them."""
  import conftest

  if not (work / 'sections').exists():
    conftest.write_sections(work / 'sections')
  config = conftest.tiny_rounds(work / 'sections')
  by_name = {stage['name']: dict(stage) for stage in config.to_dict()['stages']}
  kept = ('r0-0', 'gan', 'paint', 'made1-pseudo', 'made1-made', 'made1-0')
  stages = []
  for name in kept:
    stage = by_name[name]
    if stage.get('of') == ('r0-0', 'r0-1'):
      stage['of'] = ('r0-0',)
    stages.append(stage)
  config.views = dict(labeled=dict(source='labeled', flip=0.5))
  config.stages = tuple(stages)
  config.table = ()
  return config


def volumes_page(work: Path):
  """A network in 3-D, its pseudo-labels of whole volumes, and its fine-tuning on them."""
  import conftest
  import test_segment

  if not (work / 'volumes').exists():
    conftest.write_volumes(work / 'volumes' / 'labeled')
  config = test_segment._page(work / 'volumes', steps=8, eval_every=8, checkpoint_every=3)
  config.unlock()
  config.views = dict(labeled=dict(source='labeled', flip=0.5))
  config.stages = config.to_dict()['stages'][:3]
  return config


PAGES = {
  'training': training_page,
  'self-training': self_training_page,
  'gan-rounds': gan_page,
  'volumes': volumes_page,
}


def make_kind(work: Path, name: str) -> Kind:
  """Prepares the data and the page of a kind, in `work`; networks and images are tiny."""
  if name in PAGES:
    return page_kind(work, name, PAGES[name](work))
  # Both look at a finished run.
  trained = work / 'training' / 'whole'
  if name == 'report':
    command = ['-m', 'ssl_jax.report', str(trained), '--out={folder}/report.html']
    return Kind(name, [sys.executable, *command], [])
  images = work / 'images'
  write_images(images, 24)
  command = ['-m', 'ssl_jax.predict', f'--run={trained}', f'--images={images}', '--out={folder}']
  return Kind(name, [sys.executable, *command], ['--resume'])


def write_images(folder: Path, count: int) -> None:
  """Writes images of noise to predict."""
  import numpy as np
  from PIL import Image

  if folder.exists():
    return
  folder.mkdir(parents=True)
  rng = np.random.default_rng(0)
  for number in range(count):
    pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f'image{number:02d}.png')


def code_digest() -> str:
  """A digest of the program and of this file: a reference run is only as good as its code."""
  digest = hashlib.sha256()
  for path in (*sorted((ROOT / 'ssl_jax').rglob('*.py')), Path(__file__)):
    digest.update(path.read_bytes())
  return digest.hexdigest()[:16]
