"""Hands a folder of files to the workers of a Dask cluster, and records what they write.

Groups of whole images, volumes, groups of small planes, and tiles and blocks of large ones are
tasks. Dask does the tasks of a lost worker again. What predict writes is what it writes alone.
"""

import contextlib
import pickle
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from ssl_jax.data.masks.image_kind import FileNotes
from ssl_jax.errors import UserError
from ssl_jax.inference.blocks import dask_tasks
from ssl_jax.inference.blocks.dask_futures import Futures
from ssl_jax.inference.blocks.dask_stack import GROUP, StackParts
from ssl_jax.inference.blocks.dask_tasks import Call, NetworkChoice, Outcome, StackJob
from ssl_jax.inference.blocks.stacks import BlockTask
from ssl_jax.inference.shared_shapes import counted
from ssl_jax.inference.write_predictions import Masks, Task, finish
from ssl_jax.inference.writing.input_files import InputFiles, Job
from ssl_jax.inference.writing.prediction_folder import PredictionFolder
from ssl_jax.io.folders import lock
from ssl_jax.io.stacks.planes import Planes
from ssl_jax.running import dask_cluster
from ssl_jax.running.dask_cluster import WorkersEnded

GROUP_BYTES = 16_000_000
"""Size of image files from which on a task takes no more of them."""


@contextlib.contextmanager
def workers(
  address: str, chosen: NetworkChoice, task: Task, folders: Sequence[Path]
) -> Generator['Workers', None, None]:
  """Yields the workers of a cluster, checked, and ready to predict.

  Args:
    address: of the scheduler.
    chosen: the networks.
    task: what is predicted.
    folders: that each worker must see.

  Raises:
    UserError: if the scheduler cannot be reached, a worker cannot do its work, or a network cannot
      predict.
  """
  with dask_cluster.connect(address) as client:
    dask_cluster.wait_for_workers(client)
    dask_cluster.check_workers(client, [folder.absolute() for folder in folders])
    call = Call(chosen, task, dask_cluster.versions_as_bytes())
    yield Workers(client, call)


class Workers:
  """The workers of a cluster; `notes` are on the networks that they predict with."""

  def __init__(self, client: Any, call: Call):
    self._client = client
    self._call = call
    futures = Futures(client)
    loaded: list[tuple[Sequence[str], int]] = []
    print(f'The networks are loaded by the workers of {client.scheduler.address}.', flush=True)
    futures.submit(dask_tasks.load, pickle.dumps(call), lambda result: loaded.append(result()))
    futures.wait_for_all()
    [(self.notes, self._multiple)] = loaded

  def write(self, folder: Path, out: PredictionFolder) -> list[str]:
    """Predicts a folder; returns one sentence for each file that could not be done.

    Raises:
      UserError: if the folder is missing or holds none, or the workers cannot go on.
    """
    place = out.path.absolute()
    lock_file = place / lock.FILE
    dask_cluster.check_workers(self._client, [], [lock_file], place)
    call = self._call._replace(out=place, round=out.round(), holder=lock.text(place))
    files = call.task.files(folder.absolute(), out)
    call = call._replace(sizes=counted(call.task.sizes(files)))
    _Handing(self._client, call, files, out, self._multiple).hand_out()
    return finish(call.task, files, out)


class _Handing:
  """The files of a call on their way through the workers."""

  def __init__(
    self, client: Any, call: Call, files: InputFiles, out: PredictionFolder, multiple: int
  ):
    self._futures = Futures(client)
    self._call = call
    self._files = files
    self._out = out
    self._multiple = multiple

  def hand_out(self) -> None:
    """Submits tasks as long as workers would have nothing to do, and takes what comes back."""
    for _ in self._submissions():
      self._futures.wait_for_room()
    self._futures.wait_for_all()

  def _submissions(self) -> Iterator[None]:
    """Submits one task after the other, and yields after each."""
    group: list[Job] = []
    size = 0
    for job in self._files:
      if job.planes is not None:
        yield from self._submit_stack(job, job.planes)
        continue
      group.append(job)
      size += sum(path.stat().st_size for path in job.paths)
      # Only images of masks gain by going together.
      if len(group) == GROUP or size > GROUP_BYTES or not isinstance(self._call.task, Masks):
        self._submit_group(group)
        yield
        group, size = [], 0
    if group:
      self._submit_group(group)
      yield

  def _submit_group(self, jobs: Sequence[Job]) -> None:
    for job in jobs:
      self._out.begin(job.files, job.source)

    def take(result: Callable[[], Outcome]) -> None:
      try:
        self._take(jobs, result())
      except WorkersEnded as error:
        # One of the group may have ended the workers; which, they show one by one.
        if len(jobs) > 1:
          for job in jobs:
            self._submit_group([job])
        else:
          refused = [f'{jobs[0].source.path} could not be predicted: {error}']
          self._take(jobs, Outcome(refused, [], FileNotes(), []))

    self._futures.submit(dask_tasks.predict_files, pickle.dumps((self._call, jobs)), take)

  def _take(self, jobs: Sequence[Job], outcome: Outcome) -> None:
    """Records what became of files."""
    self._files.refused += outcome.refused
    for sentence in outcome.said:
      self._files.say(sentence)
    self._files.notes.merge(outcome.notes)
    self._out.finish(outcome.lines)
    for job in jobs:
      self._out.withdraw(job.files)
    self._files.bar.update(len(jobs))

  def _submit_stack(self, job: Job, image: Planes) -> Iterator[None]:
    """Submits the parts of a stack or a large image."""
    assert isinstance(self._call.task, Masks)
    checked: list[BlockTask] = []
    check = self._call.task.check_stack
    with contextlib.closing(image):
      fits = self._files.attempt(
        job.source.path, lambda: checked.append(check(job, self._files, self._out))
      )
    if not fits:
      self._files.bar.update()
      return
    folder = self._out.blocks_of(job.source).absolute()
    stack = StackJob(job._replace(planes=None), folder, checked[0], self._call.task.axes)
    parts = StackParts(self._futures, self._call, stack, image, self._multiple)
    yield from parts.submissions(
      lambda: self._submit_writing(stack), lambda error: self._refuse(job, error)
    )

  def _submit_writing(self, stack: StackJob) -> None:
    """Submits what puts the blocks of a file together."""
    self._out.begin(stack.job.files, stack.job.source)

    def take(result: Callable[[], Outcome]) -> None:
      try:
        outcome = result()
      except WorkersEnded as error:
        self._refuse(stack.job, error)
        return
      self._take([stack.job], outcome)
      if not outcome.refused:
        shutil.rmtree(stack.folder)

    self._futures.submit(dask_tasks.write_stack, pickle.dumps((self._call, stack)), take)

  def _refuse(self, job: Job, error: Exception) -> None:
    """Leaves out a file, a part of which could not be done."""

    def again() -> None:
      if isinstance(error, WorkersEnded):
        raise UserError(f'{job.source.path} could not be predicted: {error}')
      raise error

    self._files.attempt(job.source.path, again)
    self._out.withdraw(job.files)
    self._files.bar.update()
