"""Locks on folders that one process at a time may write to."""

import contextlib
import datetime
import json
import os
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from ssl_jax.errors import UserError

FILE = 'lock.json'

CLOCK_SECONDS = 5.0
"""Two readings of when a process began may differ by so much, if the clock was set in between."""


class Holder(NamedTuple):
  """The process that works in a folder."""

  host: str
  pid: int
  began: float  # when the process began, in seconds since 1970: a number is used again later
  since: str  # when it took the folder
  task: str = ''  # of which call of a Dask cluster it is a worker, and its address there

  def __str__(self) -> str:
    return f'process {self.pid} on {self.host} (since {self.since})'

  def is_here(self) -> bool:
    """Whether it was started on this machine, as far as the names of machines tell."""
    return self.host == socket.gethostname()

  def is_alive(self) -> bool:
    """Whether this machine still runs it; its number may have gone to another process."""
    try:
      process = psutil.Process(self.pid)
      # A zombie has ended; only its parent has not asked for its exit code yet.
      if process.status() == psutil.STATUS_ZOMBIE:
        return False
      return abs(process.create_time() - self.began) < CLOCK_SECONDS
    except psutil.NoSuchProcess:
      return False
    except psutil.AccessDenied:
      return True


@contextlib.contextmanager
def locked(folder: Path, task: str = '') -> Generator[None, None, None]:
  """Keeps other processes out of a folder while the block runs.

  The lock of a process that was killed is taken over with a word; folders that may not be written
  need none.

  Args:
    folder: made if it is not there.
    task: see Holder.

  Raises:
    UserError: if another process works in the folder.
  """
  path = folder / FILE
  folder.mkdir(parents=True, exist_ok=True)
  mine = json.dumps(_mine(task)._asdict())
  while not _create(path, mine):
    _take_over(path)
  try:
    yield
  finally:
    # A worker that its cluster had given up may find another's.
    if text(folder) == mine:
      path.unlink(missing_ok=True)


def free_of_lost(folder: Path, is_lost: Callable[[str], bool]) -> None:
  """Removes the lock of another machine's process if `is_lost` says so of its task."""
  path = folder / FILE
  holder = _read(path)
  if holder is not None and holder.task and not holder.is_here() and is_lost(holder.task):
    print(f'{folder}: {holder} is lost to its cluster; this process goes on from there.')
    path.unlink(missing_ok=True)


def check(folder: Path) -> None:
  """Raises UserError if another process works in a folder; changes nothing."""
  holder = _read(folder / FILE)
  if holder is not None and _is_held(holder):
    raise UserError(_refusal(folder, holder))


def text(folder: Path) -> str:
  """Returns the text of the lock on a folder, which no other process's lock has; '' for none."""
  try:
    return (folder / FILE).read_text()
  except OSError:
    return ''


def _is_held(holder: Holder) -> bool:
  # Of another machine nobody knows whether the process still runs.
  return not holder.is_here() or holder.is_alive()


def _refusal(folder: Path, holder: Holder) -> str:
  if holder.is_here():
    return f'{folder} is in use by {holder}; wait until it ends, or choose another folder.'
  return (
    f'{folder} is in use by {holder}; wait until it ends, or, if it no longer runs there, delete '
    f'{folder / FILE} and start again.'
  )


def _create(path: Path, mine: str) -> bool:
  """Writes a lock of this process; False if there is one already."""
  # Written whole before it gets its name, so that nobody reads a part of it. A link, unlike a
  # rename, fails where the name is taken.
  temporary = path.with_name(f'.{os.getpid()}.lock')
  temporary.write_text(mine)
  try:
    os.link(temporary, path)
    return True
  except FileExistsError:
    return False
  except OSError:
    # Some file systems (FAT, SMB, a few of Android) have no hard links.
    return _create_without_link(path, mine)
  finally:
    temporary.unlink(missing_ok=True)


def _create_without_link(path: Path, mine: str) -> bool:
  try:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
  except FileExistsError:
    return False
  with os.fdopen(descriptor, 'w') as file:
    file.write(mine)
  return True


def _mine(task: str = '') -> Holder:
  now = datetime.datetime.now().astimezone().strftime('%Y-%m-%d %H:%M:%S')
  return Holder(socket.gethostname(), os.getpid(), psutil.Process().create_time(), now, task)


def _take_over(path: Path) -> None:
  """Removes the lock of a process that has ended.

  Raises:
    UserError: if it has not.
  """
  holder = _read(path)
  if holder is not None and _is_held(holder):
    raise UserError(_refusal(path.parent, holder))
  # Of several processes that find it at once only one can rename it; the others look again.
  stale = path.with_name(f'.{os.getpid()}.stale')
  try:
    path.rename(stale)
  except FileNotFoundError:
    return
  # In between another process may have been faster, with a lock of its own: that goes back.
  if _read(stale) != holder:
    with contextlib.suppress(OSError):
      os.link(stale, path)
  elif holder is not None:
    print(f'{path.parent}: {holder} has ended without finishing; this process goes on from there.')
  stale.unlink(missing_ok=True)


def _read(path: Path) -> Holder | None:
  """Whose lock it is; None where there is none, or none that can be read."""
  try:
    tree: Any = json.loads(path.read_text())
    return Holder(**tree)
  except (OSError, ValueError, TypeError):
    return None
