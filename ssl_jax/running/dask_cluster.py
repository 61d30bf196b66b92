"""Connects to a scheduler of dask.distributed, and checks that its workers can do our tasks.

https://distributed.dask.org/
"""

import asyncio
import functools
import importlib
import json
import logging
import pickle
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.running import dask_look

TIMEOUT = 10
"""Seconds in which a scheduler must answer."""


ADVICE = 'start one with `dask scheduler`, and give the address that it prints.'


class ClusterError(UserError):
  """The cluster cannot go on: no matter of a single file or stage."""


class WorkersEnded(UserError):
  """A task was given up, because worker after worker ended while it had it."""


def distributed() -> Any:
  """Returns the package distributed, which is optional.

  Raises:
    UserError: if it is not installed.
  """
  try:
    return importlib.import_module('distributed')
  except ImportError as error:
    raise UserError(
      '--dask needs the package distributed, which is not installed; pip install '
      "'distributed>=2025.1'."
    ) from error


def connect(address: str) -> Any:
  """Returns a client of the scheduler at an address, or of that in a scheduler file (.json).

  Raises:
    UserError: if distributed is not installed, or no scheduler answers.
  """
  package = distributed()
  # What it logs when a worker is lost would interrupt the bar; what matters arrives as an error.
  logging.getLogger('distributed').setLevel(logging.CRITICAL)
  found = _address_in(address) if address.endswith('.json') else address
  try:
    # Not by the client itself, which leaves threads behind where it fails.
    asyncio.run(_try(package, found))
    return package.Client(found, timeout=TIMEOUT, set_as_default=False)
  # Names that cannot be resolved, ports that are closed or no numbers, protocols that are unknown.
  except (OSError, ValueError, OverflowError) as error:
    raise UserError(
      f'--dask={address}: no scheduler of Dask answers there within {TIMEOUT} s; {ADVICE}'
    ) from error


async def _try(package: Any, address: str) -> None:
  """Opens a connection, and closes it."""
  arguments = package.Security().get_connection_args('client')
  connection = await package.core.connect(address, timeout=TIMEOUT, **arguments)
  await connection.close()


def _address_in(file: str) -> str:
  """The address that a scheduler wrote into its file."""
  try:
    return json.loads(Path(file).read_text())['address']
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(f'--dask={file} is no file of a scheduler of Dask; {ADVICE}') from error


def as_completed(client: Any) -> Any:
  """Returns an iterator to which tasks are added, and which gives them when they are finished."""
  return distributed().as_completed(loop=client.loop)


def worker_count(client: Any) -> int:
  """Returns how many workers a scheduler has now."""
  return len(client.scheduler_info(n_workers=-1)['workers'])


def wait_for_workers(client: Any, stop: Callable[[], bool] = lambda: False) -> None:
  """Waits until there is a worker, or until `stop` says so; in a queue that may take hours."""
  if worker_count(client):
    return
  address = client.scheduler.address
  print(f'{address} has no workers yet; waits for the first (`dask worker {address}`).', flush=True)
  while not worker_count(client) and not stop():
    time.sleep(0.5)


def _call_text() -> Callable[..., Any]:
  """What runs a text and calls a function of it; a lambda travels as code, and needs no module."""
  return lambda text, name, *arguments: (space := {}, exec(text, space), space[name](*arguments))[2]


@functools.cache
def own_versions() -> Mapping[str, str]:
  """Returns the hash of our code, and the versions of what computes, in this process."""
  return dask_look.look([], {}, '')


