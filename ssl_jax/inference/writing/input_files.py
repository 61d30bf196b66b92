"""The files of a folder that are predicted, one after the other, and those that cannot be."""

import abc
import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ssl_jax.data.masks.image_kind import FileNotes
from ssl_jax.data.volumes import volume_channels
from ssl_jax.errors import UserError, sentence_on
from ssl_jax.inference.writing.output_names import output_names
from ssl_jax.inference.writing.prediction_folder import PredictionFolder, Source, read_source
from ssl_jax.io.folders import file_names, listing
from ssl_jax.io.folders.listing import Kind
from ssl_jax.io.stacks.planes import Planes

HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of writing that the next image would meet as well."""


class Job(NamedTuple):
  """A file to predict, and the names of what is written for it."""

  source: Source
  files: Sequence[str]  # inside the folder of predictions
  paths: Sequence[Path]  # of the source: several where channels of a volume are files
  planes: Planes | None = None  # of a stack or a large image


class Files(abc.ABC):
  """Files to predict; what cannot be done is refused by a sentence, and the rest is done."""

  def __init__(self) -> None:
    self.refused: list[str] = []
    # What was changed of files, or is doubtful; told together at the end.
    self.notes = FileNotes()
    # Moves when a file is written, not when it is read: batches of several images wait in between.
    self.bar = tqdm(disable=True)

  @abc.abstractmethod
  def __iter__(self) -> Iterator[Job]:
    """Yields the files that are to do."""

  def say(self, sentence: str) -> None:
    """Tells something about one file at once."""
    tqdm.write(f'{sentence}.')

  def attempt(self, path: Path, action: Callable[[], object]) -> bool:
    """Does something for a file, which is refused if that fails; returns whether it did not.

    Raises:
      OSError: if no other file could be written either.
    """
    # One file that cannot be done should not cost the predictions of the others, whatever it is
    # that readers and the network raise.
    try:
      action()
    except Exception as error:
      if isinstance(error, OSError) and error.errno in HOPELESS:
        raise
      self.refused.append(sentence_on(path, error, 'predicted'))
      return False
    return True


class InputFiles(Files):
  """The files of a folder that are still to do.

  Args:
    folder: to predict.
    kind: images or volumes.
    out: where predictions go.
    outputs: files for each input, with {} for its name.
    channels: that the network takes; of volumes, each may be a file.

  Raises:
    UserError: if the folder is missing or holds nothing of the kind.
  """

  def __init__(
    self,
    folder: Path,
    kind: Kind,
    out: PredictionFolder,
    outputs: Sequence[str],
    channels: int = 1,
  ):
    super().__init__()
    found = listing.read_folder(folder, kind)
    if found.others:
      print(f'{found._replace(missing=[]).note()}.')
    self.refused += [f'{path} {listing.NOT_FETCHED}.' for path in found.missing]
    # An empty folder is a mistake; one of broken links is told link by link.
    paths = found.paths if found.missing else listing.files_of(found)
    self._files_of = {path: (path,) for path in paths}
    if kind == listing.VOLUMES:
      self._files_of = volume_channels.group_unlabeled(paths, channels)
    self._paths = list(self._files_of)
    self._out = out
    # Names come from all files, also those that are left out: they must not change with --resume.
    names = output_names([self._named(path) for path in self._paths], kind)
    self._names = names
    self._templates = outputs
    # Set where files may be stacks: opens one, or returns None for what is read as a whole.
    self.open_planes: Callable[[Path], Planes | None] = lambda path: None
    # The files of a stack, which depend on its form.
    self.outputs_of_planes: Callable[[Planes], Sequence[str]] = lambda planes: outputs
    longer = [path.name for path, name in zip(self._paths, names, strict=True) if name == path.name]
    if longer:
      print(
        f'{len(longer)} files share their name with another one but for the ending: their outputs '
        f'keep it ({", ".join(map(file_names.normal, longer[:3]))}, ...).'
      )
    self.bar = tqdm(total=len(self._paths), unit=' files', desc='predict')

  def paths(self) -> list[Path]:
    """Returns all files, also those that are done; of a volume in several files the first."""
    return list(self._paths)

  def _named(self, path: Path) -> Path:
    """A path with the name after which outputs are called: of channels, that of the case."""
    files = self._files_of[path]
    return path if len(files) == 1 else path.with_name(volume_channels.case_name(files) + '.nii.gz')

  def __iter__(self) -> Iterator[Job]:
    for path, name in zip(self._paths, self._names, strict=True):
      try:
        source = read_source(*self._files_of[path])
        image = self.open_planes(path)
      except OSError as error:
        self.refused.append(f'{path} cannot be read ({error.strerror}).')
        self.bar.update()
        continue
      except UserError as error:
        self.refused.append(str(error))
        self.bar.update()
        continue
      templates = self._templates
      if image is not None:
        templates = self.outputs_of_planes(image)
      outputs = [template.format(name) for template in templates]
      done = self._out.is_done(outputs, source)
      problem = '' if done else self._out.problem(outputs, source)
      if problem:
        self.refused.append(problem)
      if done:
        # Not counted as work, from which the time left is estimated.
        self.bar.initial += 1
      if done or problem:
        self.bar.update()
        if image is not None:
          image.close()
        continue
      yield Job(source, outputs, self._files_of[path], image)
