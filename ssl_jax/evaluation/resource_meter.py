"""Measures time, memory and processor use while something runs."""

import threading
import time
from typing import Any

import jax
import numpy as np
import psutil
from jaxtyping import Float

PERIOD = 0.1
"""Seconds between two measurements."""

MIB = 2**20


class ResourceMeter:
  """Measures while something runs: `with ResourceMeter() as meter: ...`, then `meter.cost`.

  Memory is that of the device or, on a CPU, of the process.
  """

  def __init__(self):
    self._process = psutil.Process()
    self._samples: list[tuple[float, float, float]] = []  # s, MiB, s of processor time
    self._ended = threading.Event()
    # A daemon does not keep the process alive after an error.
    self._thread = threading.Thread(target=self._watch, daemon=True)

  def __enter__(self) -> 'ResourceMeter':
    # The first sample comes before the thread starts, the last after it has ended: whatever is
    # measured has at least two, however short it is.
    self._samples.append(self._sample())
    self._thread.start()
    return self

  def __exit__(self, *error: Any) -> None:
    self._ended.set()
    self._thread.join()
    self._samples.append(self._sample())

  def _watch(self) -> None:
    # `wait` returns at once when the work ends, so that nothing waits for a period to pass.
    while not self._ended.wait(PERIOD):
      self._samples.append(self._sample())

  def _sample(self) -> tuple[float, float, float]:
    """Seconds, MiB of memory, and seconds of processor time."""
    # None on a CPU, whose arrays lie in the memory of the process.
    stats = jax.local_devices()[0].memory_stats()
    used = stats['bytes_in_use'] if stats else self._process.memory_info().rss
    return time.perf_counter(), used / MIB, time.process_time()

  @property
  def trace(self) -> Float[np.ndarray, 'samples 3']:
    """Seconds since the beginning, MiB, and percent of a core since the sample before."""
    times, memory, processor = np.array(self._samples).T
    # Above 100 where several cores are busy; the maximum guards against two samples at one instant.
    busy = 100 * np.diff(processor) / np.maximum(np.diff(times), 1e-9)
    # Nothing came before the first sample: its use is 0.
    return np.stack([times - times[0], memory, [0.0, *busy]], axis=1)

  @property
  def cost(self) -> dict[str, float]:
    """The seconds, the peak of memory in MiB, and the areas under memory and processor use.

    memory_area is in MiB s, processor_area in percent s: a core that is busy throughout counts 100
    percent.
    """
    times, memory, busy = self.trace.T
    return {
      'seconds': float(times[-1]),
      'peak_mib': float(memory.max()),
      # Memory is that of an instant; processor use is a mean over the time since the sample before.
      'memory_area': float(np.trapezoid(memory, times)),
      'processor_area': float(busy[1:] @ np.diff(times)),
    }
