"""Organs in whole volumes, on the volumes' own grids: found, measured, and what it cost."""

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

from ssl_jax import sliding, surface, volumes
from ssl_jax.preparation import Preparation

COARSER = 2.0
"""How many times longer voxels get where a volume does not fit into memory (Gao et al. 2022)."""
TOLERANCE = 2.0
"""mm within which surfaces agree (FLARE22)."""
COSTS = {  # what a Meter finds, and its words in a table
  'seconds': 'running time, s',
  'peak_mib': 'peak of memory, MiB',
  'memory_area': 'area under memory over time, MiB s',
  'processor_area': 'area under processor use over time, % s',
}
PERIOD = 0.1
"""Seconds between two looks at what is used."""


class Windows(NamedTuple):
  """How a volume goes through a network; `most` of its prepared voxels fit into memory (0: any).

  With `largest` only the largest connected piece of each organ is kept.
  """

  size: tuple[int, int, int]  # z, y, x
  overlap: float = sliding.OVERLAP
  blend: str = 'constant'
  batch: int = 1
  most: int = 0
  largest: bool = False


class Found(NamedTuple):
  """Class ids on a volume's own grid, and whether it had to be made coarser."""

  ids: UInt8[np.ndarray, 'x y z']
  coarser: bool


def segment(
  answer: sliding.Answer, volume: volumes.Volume, how: Preparation, windows: Windows
) -> Found:
  """The class ids of a volume; once more with coarser voxels where memory runs out."""
  place = how.place(volume)

  def at(coarser: float) -> np.ndarray:
    image = how.image(volume, place, coarser)
    if windows.most and image.size > windows.most and coarser == 1:
      raise MemoryError
    knobs = windows.size, windows.overlap, windows.blend, windows.batch
    ids = how.back(sliding.slide(answer, image, *knobs), place)
    return largest_pieces(ids) if windows.largest else ids

  try:
    return Found(at(1.0), False)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' not in str(error):
      raise
  return Found(at(COARSER), True)


def largest_pieces(ids: UInt8[np.ndarray, 'x y z']) -> UInt8[np.ndarray, 'x y z']:
  """The ids with background in place of all but the largest piece of each class.

  Voxels of a piece share faces; of pieces of one size the first is kept.
  """
  kept = np.zeros_like(ids)
  for organ, box in enumerate(ndimage.find_objects(ids), start=1):
    if box is not None:
      pieces, count = ndimage.label(ids[box] == organ)
      sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
      kept[box][pieces == sizes.argmax() + 1] = organ
  return kept


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
    between = surface.surfaces(true, said, spacing)
    scores[f'dsc/{name}'] = 200.0 * int((true & said).sum()) / total if total else 100.0
    scores[f'nsd/{name}'] = 100 * surface.surface_dice(between, tolerance)
    scores[f'hd95/{name}'] = surface.hausdorff(between)
  for score in ('dsc', 'nsd'):
    scores[score] = float(np.mean([scores[f'{score}/{name}'] for name in classes[1:]]))
  return scores


class Meter:
  """Looks at memory and processor while something runs: `with Meter() as meter: ...; meter.cost`.

  Memory is that of the device, or, on a CPU, of the process. `cost` has the seconds, the peak in
  MiB, and the areas under the curves of memory (MiB s) and of processor use (percent s; a core that
  is busy throughout counts 100 percent).
  """

  def __enter__(self) -> 'Meter':
    self._looks: list[tuple[float, float, float]] = [self._look()]
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *error: Any) -> None:
    self._ended.set()
    self._thread.join()
    self._looks.append(self._look())

  def _watch(self) -> None:
    while not self._ended.wait(PERIOD):
      self._looks.append(self._look())

  def _look(self) -> tuple[float, float, float]:
    """Seconds, MiB, and seconds of processor time."""
    stats = jax.local_devices()[0].memory_stats()
    used = stats['bytes_in_use'] if stats else _resident()
    return time.perf_counter(), used / 2**20, time.process_time()

  @property
  def trace(self) -> Float[np.ndarray, 'looks 3']:
    """Seconds since the beginning, MiB, and percent of a core since the look before."""
    times, memory, processor = np.array(self._looks).T
    busy = 100 * np.diff(processor) / np.maximum(np.diff(times), 1e-9)
    return np.stack([times - times[0], memory, [0.0, *busy]], axis=1)

  @property
  def cost(self) -> dict[str, float]:
    """What was used since the beginning."""
    times, memory, busy = self.trace.T
    return {
      'seconds': float(times[-1]),
      'peak_mib': float(memory.max()),
      'memory_area': float(np.trapezoid(memory, times)),
      'processor_area': float(busy[1:] @ np.diff(times)),
    }


def _resident() -> float:
  """Bytes of memory that the process holds."""
  pages = int(Path('/proc/self/statm').read_text().split()[1])
  return pages * 4096.0


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
