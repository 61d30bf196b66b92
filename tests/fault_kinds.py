"""The kinds of runs that faults.py kills: their data, pages and commands, all tiny."""

import hashlib
import pprint
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KINDS = ('training', 'self-training', 'gan-rounds', 'volumes', 'predict', 'report')


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


def make_kind(work: Path, name: str) -> Kind:
  """Prepares the data and the page of a kind, in `work`; networks and images are tiny."""
  import conftest

  if name == 'training':
    config = conftest.tiny_page()
    config.unlock()
    config.model.dropout = 0.2
    config.update(steps=16, checkpoint_every=3, eval_every=8)
    return page_kind(work, name, config)
  if name == 'self-training':
    import test_stages

    return page_kind(work, name, test_stages.self_training(num_seeds=1, steps=6))
  if name == 'gan-rounds':
    if not (work / 'sections').exists():
      conftest.write_sections(work / 'sections')
    return page_kind(work, name, conftest.tiny_rounds(work / 'sections'))
  if name == 'volumes':
    import test_segment

    if not (work / 'volumes').exists():
      conftest.write_volumes(work / 'volumes' / 'labeled')
    page = test_segment._page(work / 'volumes', steps=8, eval_every=8, checkpoint_every=3)
    return page_kind(work, name, page)
  # Both look at a finished run.
  trained = work / 'training' / 'whole'
  if name == 'report':
    command = ['-m', 'ssl_jax.report', str(trained), '--out={folder}/report.html']
    return Kind(name, [sys.executable, *command], [])
  images = work / 'images'
  write_images(images, 40)
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
