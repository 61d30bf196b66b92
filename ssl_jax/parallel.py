"""The only file that knows how many devices and processes there are.

A step is one `jax.jit` over global arrays that are split by example over a mesh of all devices;
the compiler inserts the communication. So batch norm, masked means and dropout see the whole
batch, whatever the number of devices.
"""

import contextlib
import functools
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssl_jax.errors import LostProcess, UserError

TIMEOUT = 300
"""Seconds that a process waits for the others of its run; then JAX ends it."""

SILENCE = 60
"""Seconds after which a process of which nothing is heard counts as dead; JAX ends the others."""

_LOSS = ('gloo', 'nccl', 'heartbeat', 'coordination', 'connection', 'unavailable', 'barrier')
"""Words of errors that processes get when another one of their run has ended."""


def start() -> None:
  """Joins the other processes of a run, if the environment announces any.

  It does so with JAX_COORDINATOR_ADDRESS (and JAX_NUM_PROCESSES and JAX_PROCESS_ID), in a step of
  several tasks that Slurm's srun started, and on a TPU pod. Must come before anything else that
  uses JAX.

  Raises:
    UserError: if the others cannot be reached, or there is no device of the kind that was asked
      for.
  """
  # A notebook or a test may call this several times in one process.
  if not jax.distributed.is_initialized():
    _join_others()
  check_devices()


def _join_others() -> None:
  slurm_tasks = _int_from_environment('SLURM_STEP_NUM_TASKS') or 1
  # A single host names only itself; a comma means that there are several.
  tpu_pod = ',' in os.environ.get('TPU_WORKER_HOSTNAMES', '')
  if slurm_tasks > 1 or tpu_pod or 'JAX_COORDINATOR_ADDRESS' in os.environ:
    print(f'Waits up to {TIMEOUT} s for the other processes of this run.', flush=True)
    try:
      # What the environment does not say, JAX finds out itself (Slurm, TPU).
      jax.distributed.initialize(
        num_processes=_int_from_environment('JAX_NUM_PROCESSES'),
        process_id=_int_from_environment('JAX_PROCESS_ID'),
        initialization_timeout=TIMEOUT,
        heartbeat_timeout_seconds=SILENCE,
      )
    except (ValueError, RuntimeError, KeyError, OSError) as error:
      raise UserError(
        f'The other processes of this run cannot be joined ({_first_line(error)}); start one '
        f'process for each task (srun), or unset JAX_COORDINATOR_ADDRESS and the variables of '
        f'Slurm to run as one process.'
      ) from error
    return
  # The job has several tasks, but nobody started them: to wait for the others would be for ever.
  tasks = os.environ.get('SLURM_NTASKS', '1')
  if tasks != '1' and 'SLURM_STEP_NUM_TASKS' not in os.environ:
    print(
      f'Slurm gave this job {tasks} tasks, but without srun only this process was started: it runs '
      f'alone. `srun python ...` uses all of them.'
    )


def check_devices() -> None:
  """Checks that there are devices to compute with.

  Raises:
    UserError: if JAX_PLATFORMS asks for a kind that is not there.
  """
  try:
    jax.devices()
  # Of CUDA without its package, JAX 0.10 says nothing but that an assertion failed.
  except (RuntimeError, AssertionError) as error:
    asked = os.environ.get('JAX_PLATFORMS') or jax.config.jax_platforms or 'the default'
    raise UserError(
      f'JAX finds no device of the kind that JAX_PLATFORMS={asked} asks for '
      f'({_first_line(error)}); install JAX for it, or unset JAX_PLATFORMS to use the CPU.'
    ) from error


def share_devices() -> None:
  """Takes memory of an accelerator only as it is needed: other processes use it as well."""
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')


def use_cpu() -> None:
  """Computes on the CPU from here on, and leaves accelerators to other processes."""
  jax.config.update('jax_platforms', 'cpu')


def _first_line(error: Exception) -> str:
  return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip('.')


def _int_from_environment(name: str) -> int | None:
  text = os.environ.get(name)
  if text is None:
    return None
  if not text.strip().isdigit():
    raise UserError(f'{name}={text!r} in the environment is no whole number; correct or unset it.')
  return int(text)


