"""What a run says of new images: `python -m ssl_jax.predict --run=RUN --images=DIR --out=DIR`.

Masks of all pixels or voxels, or the cells that were found, whichever the run has learnt.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from tqdm import tqdm

from ssl_jax import build, data, detect, images, organs, sliding, volumes
from ssl_jax.evaluate import Answer
from ssl_jax.inference import BUDGET, Probabilities, predict_many
from ssl_jax.organs import Windows
from ssl_jax.preparation import Preparation
from ssl_jax.record import replace_text
from ssl_jax.trained import Ensemble, Network, read_config
from ssl_jax.types import CELLS, UserError


def network_folder(run: Path) -> Path:
  """The folder in a run, or in one of its stages, of the network it is about; of the first seed."""
  if not (run / 'config.json').exists():
    raise UserError(f'{run} holds no config.json, so it is no run; give the --workdir of one.')
  config = read_config(run)
  stage = run / build.trained_stage(config)
  return build.seed_folders(stage if stage.is_dir() else run)[0]


def seed_folder(run: Path) -> Path:
  """The folder of the network that a run, one of its stages, or one seed's folder is about."""
  return run if (run / 'checkpoints').is_dir() else network_folder(run)


def load(run: Path) -> tuple[Answer, data.Facts]:
  """The trained network of a run, of one of its stages, or of one seed's folder.

  Of a stage that scored several networks it is their mean, of the first seed.
  """
  if (own := build.own_of(run)).get('run') == 'score':
    ensemble = Ensemble(run.parent, own['of'])
    seed = ensemble.seeds()[0]
    return ensemble.at(seed)[0], ensemble.facts(seed)
  folder = seed_folder(run)
  config = read_config(folder)
  if config is None or not (folder / 'data.json').exists():
    raise UserError(f'{run} holds no trained network yet; has its training begun?')
  facts = build.read_facts(folder)
  answer, step = Network(config, facts).at(folder, config['select'])
  if config['select'] == 'last' and step < config['steps']:
    print(f'Note: this network was trained for {step} of {config["steps"]} steps.')
  return answer, facts


def write_masks(
  probabilities: Probabilities, facts: data.Facts, folder: Path, out: Path, budget: int = BUDGET
) -> list[str]:
  """Writes out/masks/NAME.png (class ids, native size) and out/overlays/NAME.png.

  Returns one sentence per image that could not be read; the others are done all the same.
  """
  _make(out, 'masks', 'overlays')
  readable = _Readable(folder, facts)
  answers = predict_many(probabilities, (ready for _, ready in readable), budget=budget)
  for position, probs in tqdm(answers, total=len(readable.paths), unit=' images', desc='predict'):
    name, original = readable.take(position)
    if probs.shape[:2] != original.shape[:2]:  # training saw its images scaled
      probs = images.resized(probs, original.shape[:2], smooth=True)
    mask = probs.argmax(-1).astype(np.uint8)
    images.write_mask(out / 'masks' / f'{name}.png', mask)
    shown = images.overlay(images.to_uint8(original), mask)
    images.write_image(out / 'overlays' / f'{name}.png', shown)
  return readable.refused


def write_volumes(
  probabilities: Probabilities, facts: data.Facts, windows: Windows, folder: Path, out: Path
) -> list[str]:
  """Writes out/masks/NAME.nii.gz, class ids on each volume's own grid, with its header.

  Returns one sentence per volume that could not be read; the others are done all the same.
  """
  _make(out, 'masks')
  how, refused = Preparation(**facts.preparation), []
  for path in tqdm(volumes.list_volumes(folder), unit=' volumes', desc='predict'):
    try:
      volume = volumes.read_volume(path)
    except UserError as error:
      refused.append(str(error))
      continue
    found = organs.segment(probabilities, volume, how, windows)
    if found.coarser:
      said = f'its voxels were made {organs.COARSER:g} times longer'
      print(f'{path} is more than memory, or --budget, allows: {said}.')
    name = volumes.name_of(path)
    volumes.write_labels(out / 'masks' / f'{name}.nii.gz', found.ids, volume.like)
  return refused


def write_cells(
  answer: Answer, facts: data.Facts, size: int, folder: Path, out: Path, **knobs: float
) -> list[str]:
  """Writes out/points/NAME.csv (x, y, class, score) and out/overlays/NAME.png, a ring a cell.

  `size` is that of the patches, `knobs` are those of detect.slide. Returns one sentence per image
  that could not be read; the others are done all the same.
  """
  _make(out, 'points', 'overlays')
  readable = _Readable(folder, facts)
  for position, ready in tqdm(readable, total=len(readable.paths), unit=' images', desc='predict'):
    cells = detect.slide(answer, ready, size, **knobs)
    name, original = readable.take(position)
    replace_text(out / 'points' / f'{name}.csv', detect.as_csv(cells, facts.classes))
    shown = detect.draw(original, cells.at, cells.classes)
    images.write_image(out / 'overlays' / f'{name}.png', shown)
  return readable.refused


