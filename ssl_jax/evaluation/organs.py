"""Scores of organs in whole volumes: overlap, surfaces, and the table of a test set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from ssl_jax.evaluation import surface_distance

Tolerance = float | int | Mapping[str, float | int] | None
"""Millimetres within which surfaces agree: one number, a table by organ, or None for a voxel."""

COSTS = {
  'seconds': 'running time, s',
  'peak_mib': 'peak of memory, MiB',
  'memory_area': 'area under memory over time, MiB s',
  'processor_area': 'area under processor use over time, % s',
}
"""What a ResourceMeter measures, and its words in a table."""


def organ_scores(
  truth: Integer[np.ndarray, 'x y z'],
  predicted: Integer[np.ndarray, 'x y z'],
  spacing: Sequence[float | int],
  classes: Sequence[str],
  tolerance: Tolerance = None,
  truth_slices: Sequence[str] = (),
) -> dict[str, float]:
  """Returns dsc/<organ> and nsd/<organ> in percent, hd95/<organ> in mm, and the means dsc and nsd.

  An organ that is in neither volume has 100, 100 and 0; one that is in only one has 0, 0 and
  infinity.

  Args:
    truth: class ids.
    predicted: class ids.
    spacing: sides of a voxel in mm.
    classes: names, the background first.
    tolerance: mm within which surfaces agree for nsd; None, and for organs that a table leaves out:
      the shortest side of a voxel.
    truth_slices: organs that are scored only from the first to the last slice (along z) in which
      the truth has them, because annotators end them at different heights.
  """
  figures = {}
  for class_id, name in enumerate(classes[1:], start=1):
    in_truth, in_prediction = truth == class_id, predicted == class_id
    if name in truth_slices and in_truth.any():
      heights = np.flatnonzero(in_truth.any((0, 1)))
      slices = slice(heights[0], heights[-1] + 1)
      in_truth, in_prediction = in_truth[..., slices], in_prediction[..., slices]
    total = int(in_truth.sum() + in_prediction.sum())
    common = int((in_truth & in_prediction).sum())
    # Computed once; both scores of the surface need it.
    between = surface_distance.surfaces(in_truth, in_prediction, spacing)
    # 2 |A and B| / (|A| + |B|) in percent.
    figures[f'dsc/{name}'] = 200.0 * common / total if total else 100.0
    millimetres = _tolerance_of(name, tolerance, spacing)
    figures[f'nsd/{name}'] = 100 * surface_distance.surface_dice(between, millimetres)
    figures[f'hd95/{name}'] = surface_distance.hausdorff(between)
  # No mean of HD95: it is infinite where an organ was missed.
  for score in ('dsc', 'nsd'):
    figures[score] = float(np.mean([figures[f'{score}/{name}'] for name in classes[1:]]))
  return figures


def _tolerance_of(name: str, tolerance: Tolerance, spacing: Sequence[float | int]) -> float | int:
  if isinstance(tolerance, Mapping):
    tolerance = tolerance.get(name)
  # A fixed number of mm would be everything in a mouse and nothing in a lung: where none is given,
  # surfaces agree that are at most one voxel apart.
  return min(spacing) if tolerance is None else tolerance


def organ_table(cases: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
  """Returns a Markdown table of cases: the scores of each organ, then the costs of a case.

  DSC and NSD (percent) are given as mean and standard deviation over cases, HD95 (mm) as the mean
  over the n cases in which it is finite.
  """
  # Markdown; the background is no organ.
  lines = ['| organ | DSC % | NSD % | HD95 mm |', '|---|---|---|---|']
  for name in classes[1:]:
    dsc = _mean_and_std([case[f'dsc/{name}'] for case in cases])
    nsd = _mean_and_std([case[f'nsd/{name}'] for case in cases])
    # Infinite where only one of truth and prediction holds the organ.
    distances = [case.get(f'hd95/{name}', np.inf) for case in cases]
    finite = [distance for distance in distances if np.isfinite(distance)]
    # With its number, because the cases in which the organ was missed are not in the mean.
    hd95 = f'{np.mean(finite):.1f} (n={len(finite)})' if finite else ''
    lines.append(f'| {name} | {dsc} | {nsd} | {hd95} |')
  dsc = _mean_and_std([case['dsc'] for case in cases])
  nsd = _mean_and_std([case['nsd'] for case in cases])
  lines.append(f'| mean | {dsc} | {nsd} |  |')
  # A second table: what a case costs.
  lines += ['', f'| of {len(cases)} cases | mean | most |', '|---|---|---|']
  for cost, words in COSTS.items():
    values = [case[cost] for case in cases]
    lines.append(f'| {words} | {np.mean(values):.1f} | {np.max(values):.1f} |')
  return '\n'.join(lines) + '\n'


def _mean_and_std(values: Sequence[float]) -> str:
  return f'{np.mean(values):.2f} ± {np.std(values):.2f}'
