"""How many programs JAX has compiled: what goes on compiling is slow, and nothing else says so."""

import threading

import jax

COMPILED = '/jax/core/compile/backend_compile_duration'
"""Event of a program that was compiled, or was found among those that are kept."""

FOUND = '/jax/compilation_cache/cache_hits'
"""Event of a program that was found among those that are kept."""


class _Counter:
  """Counts events of JAX, which may come from several threads."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._listens = False
    self._counts = {COMPILED: 0, FOUND: 0}

  def listen(self) -> None:
    """Begins to count, if that has not begun."""
    with self._lock:
      if self._listens:
        return
      self._listens = True
    # JAX cannot be asked to stop: there is one listener for the life of the process.
    jax.monitoring.register_event_duration_secs_listener(lambda name, _, **more: self._add(name))
    jax.monitoring.register_event_listener(lambda name, **more: self._add(name))

  def _add(self, name: str) -> None:
    if name in self._counts:
      with self._lock:
        self._counts[name] += 1

  def compiled(self) -> int:
    """Returns the programs compiled so far, without those that were found."""
    return self._counts[COMPILED] - self._counts[FOUND]


_counter = _Counter()


class Compilations:
  """Programs that this process compiled since the last time that it was asked, small ones too."""

  def __init__(self) -> None:
    _counter.listen()
    self._told = _counter.compiled()

  def new(self) -> int:
    """Returns how many programs were compiled since the last call, or since the beginning."""
    compiled = _counter.compiled()
    count = compiled - self._told
    self._told = compiled
    return count
