"""Measures time, memory and processor use while something runs."""

import threading
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

PERIOD = 0.1
"""Seconds between two looks at what is used."""


class ResourceMeter:
  """Looks at memory and processor while something runs: `with ResourceMeter() as meter: ...; meter.cost`.

  Memory is that of the device, or, on a CPU, of the process. `cost` has the seconds, the peak in
  MiB, and the areas under the curves of memory (MiB s) and of processor use (percent s; a core that
  is busy throughout counts 100 percent).
  """

  def __enter__(self) -> 'ResourceMeter':
    self._looks: list[tuple[float, float, float]] = [self._resample()]
    self._ended = threading.Event()
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *error: Any) -> None:
    self._ended.set()
    self._thread.join()
    self._looks.append(self._resample())

  def _watch(self) -> None:
    while not self._ended.wait(PERIOD):
      self._looks.append(self._resample())

  def _resample(self) -> tuple[float, float, float]:
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
