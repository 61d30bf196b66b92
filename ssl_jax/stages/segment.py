"""A stage that finds organs in the test volumes, on their own grids, and says what that costs."""

import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel
from ssl_jax.data.volume_preprocessing import Preparation
from ssl_jax.errors import UserError
from ssl_jax.evaluation import organs
from ssl_jax.inference import sliding_window, volumes
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.inference.volumes import ResourceMeter, Windows
from ssl_jax.io import nifti
from ssl_jax.io.run_log import replace_text, write_done
from ssl_jax.stages.ensembles import check_members
from ssl_jax.stages.progress_log import Journal
from ssl_jax.stages.seed_scores import mean_over_seeds
from ssl_jax.types import Splits, StageSpec

INPUT_STAGES = {'of': 'train'}


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where there are no test volumes, or windows that cannot be."""
  check_members(plan, earlier)
  own, where = plan.own, f'stages.{plan.name}'
  if found.preparation is None or found.test is None:
    raise UserError(f'{where} is for test volumes (data.name=nifti), and there are none.')
  if not 0 <= own.get('overlap', 0) < 1 or own.get('batch', 1) < 1:
    raise UserError(f'{where}: overlap is in 0..1 (and below 1), batch at least 1.')
  if own.get('blend', 'constant') not in sliding_window.BLENDS:
    raise UserError(
      f'{where}: blend={own["blend"]!r} is not one of {", ".join(sliding_window.BLENDS)}.'
    )


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  overlap: float = sliding_window.OVERLAP,
  blend: str = 'constant',
  batch: int = 1,
  most: int = 0,
  largest: bool = False,
  tolerance: float = organs.TOLERANCE,
) -> dict[str, float]:
  """Writes masks/NAME.nii.gz, cases.csv and organs.md for each seed of the training stage `of`.

  traces/NAME.csv holds memory and processor use while a case was done. Windows of the training's
  size slide with `overlap` and `blend`, `batch` at a time; a volume of more than `most` prepared
  voxels (0: one that does not fit) is made coarser, and with `largest` only the largest piece of
  each organ is kept. Figures: test/dsc and test/nsd (surfaces within `tolerance` mm) in percent,
  test/hd95/ORGAN in mm over the cases that have one, and the means of seconds, peak_mib and the
  areas under the curves of memory and processor use.
  """
  ensemble, found = Ensemble(folder.parent, of), build.splits(config['data'])
  windows = Windows(ensemble.settings[0]['size'], overlap, blend, batch, most, largest)
  how, done = Preparation(**found.preparation), {}
  for seed, own in build.folders_of_seeds(config, folder).items():
    answer, _ = ensemble.at(seed)
    for kind in ('masks', 'traces'):
      (own / kind).mkdir(parents=True, exist_ok=True)
    journal = Journal(own, range(len(found.test)))
    for i in journal.through(journal.waiting, stop, folder.name, 'volumes'):
      record = found.test[i]
      with ResourceMeter() as meter:
        volume = nifti.read_volume(record['file'])
        said = volumes.segment(answer, volume, how, windows)
        if parallel.is_main():
          path = own / 'masks' / f'{record["name"]}.nii.gz'
          nifti.write_labels(path, said.ids, volume.like)
      _trace(own / 'traces' / f'{record["name"]}.csv', meter)
      truth, _ = nifti.read_labels(record['mask_file'])
      scores = organs.measure(truth, said.ids, volume.spacing, found.classes, tolerance)
      line = {'name': record['name'], 'coarser': int(said.coarser)}
      journal.write(i, line | meter.cost | scores)
    rows = [*journal.lines().values()]
    _write(own, rows)
    replace_text(own / 'organs.md', organs.table(rows, found.classes))
    done[seed] = _means(rows)
    if len(ensemble.seeds()) > 1:
      write_done(own, done[seed])
  return mean_over_seeds(done)


def _means(rows: list[dict]) -> dict[str, float]:
  """Means over the cases; an infinite distance is in none."""
  means = {}
  for name in rows[0]:
    values = [row[name] for row in rows if name != 'name' and np.isfinite(row[name])]
    if values:
      means[name if name in organs.COSTS else f'test/{name}'] = float(np.mean(values))
  return means


def _trace(path: Path, meter: ResourceMeter) -> None:
  lines = (f'{seconds:.2f},{mib:.1f},{percent:.0f}' for seconds, mib, percent in meter.trace)
  replace_text(path, '\n'.join(['seconds,mib,processor_percent', *lines, '']))


def _write(folder: Path, rows: list[dict]) -> None:
  text = io.StringIO()
  lines = csv.DictWriter(text, [*rows[0]])
  lines.writeheader()
  lines.writerows(rows)
  replace_text(folder / 'cases.csv', text.getvalue())