def _make(out: Path, *kinds: str) -> None:
  for kind in kinds:
    (out / kind).mkdir(parents=True, exist_ok=True)


class _Readable:
  """The images of a folder that can be read, as training saw its own; the others are refused."""

  def __init__(self, folder: Path, facts: data.Facts):
    self.paths, self.refused = images.list_images(folder), []
    self._facts, self._names = facts, output_names(self.paths)
    self._waiting: dict[int, tuple[str, np.ndarray]] = {}

  def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
    position = 0
    for name, path in zip(self._names, self.paths, strict=True):
      try:
        original = images.read_image(path)
        ready = data.prepared(original, self._facts, str(path))
      except UserError as error:
        self.refused.append(str(error))
        continue
      self._waiting[position] = name, original
      yield position, ready
      position += 1

  def take(self, position: int) -> tuple[str, np.ndarray]:
    """The name and the pixels of the image that was yielded at a position; once."""
    return self._waiting.pop(position)


def output_names(paths: list[Path]) -> list[str]:
  """Stems, or whole file names where two images share a stem (a.png and a.jpg)."""
  stems = [path.stem for path in paths]
  return [p.stem if stems.count(p.stem) == 1 else p.name for p in paths]


def main(arguments: list[str] | None = None) -> int:
  """The program; exit code 1 if any image could not be read."""
  parser = argparse.ArgumentParser(
    'python -m ssl_jax.predict', description='Writes masks, or points, for a folder of images.'
  )
  parser.add_argument('--run', type=Path, required=True, help='run, stage or seed folder')
  parser.add_argument('--images', type=Path, required=True, help='folder of images')
  parser.add_argument('--out', type=Path, required=True, help='folder to write to')
  parser.add_argument(
    '--budget',
    type=float,
    default=BUDGET / 1e6,
    help='megapixels; larger images are cut into overlapping tiles (default %(default).2f); '
    'megavoxels, above which a volume is made coarser (default: where memory runs out)',
  )
  for knob, value, what in (
    ('stride', 8, 'cells: pixels between windows'),
    ('score', 0.5, 'cells: how sure it must be that there is one'),
    ('radius', 12.0, 'cells: of those closer than this, in pixels, one is kept'),
  ):
    parser.add_argument(f'--{knob}', type=type(value), default=value, help=what)
  for knob, value, what in (
    ('overlap', sliding.OVERLAP, 'volumes: part that neighbouring windows share'),
    ('batch', 1, 'volumes: windows that go through the network together'),
  ):
    parser.add_argument(f'--{knob}', type=type(value), default=value, help=what)
  parser.add_argument(
    '--blend', choices=sliding.BLENDS, default='constant', help='volumes: how windows join'
  )
  parser.add_argument(
    '--largest', action='store_true', help='volumes: keep the largest piece of each organ alone'
  )
  asked = parser.parse_args(arguments)
  logging.set_verbosity(logging.ERROR)  # checkpointing warns that it may not write
  try:
    if not asked.budget > 0:
      raise UserError(f'--budget={asked.budget} is no number of megapixels above 0.')
    if not (0 <= asked.overlap < 1 and asked.batch > 0):
      raise UserError('--overlap is in 0..1 (and below 1), --batch at least 1.')
    if not (asked.stride > 0 and asked.radius > 0 and 0 <= asked.score <= 1):
      raise UserError('--stride and --radius are above 0, --score is in 0..1.')
    build.keep_compiled()
    answer, facts = load(asked.run)
    if facts.preparation is not None:
      size = read_config(seed_folder(asked.run))['size']
      most = int(asked.budget * 1e6) if asked.budget != parser.get_default('budget') else 0
      windows = Windows(size, asked.overlap, asked.blend, asked.batch, most, asked.largest)
      refused = write_volumes(answer, facts, windows, asked.images, asked.out)
    elif facts.task == CELLS:
      knobs = dict(stride=asked.stride, score=asked.score, radius=asked.radius)
      size = read_config(seed_folder(asked.run))['size'][0]
      refused = write_cells(answer, facts, size, asked.images, asked.out, **knobs)
    else:
      refused = write_masks(answer, facts, asked.images, asked.out, int(asked.budget * 1e6))
  except (UserError, OSError) as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  if facts.task == CELLS:
    print(f'Cells (x, y, class, score): {asked.out / "points"}')
    print('Classes: ' + ', '.join(facts.classes[1:]))
  else:
    print(f'Masks (pixel = class id): {asked.out / "masks"}')
    print('Classes: ' + ', '.join(f'{i} {name}' for i, name in enumerate(facts.classes)))
  for sentence in refused:
    print(f'Skipped: {sentence}', file=sys.stderr)
  return 1 if refused else 0


if __name__ == '__main__':
  sys.exit(main())
