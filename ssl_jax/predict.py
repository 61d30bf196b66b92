"""Masks for new images: `python -m ssl_jax.predict --run=RUN --images=FOLDER --out=FOLDER`."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from tqdm import tqdm

from ssl_jax import build, data, images
from ssl_jax.inference import BUDGET, Probabilities, predict_many
from ssl_jax.trained import Network, read_config
from ssl_jax.types import UserError


def network_folder(run: Path) -> Path:
  """The folder in a run, or in one of its stages, of the network it is about; of the first seed."""
  if not (run / 'config.json').exists():
    raise UserError(f'{run} holds no config.json, so it is no run; give the --workdir of one.')
  config = read_config(run)
  stage = run / build.trained_stage(config)
  return build.seed_folders(stage if stage.is_dir() else run)[0]


def load(run: Path) -> tuple[Probabilities, data.Facts]:
  """The trained network of a run, of one of its stages, or of one seed's folder."""
  folder = run if (run / 'checkpoints').is_dir() else network_folder(run)
  config = read_config(folder)
  if config is None or not (folder / 'data.json').exists():
    raise UserError(f'{run} holds no trained network yet; has its training begun?')
  facts = build.read_facts(folder)
  probabilities, step = Network(config, facts).at(folder, config['select'])
  if config['select'] == 'last' and step < config['steps']:
    print(f'Note: this network was trained for {step} of {config["steps"]} steps.')
  return probabilities, facts


def write_masks(
  probabilities: Probabilities, facts: data.Facts, folder: Path, out: Path, budget: int = BUDGET
) -> list[str]:
  """Writes out/masks/NAME.png (class ids, native size) and out/overlays/NAME.png.

  Returns one sentence per image that could not be read; the others are done all the same.
  """
  paths = images.list_images(folder)
  names = output_names(paths)
  for kind in ('masks', 'overlays'):
    (out / kind).mkdir(parents=True, exist_ok=True)
  originals: dict[int, np.ndarray] = {}
  refused, order = [], []

  def readable() -> Iterator[np.ndarray]:
    for index, path in enumerate(paths):
      try:
        original = images.read_image(path)
        ready = data.prepared(original, facts, str(path))
      except UserError as error:
        refused.append(str(error))
        continue
      originals[index] = original
      order.append(index)
      yield ready

  answers = predict_many(probabilities, readable(), budget=budget)
  for position, probs in tqdm(answers, total=len(paths), unit=' images', desc='predict'):
    index = order[position]
    mask = probs.argmax(-1).astype(np.uint8)
    images.write_mask(out / 'masks' / f'{names[index]}.png', mask)
    shown = images.overlay(images.to_uint8(originals.pop(index)), mask)
    images.write_image(out / 'overlays' / f'{names[index]}.png', shown)
  return refused


def output_names(paths: list[Path]) -> list[str]:
  """Stems, or whole file names where two images share a stem (a.png and a.jpg)."""
  stems = [path.stem for path in paths]
  return [p.stem if stems.count(p.stem) == 1 else p.name for p in paths]


def main(arguments: list[str] | None = None) -> int:
  """The program; exit code 1 if any image could not be read."""
  parser = argparse.ArgumentParser(
    'python -m ssl_jax.predict', description='Writes masks for a folder of images.'
  )
  parser.add_argument('--run', type=Path, required=True, help='run, stage or seed folder')
  parser.add_argument('--images', type=Path, required=True, help='folder of images')
  parser.add_argument('--out', type=Path, required=True, help='folder to write to')
  parser.add_argument(
    '--budget',
    type=float,
    default=BUDGET / 1e6,
    help='megapixels; larger images are cut into overlapping tiles (default %(default).2f)',
  )
  asked = parser.parse_args(arguments)
  logging.set_verbosity(logging.ERROR)  # checkpointing warns that it may not write
  try:
    if not asked.budget > 0:
      raise UserError(f'--budget={asked.budget} is no number of megapixels above 0.')
    build.keep_compiled()
    probabilities, facts = load(asked.run)
    refused = write_masks(probabilities, facts, asked.images, asked.out, int(asked.budget * 1e6))
  except (UserError, OSError) as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  print(f'Masks (pixel = class id): {asked.out / "masks"}')
  print('Classes: ' + ', '.join(f'{i} {name}' for i, name in enumerate(facts.classes)))
  for sentence in refused:
    print(f'Skipped: {sentence}', file=sys.stderr)
  return 1 if refused else 0


if __name__ == '__main__':
  sys.exit(main())
