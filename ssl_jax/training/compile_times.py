"""How long programs took to compile, kept beside the compiled ones, so that a person can be told.

compile_times.json in the folder of compiled programs holds, by device and version of JAX and then
by program, the seconds of the first time and of the last.
"""

import hashlib
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ssl_jax import parallel
from ssl_jax.io import atomic
from ssl_jax.training import operations

FILE = 'compile_times.json'

MOST = 300
"""Programs that are remembered of a device; the oldest are forgotten."""


class Program:
  """A function that is about to be compiled for its arguments.

  `operations` are those of one call, by type of operand (see operations.py); empty where the
  function is none of `jax.jit`.
  """

  def __init__(self, compiled: Callable, *arguments: Any):
    self.operations: dict[str, float] = {}
    self._name = ''
    trace = getattr(compiled, 'trace', None)
    if trace is not None:
      # The call that follows uses what is traced here.
      jaxpr = trace(*arguments).jaxpr
      self.operations = operations.count(jaxpr)
      # The text of a program names addresses in memory; these facts are the same in each process.
      facts = f'{self.operations} {len(jaxpr.eqns)} {jaxpr.in_avals}'
      self._name = hashlib.sha256(facts.encode()).hexdigest()[:16]

  def expectation(self) -> str:
    """Returns how long compiling may take, in words; '' where nothing is known."""
    times = _read().get(_device(), {})
    if self._name in times:
      return f'last time {times[self._name][1]:.0f} s'
    if not times:
      return 'first time on this device'
    usual = statistics.median(first for first, _ in times.values())
    return f'first time on this device, about {usual:.0f} s'

  def took(self, seconds: float) -> None:
    """Notes how long it took; without a folder for compiled programs nothing is noted."""
    path = _path()
    if path is None or not self._name or not parallel.is_main():
      return
    every = _read()
    times = every.get(_device(), {})
    first, _ = times.pop(self._name, (seconds, seconds))
    # At the end, because dicts keep their order.
    times[self._name] = (round(first, 1), round(seconds, 1))
    every[_device()] = dict(list(times.items())[-MOST:])
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
      with atomic.replacing(path) as temporary:
        temporary.write_text(json.dumps(every, indent=1), encoding='utf-8')
    except OSError:
      # A full disk, or a folder of somebody else: a training does not end for that.
      return


def _device() -> str:
  return f'{jax.devices()[0].device_kind}, jax {jax.__version__}'


def _path() -> Path | None:
  folder = getattr(jax.config, 'jax_compilation_cache_dir', None)
  # It may be a bucket in a cloud.
  return Path(folder) / FILE if folder and '://' not in folder else None


def _read() -> dict[str, dict[str, tuple[float, float]]]:
  path = _path()
  try:
    tree = json.loads(path.read_text(encoding='utf-8')) if path else {}
    return {
      str(device): {str(name): (float(a), float(b)) for name, (a, b) in times.items()}
      for device, times in tree.items()
    }
  except (OSError, ValueError, TypeError, AttributeError):
    # Missing, or damaged by whatever: it is written anew.
    return {}
