"""Measures of organs in whole volumes: overlap, surfaces, tables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ssl_jax.evaluation import surface_distance

TOLERANCE = 2.0
"""mm within which surfaces agree (FLARE22)."""


COSTS = {  # what a ResourceMeter finds, and its words in a table
  'seconds': 'running time, s',
  'peak_mib': 'peak of memory, MiB',
  'memory_area': 'area under memory over time, MiB s',
  'processor_area': 'area under processor use over time, % s',
}


def measure(
  truth: UInt8[np.ndarray, 'x y z'],
  found: UInt8[np.ndarray, 'x y z'],
  spacing: Sequence[float],
  classes: Sequence[str],
  tolerance: float = TOLERANCE,
) -> dict[str, float]:
  """dsc/<organ> and nsd/<organ> in percent, hd95/<organ> in mm, and the means of the first two.

  An organ that is in neither has 100, 100 and 0; one that is in one only 0, 0 and infinity, which
  is in no mean.
  """
  scores = {}
  for i, name in enumerate(classes[1:], start=1):
    true, said = truth == i, found == i
    total = int(true.sum() + said.sum())
    between = surface_distance.surfaces(true, said, spacing)
    scores[f'dsc/{name}'] = 200.0 * int((true & said).sum()) / total if total else 100.0
    scores[f'nsd/{name}'] = 100 * surface_distance.surface_dice(between, tolerance)
    scores[f'hd95/{name}'] = surface_distance.hausdorff(between)
  for score in ('dsc', 'nsd'):
    scores[score] = float(np.mean([scores[f'{score}/{name}'] for name in classes[1:]]))
  return scores


def table(rows: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> str:
  """Markdown: DSC, NSD (percent) and HD95 (mm) per organ, then what a case took, over cases."""
  lines = ['| organ | DSC % | NSD % | HD95 mm |', '|---|---|---|---|']
  for name in (*classes[1:], None):
    said = [_spread([row[f'{s}/{name}' if name else s] for row in rows]) for s in ('dsc', 'nsd')]
    far = [row[f'hd95/{name}'] for row in rows if np.isfinite(row.get(f'hd95/{name}', np.inf))]
    hd95 = f'{np.mean(far):.1f} (n={len(far)})' if far else ''
    lines.append(f'| {name or "mean"} | {said[0]} | {said[1]} | {hd95} |')
  lines += ['', f'| of {len(rows)} cases | mean | most |', '|---|---|---|']
  for cost, words in COSTS.items():
    values = [row[cost] for row in rows]
    lines.append(f'| {words} | {np.mean(values):.1f} | {np.max(values):.1f} |')
  return '\n'.join(lines) + '\n'


def _spread(values: Sequence[float]) -> str:
  return f'{np.mean(values):.2f} ± {np.std(values):.2f}'
