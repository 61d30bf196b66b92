"""What the papers' cells compute: operations of their trainings, counted without running them.

    python benchmarks/paper_estimate.py --data FOLDER

reads the pages and images of the cells of paper_cells.py, checks them as a run would, counts the
matrix products and convolutions of each update, and keeps the sums in results/paper_cells.json, by
which `paper_cells.py --list` tells minutes. Evaluations and stages that only predict do not count.
"""

import argparse
import fnmatch
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]

import paper_cells  # noqa: E402

from ssl_jax import build, cli  # noqa: E402
from ssl_jax.data.dataset_stats import DatasetStats  # noqa: E402
from ssl_jax.parsing import stage_list  # noqa: E402
from ssl_jax.running import self_configuration  # noqa: E402
from ssl_jax.running.validate import validate  # noqa: E402
from ssl_jax.settings import Inputs, Learning, Settings  # noqa: E402
from ssl_jax.stages.learning import gan_samples  # noqa: E402
from ssl_jax.training import operations  # noqa: E402
from ssl_jax.types import CELLS, Splits  # noqa: E402


def of_update(settings: Settings, run: str, splits: Splits) -> float:
  """Operations of one update of one seed."""
  record = splits.labeled[0]
  channels = record['image'].shape[-1]
  given = (tuple(splits.classes), channels, None, (0.5,) * channels, (0.25,) * channels, {}, 0)
  stats = DatasetStats(*given, task=splits.task)
  learning, inputs = settings.part(Learning), settings.part(Inputs)
  if run == 'train_gan':
    game = gan_samples.game_of(settings, 'gan')
    learner = build.gan_learner(game, learning, inputs, settings.steps, stats)
  else:
    learner = build.learner(learning, inputs, settings.steps, stats)
  example = jax.ShapeDtypeStruct((1, *inputs.crop_size, channels), jnp.float32)
  key = jax.random.key(0)
  state = jax.eval_shape(learner.init, key, example, learner.normalization)
  batch = {name: _stream(name, size, inputs, channels, splits.task == CELLS)
           for name, size in inputs.batch.items()}  # fmt: skip
  return sum(operations.count(jax.make_jaxpr(learner.update)(state, batch, key)).values())


def _stream(name: str, size: int, inputs: Inputs, channels: int, patches: bool) -> dict[str, Any]:
  """Shapes of a batch; images are taken as large as the views, which makes no difference."""
  space = inputs.crop_size
  stream = {
    'image': jax.ShapeDtypeStruct((size, *space, channels), jnp.uint8),
    'extent': jax.ShapeDtypeStruct((size, len(space)), jnp.int32),
  }
  if name != 'unlabeled':
    shape = (size,) if patches else (size, *space)
    stream['label'] = jax.ShapeDtypeStruct(shape, jnp.int32 if patches else jnp.uint8)
    if patches:
      stream['point'] = jax.ShapeDtypeStruct((size, len(space)), jnp.float32)
  return stream


def of_cell(cell: paper_cells.Cell, data: Path) -> dict[str, Any]:
  """Teraoperations, trainings, updates and programs of a cell.

  Raises:
    UserError: where a run of the cell would be refused.
  """
  words = paper_cells.command(cell, data, Path('nowhere'), None)[2:]
  page = stage_list.plain(cli._parse(words).config)
  page = self_configuration.configure(page, timing=False).page
  specs = stage_list.resolve(page)
  validate(specs)
  known: dict[str, float] = {}
  total, trainings, updates = 0.0, 0, 0
  for spec in specs:
    patterns = cell.only.split(',')
    asked = any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in patterns)
    if not asked or spec.run not in ('train', 'train_gan'):
      continue
    settings = spec.settings
    key = repr((settings.part(Learning), settings.part(Inputs), settings.gan, spec.run))
    if key not in known:
      known[key] = of_update(settings, spec.run, build.splits(settings.data))
    seeds = settings.num_seeds
    total += known[key] * settings.steps * seeds
    trainings += seeds
    updates += settings.steps * seeds
  figures = {'teraoperations': total / 1e12, 'trainings': trainings, 'updates': updates}
  return figures | {'programs': len(known)}


def main() -> None:
  """Writes the figures of the cells, one after another."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n', 1)[0])
  parser.add_argument('--data', type=Path, required=True, help='folder of the data sets')
  parser.add_argument('--pattern', default='*', help='cells by name')
  asked = parser.parse_args()
  for cell in paper_cells.CELLS:
    if fnmatch.fnmatchcase(cell.name, asked.pattern):
      figures = of_cell(cell, asked.data.resolve())
      kept = paper_cells.counted() | {cell.name: figures}
      paper_cells.COUNTED.write_text(json.dumps(kept, indent=1) + '\n')
      print(cell.name, figures, flush=True)


if __name__ == '__main__':
  main()
