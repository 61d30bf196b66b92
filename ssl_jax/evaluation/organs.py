"""Scores of organs in whole volumes: overlap, surfaces, and the table of a test set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Integer

from ssl_jax.evaluation import surface_distance
from ssl_jax.io import markdown_tables
from ssl_jax.types import IGNORE

Tolerance = float | int | Mapping[str, float | int] | None
"""Millimeters within which surfaces agree: one number, a table by organ, or None for a voxel."""

COSTS = {
  'seconds': 'running time, s',
  'peak_mib': 'peak of memory, MiB',
  'memory_area': 'area under memory over time, MiB s',
  'processor_area': 'area under processor use over time, % s',
}
"""What a ResourceMeter measures, and its words in a table."""

TRUE_VOXELS, PREDICTED_VOXELS = 'voxels_true/', 'voxels_predicted/'
"""Figures of a case that are no scores: how many voxels of an organ truth and prediction have."""


def organ_scores(
  truth: Integer[np.ndarray, 'x y z'],
  predicted: Integer[np.ndarray, 'x y z'],
  spacing: Sequence[float | int],
  classes: Sequence[str],
  tolerance: Tolerance = None,
  truth_slices: Sequence[str] = (),
  count_absent: bool = False,
) -> dict[str, float]:
  """Returns dsc/<organ> and nsd/<organ> in percent, hd95/<organ> in mm, and the means dsc and nsd.

  An organ that is in only one of the two volumes has 0, 0 and infinity. One that is in neither has
  no scores and is in no mean; without any organ there are no means.

  Args:
    truth: class ids; where it is IGNORE, nothing is scored.
    predicted: class ids.
    spacing: sides of a voxel in mm.
    classes: names, the background first.
    tolerance: mm within which surfaces agree for nsd; None, and for organs that a table leaves out:
      the shortest side of a voxel.
    truth_slices: organs that are scored only from the first to the last slice (along z) in which
      the truth has them, because annotators end them at different heights.
    count_absent: whether an organ that is in neither has 100, 100 and 0 instead.
  """
  figures = {}
  scored = []
  for class_id, name in enumerate(classes[1:], start=1):
    in_truth, in_prediction = truth == class_id, (predicted == class_id) & (truth != IGNORE)
    if name in truth_slices and in_truth.any():
      heights = np.flatnonzero(in_truth.any((0, 1)))
      slices = slice(heights[0], heights[-1] + 1)
      in_truth, in_prediction = in_truth[..., slices], in_prediction[..., slices]
    total = int(in_truth.sum() + in_prediction.sum())
    if not (total or count_absent):
      continue
    scored.append(name)
    common = int((in_truth & in_prediction).sum())
    # Computed once; both scores of the surface need it.
    between = surface_distance.surfaces(in_truth, in_prediction, spacing)
    # 2 |A and B| / (|A| + |B|) in percent.
    figures[f'dsc/{name}'] = 200.0 * common / total if total else 100.0
    millimeters = _tolerance_of(name, tolerance, spacing)
    figures[f'nsd/{name}'] = 100 * surface_distance.surface_dice(between, millimeters)
    figures[f'hd95/{name}'] = surface_distance.hausdorff(between)
  # No mean of HD95: it is infinite where an organ was missed.
  for score in ('dsc', 'nsd') if scored else ():
    figures[score] = float(np.mean([figures[f'{score}/{name}'] for name in scored]))
  return figures


def _tolerance_of(name: str, tolerance: Tolerance, spacing: Sequence[float | int]) -> float | int:
  if isinstance(tolerance, Mapping):
    tolerance = tolerance.get(name)
  # A fixed number of mm would be everything in a mouse and nothing in a lung: where none is given,
  # surfaces agree that are at most one voxel apart.
  return min(spacing) if tolerance is None else tolerance


def organ_table(cases: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
  """Returns a Markdown table of cases: the scores of each organ, then the costs of a case.

  DSC and NSD (percent) are given as mean and standard deviation over the cases in which truth or
  prediction has the organ, with their number n where it is not that of all cases; HD95 (mm) as the
  mean over the n cases in which it is finite. An organ that no case has is named below the table.
  """
  # Markdown; the background is no organ.
  lines = ['| organ | DSC % | NSD % | HD95 mm |', '|---|---|---|---|']
  scored = [name for name in classes[1:] if any(f'dsc/{name}' in case for case in cases)]
  for name in scored:
    dsc, nsd = (_mean_and_std(cases, f'{score}/{name}') for score in ('dsc', 'nsd'))
    # Infinite where only one of truth and prediction holds the organ.
    distances = [case.get(f'hd95/{name}', np.inf) for case in cases]
    finite = [distance for distance in distances if np.isfinite(distance)]
    # With its number, because the cases in which the organ was missed are not in the mean.
    hd95 = f'{_length_text(float(np.mean(finite)))} (n={len(finite)})' if finite else ''
    lines.append(markdown_tables.row([name, dsc, nsd, hd95]))
  if scored:
    lines.append(f'| mean | {_mean_and_std(cases, "dsc")} | {_mean_and_std(cases, "nsd")} |  |')
  for sentence in table_notes(cases, classes):
    lines += ['', sentence]
  # A second table: what a case costs.
  lines += ['', f'| of {len(cases)} cases | mean | most |', '|---|---|---|']
  for cost, words in COSTS.items():
    values = [case[cost] for case in cases]
    lines.append(f'| {words} | {np.mean(values):.1f} | {np.max(values):.1f} |')
  return '\n'.join(lines) + '\n'


def table_notes(cases: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> list[str]:
  """Returns sentences on organs that no test volume has, and on those that are found in none."""
  absent = [name for name in classes[1:] if not any(f'dsc/{name}' in case for case in cases)]
  missed, invented = [], []
  for name in classes[1:]:
    # Lines of earlier versions have no such figures.
    true = [case[f'{TRUE_VOXELS}{name}'] for case in cases if f'{TRUE_VOXELS}{name}' in case]
    found = [case.get(f'{PREDICTED_VOXELS}{name}', 0) for case in cases]
    if any(true) and not any(found):
      missed.append(name)
    if true and not any(true) and any(found):
      invented.append(name)
  sentences = []
  if absent:
    sentences.append(
      f'No test volume has {", ".join(absent)}, and none was found; left out of the means.'
    )
  if invented:
    sentences.append(
      f'No test volume has {", ".join(invented)}; where the network predicts it, it scores 0.'
    )
  if missed:
    sentences.append(f'The network never predicts {", ".join(missed)} on the test volumes.')
  return sentences


def voxel_counts(
  truth: Integer[np.ndarray, 'x y z'],
  predicted: Integer[np.ndarray, 'x y z'],
  classes: Sequence[str],
) -> dict[str, int]:
  """Returns voxels_true/<organ> and voxels_predicted/<organ>."""
  counts = {}
  for class_id, name in enumerate(classes[1:], start=1):
    counts[f'{TRUE_VOXELS}{name}'] = int((truth == class_id).sum())
    counts[f'{PREDICTED_VOXELS}{name}'] = int((predicted == class_id).sum())
  return counts


def _length_text(mm: float) -> str:
  # Three digits below a millimeter: those of micro-CT would all be 0.0.
  return f'{mm:.1f}' if mm >= 1 or mm == 0 else f'{mm:.3g}'


def _mean_and_std(cases: Sequence[Mapping[str, Any]], figure: str) -> str:
  """The mean of a figure over the cases that have it, and their number where some have not."""
  values = [case[figure] for case in cases if figure in case]
  number = f' (n={len(values)})' if len(values) < len(cases) else ''
  return f'{np.mean(values):.2f} ± {np.std(values):.2f}{number}'