def barrier(name: str) -> None:
  """Waits until every process has called this with the same name."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def noticing_lost_processes() -> Iterator[None]:
  """Turns what JAX raises when another process of the run has died into a sentence.

  Raises:
    LostProcess: in place of that error.
  """
  try:
    yield
  # The checkpoints' threads wrap what they get in errors of their own.
  except Exception as error:
    if isinstance(error, UserError) or jax.process_count() == 1:
      raise
    if not any(word in str(error).lower() for word in _LOSS):
      raise
    raise LostProcess(
      f'Another process of this run has ended ({_first_line(error)}); start all of them again: '
      f'the same commands resume from the last checkpoint.'
    ) from error


@functools.cache
def _mesh() -> jax.sharding.Mesh:
  # One axis is enough: the batch is split and the parameters are copied (data parallelism). `Auto`
  # leaves the sharding of intermediate arrays to the compiler.
  return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def data_sharding() -> NamedSharding:
  """Returns the sharding of a batch: split over all devices along the first axis."""
  return NamedSharding(_mesh(), PartitionSpec('data'))


def replicated() -> NamedSharding:
  """Returns the sharding of parameters: a copy on every device."""
  return NamedSharding(_mesh(), PartitionSpec())


def check_batch(name: str, size: int) -> None:
  """Checks that the batch of a stream splits evenly over the devices.

  Raises:
    UserError: if it does not.
  """
  devices = jax.device_count()
  if size % devices:
    raise UserError(
      f'batch.{name}={size} cannot be split over {devices} devices; '
      f'make it a multiple of {devices}.'
    )


def process_rows(batch: int) -> range:
  """Returns the rows of a global batch that this process loads."""
  # Exact, because check_batch refuses batches that do not split evenly over the devices.
  share = batch // jax.process_count()
  first = jax.process_index() * share
  return range(first, first + share)


def shard(batch: Any, seeds: int = 1) -> Any:
  """Puts this process's rows of a batch on its devices, as global arrays split by example.

  With several seeds their axis comes first and is not split.
  """
  sharding = data_sharding()
  if seeds > 1:
    # Arrays are [seeds, B, ...]: every device has its examples of all seeds.
    sharding = NamedSharding(_mesh(), PartitionSpec(None, 'data'))
  put = functools.partial(jax.make_array_from_process_local_data, sharding)
  return jax.tree.map(put, batch)


def shard_plans(plans: Any, seeds: int = 1) -> Any:
  """Puts plans of several steps [steps, B, ...] on the devices, split by example.

  With several seeds their axis comes first, as in `shard`.
  """
  axes = (None,) * (1 if seeds == 1 else 2)
  put = functools.partial(
    jax.device_put, device=NamedSharding(_mesh(), PartitionSpec(*axes, 'data'))
  )
  return jax.tree.map(put, plans)


def replicate(tree: Any) -> Any:
  """Puts a copy of the arrays of a tree on every device."""
  return jax.device_put(tree, replicated())


def jit_init(init: Callable) -> Callable:
  """Compiles `init(key, images, normalization)`; every device gets a copy of the whole state."""
  return jax.jit(init, out_shardings=replicated())


def jit_update(update: Callable, seeds: int = 1) -> Callable:
  """Compiles `update(state, batch, key)`; every device keeps a copy of the whole state.

  With several seeds all three arguments have a leading axis of that length: one program trains all.
  The buffers of the given state are reused for the new one, so it must not be used again.
  """
  # Small operations of several seeds become larger ones, which keep an accelerator busier.
  mapped = update if seeds == 1 else jax.vmap(update)
  return jax.jit(mapped, out_shardings=replicated(), donate_argnums=0)


def jit_updates(updates: Callable, seeds: int = 1) -> Callable:
  """Compiles `updates(state, data, plans, key)`, which does several steps, as `jit_update` does."""
  mapped = updates if seeds == 1 else jax.vmap(updates)
  return jax.jit(mapped, out_shardings=replicated(), donate_argnums=0)


def stack_arrays(trees: Sequence[Any]) -> Any:
  """Does what `stack` does, with NumPy arrays, which stay on the host."""
  if len(trees) == 1:
    return trees[0]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def stack(trees: Sequence[Any]) -> Any:
  """Joins the trees of several seeds into one with a leading axis; that of one seed is returned."""
  if len(trees) == 1:
    return trees[0]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Any, seeds: int) -> list[Any]:
  """Returns the trees that `stack` joined."""
  if seeds == 1:
    return [tree]
  # i=i binds the number now; otherwise every lambda would see the last one.
  return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(seeds)]


def jit_predict(predict: Callable) -> Callable:
  """Compiles `predict(state, images)`, for images and predictions that are NumPy arrays."""
  compiled = jax.jit(predict)
  devices = jax.device_count()

  def call(state: Any, images: np.ndarray) -> Any:
    if jax.process_count() > 1:
      # Each process has all images and predicts them all: only the devices of one process may hold
      # what it reads back.
      images_everywhere = jax.make_array_from_process_local_data(replicated(), images)
      return jax.tree.map(np.asarray, compiled(state, images_everywhere))
    # The batch must split evenly over the devices: it is filled up with copies of the last image,
    # whose predictions are cut off again.
    padding = [(0, -len(images) % devices)] + [(0, 0)] * (images.ndim - 1)
    predictions = compiled(state, shard(np.pad(images, padding, mode='edge')))
    return jax.tree.map(lambda x: np.asarray(x)[: len(images)], predictions)

  return call


def interleave(batches: Sequence[jax.Array]) -> jax.Array:
  """Joins batches into one, a few rows of each in turn.

  A plain concatenation would move most rows to another device. The order depends on the sizes
  alone, never on the number of devices, so that dropout draws the same for the same example on any
  number.
  """
  # Each block holds the same share of every batch, so blocks can be laid one after another.
  blocks = math.gcd(*(len(x) for x in batches))
  # [blocks, rows of a block, ...]
  parts = [x.reshape(blocks, len(x) // blocks, *x.shape[1:]) for x in batches]
  joined = jnp.concatenate(parts, axis=1)
  return joined.reshape(-1, *joined.shape[2:])


def separate(joined: Any, sizes: Sequence[int]) -> list[Any]:
  """Splits a tree of interleaved arrays into one tree for each of the batches of these sizes."""
  blocks = math.gcd(*sizes)
  # Where each batch ends within a block, as jnp.split wants it.
  ends = np.cumsum([size // blocks for size in sizes])[:-1]

  def split(x: jax.Array) -> list[jax.Array]:
    parts = jnp.split(x.reshape(blocks, -1, *x.shape[1:]), ends, axis=1)
    return [part.reshape(-1, *part.shape[2:]) for part in parts]

  leaves, tree = jax.tree.flatten(joined)
  return [tree.unflatten(part) for part in zip(*map(split, leaves), strict=True)]


def has_accelerator() -> bool:
  """Returns whether the devices are something else than CPUs."""
  return jax.default_backend() != 'cpu'


def choose_precision(asked: str) -> str:
  """Returns in what networks compute: for 'auto' bfloat16 on accelerators, float32 on CPUs."""
  if asked != 'auto':
    return asked
  return 'bfloat16' if has_accelerator() else 'float32'


def is_main() -> bool:
  """Returns whether this is the one process that writes files."""
  # Asked first, because it needs no device: files are also written by programs that use none.
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def from_main(number: float | int) -> float | int:
  """Returns the main process's number, so that all processes decide alike."""
  if jax.process_count() == 1:
    return number
  return float(multihost_utils.broadcast_one_to_all(np.float64(number)))


def stop_signals() -> tuple[signal.Signals, ...]:
  """Returns the signals that a run asks for itself: not those by which JAX tells all processes."""
  if jax.process_count() == 1:
    return signal.SIGTERM, signal.SIGINT
  # JAX listens to SIGTERM, so that all processes stop at one step.
  return (signal.SIGINT,)


def tell_others() -> None:
  """Has all processes of the run stop at one step, as SIGTERM does, where there are several."""
  if jax.process_count() > 1:
    os.kill(os.getpid(), signal.SIGTERM)


def should_stop(asked: bool, step: int) -> bool:
  """Returns whether to stop now: asked here, or, on many hosts, agreed by all at the same step."""
  if jax.process_count() == 1:
    return asked
  # One process that stopped alone would leave the others waiting in a collective operation.
  return multihost_utils.reached_preemption_sync_point(step)