def check_workers(
  client: Any, folders: Sequence[Path], files: Sequence[Path] = (), writable: Path | None = None
) -> None:
  """Checks all workers that there are now.

  Args:
    client: of the scheduler.
    folders: that each worker must see.
    files: small ones that each worker must see as they are here.
    writable: a folder that each worker must be able to write to.

  Raises:
    ClusterError: naming the first that cannot do our tasks, and why.
  """
  texts = {str(path): path.read_text() for path in files}
  names = [str(folder) for folder in folders]
  threads = client.nthreads()
  look = Path(dask_look.__file__).read_text()
  arguments = names, texts, str(writable or '')
  found = client.run(_call_text(), look, 'look', *arguments, on_error='return')
  problems = []
  for address, answer in found.items():
    if isinstance(answer, OSError):  # it has left meanwhile; Dask gives its tasks to others
      continue
    if isinstance(answer, Exception):
      problems.append(f'{address} cannot answer ({type(answer).__name__}: {answer})')
    elif problem := _problem(answer, threads.get(address, 1)):
      problems.append(f'{address} {problem}')
  if problems:
    more = f' So it is with {len(problems) - 1} more workers.' if len(problems) > 1 else ''
    raise ClusterError(f'The Dask worker {problems[0]}.{more}')


def _problem(answer: Mapping[str, Any], threads: int) -> str:
  """Why a worker cannot do our tasks; empty if it can."""
  if name := answer.get('lacks'):
    return f'has no {name}; start it in an environment like that of this process'
  if problem := _other_version(answer):
    return problem
  if folder := answer.get('unseen'):
    return (
      f'does not see {folder} as it is here; start it on a machine that has this folder under the '
      f'same path'
    )
  if folder := answer.get('read_only'):
    return f'may not write to {folder}; give it the right to'
  return too_many_threads(threads)


def _other_version(versions: Mapping[str, Any]) -> str:
  for name, ours in own_versions().items():
    theirs = versions[name]
    if theirs != ours and name == 'ssl_jax':
      return 'has another version of ssl_jax, whose code differs; install the same one there'
    if theirs != ours:
      return f'has {name} {theirs}, and this process {ours}; install the same one there'
  return ''


def too_many_threads(threads: int) -> str:
  """Returns why so many threads of a worker are too many; empty if they are not."""
  # Each task takes the whole device, and as much memory as a call without Dask.
  if threads <= 1:
    return ''
  return (
    f'has {threads} threads, which would work at {threads} tasks at once; start it with '
    f'--nthreads 1 (dask-jobqueue: cores=1, and job_cpu=N for N cores)'
  )


def versions_as_bytes() -> bytes:
  """Returns own_versions as `check_here` takes them."""
  return pickle.dumps(own_versions())


def _by_name() -> Callable[..., Any]:
  """What calls a function by its name: the scheduler, which reads it, needs nothing of ours."""
  return lambda module, name, payload, *inputs: getattr(
    __import__('importlib').import_module(module), name
  )(payload, *inputs)


def submit(
  client: Any, function: Callable, payload: bytes, inputs: Sequence[Any] = (), label: str = ''
) -> Any:
  """Returns the future of `function(payload, *results of inputs)`, done by some worker.

  Its key begins with `label`, or else with the name of the function.
  """
  # The key is new: two tasks with the same arguments are two tasks.
  key = f'{label or function.__name__}-{uuid.uuid4().hex}'
  names = function.__module__, function.__name__
  return client.submit(_by_name(), *names, payload, *inputs, key=key)


def ask_to_stop(client: Any, event: str) -> None:
  """Lets tasks with such an event save what they have, and end."""
  distributed().Event(event, client=client).set()


def labels_under_way(client: Any) -> set[str]:
  """Returns the labels of the tasks that workers have."""
  keys = [key for keys in client.processing().values() for key in keys]
  return {str(key).rpartition('-')[0] for key in keys}


def result_of(future: Any) -> Any:
  """Returns what a finished task returned, or raises what it raised.

  Raises:
    ClusterError: if the scheduler is lost.
    WorkersEnded: if Dask gave the task up.
  """
  package = distributed()
  try:
    return future.result()
  except package.scheduler.KilledWorker as error:
    raise WorkersEnded(
      'worker after worker ended while it had this task (for lack of memory, or at a time limit?); '
      'their logs say why.'
    ) from error
  except (package.CancelledError, package.comm.CommClosedError) as error:
    raise ClusterError(
      'The connection to the scheduler of Dask is lost; start it and its workers again, and then '
      'this command, which resumes what is not done.'
    ) from error
