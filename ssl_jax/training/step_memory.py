"""The memory that a training step needs, known once it is compiled, and before it is spent."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import psutil

from ssl_jax.errors import UserError

CGROUP = Path('/sys/fs/cgroup')
"""Where Linux keeps the limit of a container or a job, which may be below the machine's memory."""

GIB = 2**30


def check(update: Callable, arguments: tuple, batches: Mapping[str, int], devices: int) -> str:
  """Compiles an update and returns the memory that it needs and that is free, as a clause.

  Args:
    update: compiled by `jax.jit`; a later call with the same arguments does not compile again.
    arguments: of the call, whose arrays are in memory already.
    batches: stream -> images of it in a step.
    devices: over which they are split.

  Raises:
    UserError: if the step does not fit; it says which batch would.
  """
  compiled = update.lower(*arguments).compile()
  sizes = compiled.memory_analysis()
  if sizes is None:  # not every kind of device tells
    return ''
  # What the step reads lies there already, and its new state takes the place of the old one.
  needed = sizes.temp_size_in_bytes + sizes.output_size_in_bytes - sizes.alias_size_in_bytes
  # Of a CPU all devices have one memory.
  on_host = jax.default_backend() == 'cpu'
  if on_host:
    needed *= len(jax.local_devices())
  free = free_memory()
  if needed > free:
    raise UserError(
      _refusal(needed, free, batches, devices, 'memory' if on_host else 'device memory')
    )
  return f'a step needs {_size(needed)} of memory, {_size(free)} are free'


def free_memory() -> int:
  """Returns how many bytes the device, or for CPUs this process, can still get."""
  statistics = jax.local_devices()[0].memory_stats()
  if statistics and 'bytes_limit' in statistics:
    return statistics['bytes_limit'] - statistics.get('bytes_in_use', 0)
  return min(psutil.virtual_memory().available, _free_in_group())


def _free_in_group() -> int:
  """What the limit of the container or job leaves; more than there is where it has none."""
  try:
    most = (CGROUP / 'memory.max').read_text().strip()
    used = (CGROUP / 'memory.current').read_text().strip()
    return int(most) - int(used)
  except (OSError, ValueError):  # no such system, or 'max'
    return psutil.virtual_memory().total


def _refusal(needed: int, free: int, batches: Mapping[str, int], devices: int, where: str) -> str:
  """The sentence about a step that does not fit."""
  # Nearly all of it are the features of the images, which are as many as the images.
  share = 0.9 * free / needed
  smaller = {name: int(size * share) // devices * devices for name, size in batches.items()}
  fields = ' and '.join(f'batch.{name}={size}' for name, size in batches.items())
  what = f'A training step with {fields} needs {_size(needed)} of {where}'
  if all(smaller.values()):
    fitting = ' and '.join(f'batch.{name}={size}' for name, size in smaller.items())
    advice = f'{fitting} would fit'
  else:
    advice = 'lower crop_size, or take a smaller network (model)'
  return f'{what}, and {_size(free)} are free: {advice}.'


def _size(count: int) -> str:
  """Bytes in MiB or GiB."""
  if count < GIB:
    return f'{max(count / 2**20, 0.1):.1f} MiB'
  return f'{count / GIB:.1f} GiB'
