"""The only file that knows how many devices and processes there are.

A step is one `jax.jit` over global arrays that are split by example over a mesh of all devices;
the compiler inserts the communication. So batch norm, masked means and dropout see the whole
batch, whatever the number of devices.
"""

import functools
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssl_jax.errors import UserError


def start() -> None:
  """Joins the other processes, if the environment announces any.

  JAX_COORDINATOR_ADDRESS with JAX_NUM_PROCESSES and JAX_PROCESS_ID, or a Slurm job or TPU pod.
  """
  if jax.distributed.is_initialized():
    return
  env, numbers = os.environ, {'num_processes': 'JAX_NUM_PROCESSES', 'process_id': 'JAX_PROCESS_ID'}
  many = int(env.get('SLURM_NTASKS', 1)) > 1 or ',' in env.get('TPU_WORKER_HOSTNAMES', '')
  if many or 'JAX_COORDINATOR_ADDRESS' in env:
    jax.distributed.initialize(**{k: int(env[v]) for k, v in numbers.items() if v in env})


def barrier(name: str) -> None:
  """Waits until every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


@functools.cache
def _mesh() -> jax.sharding.Mesh:
  return jax.make_mesh((jax.device_count(),), ('data',), axis_types=(AxisType.Auto,))


def data_sharding() -> NamedSharding:
  """Split along the first axis."""
  return NamedSharding(_mesh(), PartitionSpec('data'))


def replicated() -> NamedSharding:
  """A copy on every device."""
  return NamedSharding(_mesh(), PartitionSpec())


def check_batch(name: str, size: int) -> None:
  """Raises UserError if a batch cannot be split evenly over the devices."""
  devices = jax.device_count()
  if size % devices:
    raise UserError(f'batch.{name}={size} cannot be split over {devices} devices; '
                    f'make it a multiple of {devices}.')  # fmt: skip


def process_rows(batch: int) -> range:
  """The rows of a global batch that this process loads."""
  share = batch // jax.process_count()
  return range(jax.process_index() * share, (jax.process_index() + 1) * share)


def shard(batch: Any, seeds: int = 1) -> Any:
  """Puts this process's rows of a batch on its devices, as global arrays split by example.

  With several seeds their axis comes first, and every device has all of it.
  """
  split = data_sharding() if seeds == 1 else NamedSharding(_mesh(), PartitionSpec(None, 'data'))
  put = functools.partial(jax.make_array_from_process_local_data, split)
  return jax.tree.map(put, batch)


def jit_init(init: Callable) -> Callable:
  """Compiles `init(key, images)`; the state stands whole on every device."""
  return jax.jit(init, out_shardings=replicated())


def jit_update(update: Callable, seeds: int = 1) -> Callable:
  """Compiles `update(state, batch, key)`; the state stays whole on every device.

  With several seeds all three arguments have a leading axis of that length: one program trains all.
  """
  mapped = update if seeds == 1 else jax.vmap(update)
  return jax.jit(mapped, out_shardings=replicated(), donate_argnums=0)


def stack(trees: Sequence[Any]) -> Any:
  """The trees of several seeds as one with a leading axis; that of one seed as it is."""
  if len(trees) == 1:
    return trees[0]
  return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def unstack(tree: Any, seeds: int) -> list[Any]:
  """The inverse of `stack`."""
  if seeds == 1:
    return [tree]
  return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(seeds)]


def jit_predict(predict: Callable) -> Callable:
  """Compiles `predict(state, images)` for host images; the answers come back to the host."""
  compiled = jax.jit(predict)
  devices = jax.device_count()

  def call(state: Any, images: np.ndarray) -> np.ndarray:
    if jax.process_count() > 1:  # every process predicts every image
      whole = jax.make_array_from_process_local_data(replicated(), images)
      return jax.tree.map(np.asarray, compiled(state, whole))
    padding = [(0, -len(images) % devices)] + [(0, 0)] * (images.ndim - 1)
    answers = compiled(state, shard(np.pad(images, padding, mode='edge')))
    return jax.tree.map(lambda x: np.asarray(x)[: len(images)], answers)

  return call


def interleave(batches: Sequence[jax.Array]) -> jax.Array:
  """Joins batches into one, a few rows of each in turn.

  A plain concatenation would move most rows to another device. The pattern depends on the sizes
  alone, never on the number of devices, so that dropout's mask meets the same example replicated.
  """
  blocks = math.gcd(*(len(x) for x in batches))
  parts = [x.reshape(blocks, len(x) // blocks, *x.shape[1:]) for x in batches]
  joined = jnp.concatenate(parts, axis=1)
  return joined.reshape(-1, *joined.shape[2:])


def separate(joined: Any, sizes: Sequence[int]) -> list[Any]:
  """The inverse of `interleave`, for a tree of arrays with the joined first axis."""
  blocks = math.gcd(*sizes)
  cuts = np.cumsum([size // blocks for size in sizes])[:-1]

  def split(x: jax.Array) -> list[jax.Array]:
    parts = jnp.split(x.reshape(blocks, -1, *x.shape[1:]), cuts, axis=1)
    return [part.reshape(-1, *part.shape[2:]) for part in parts]

  leaves, tree = jax.tree.flatten(joined)
  return [tree.unflatten(part) for part in zip(*map(split, leaves), strict=True)]


def has_accelerator() -> bool:
  """Whether the devices are something else than CPUs."""
  return jax.default_backend() != 'cpu'


def is_main() -> bool:
  """True on the one process that writes files."""
  return jax.process_index() == 0


def should_stop(asked: bool, step: int) -> bool:
  """Whether to stop now: asked here, or, on many hosts, agreed by all at the same step."""
  if jax.process_count() == 1:
    return asked
  return multihost_utils.reached_preemption_sync_point(step)
