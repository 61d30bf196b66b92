"""The folder that predictions go to, and the record by which predict knows what it wrote there.

OUT/predict.jsonl begins with a line that names the run; then come two lines for each file: before
it is written, and, with its SHA-256, after. A line with nothing but a name takes back the one
before. A call without --resume begins a new round, of which nothing is done yet.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.io import atomic
from ssl_jax.io.folders import listing, lock

RECORD = 'predict.jsonl'

BLOCKS = '.blocks'
"""In the folder: what is done of files that are predicted by blocks and not yet finished."""

FOLDERS = (
  'masks',
  'overlays',
  'points',
  'instances',
  'measurements',
  'probabilities',
  'uncertainty',
  'geojson',
  'rois',
)
"""Folders in which predictions are written."""


class Origin(NamedTuple):
  """What predictions are made with."""

  run: str  # folder, for messages
  network: str  # hash of what its networks are
  options: Mapping[str, Any]  # of the command, as far as predictions depend on them


class Source(NamedTuple):
  """A file that is predicted."""

  path: Path
  sha256: str


def read_source(path: Path, *more: Path) -> Source:
  """Returns a file with the hash of its content, by which it is known under any name.

  With more files (channels of one volume) the hash is of all their contents.
  """
  if not more:
    return Source(path, _sha256(path))
  hashes = ' '.join(_sha256(file) for file in (path, *more))
  return Source(path, hashlib.sha256(hashes.encode()).hexdigest())


class Written(NamedTuple):
  """A line of the record: a file that predict wrote."""

  round: int
  source: str  # SHA-256 of the image or volume
  sha256: str | None  # of the file; None if it was not finished


class Record(NamedTuple):
  """What is known of a folder."""

  round: int
  files: dict[str, Written]


class PredictionFolder:
  """A folder that predictions are written to; made by `open_folder`."""

  def __init__(self, path: Path, overwrite: bool, record: Record):
    self.path = path
    self._overwrite = overwrite
    self._round = record.round
    self._untouched = True
    self._written = record.files
    self._longest_name = _longest_name(path)

  def is_done(self, files: Sequence[str], source: Source) -> bool:
    """Whether an image may be left out, because this round has written all of its files."""
    for file in files:
      line = self._written.get(file)
      # An image of the same name may be another one by now.
      if line is None or (line.round, line.source) != (self._round, source.sha256):
        return False
      if line.sha256 is None or not (self.path / file).exists():
        return False
    self._untouched = False
    return True

  def is_untouched(self) -> bool:
    """Whether nothing was written, nor found to be done."""
    return self._untouched

  def round(self) -> int:
    """Returns the number of the round that the predictions belong to."""
    return self._round

  def blocks_of(self, source: Source) -> Path:
    """Returns the folder for what is done of an unfinished file, in this round."""
    return self.path / BLOCKS / f'{self._round}-{source.sha256[:32]}'

  def problem(self, files: Sequence[str], source: Source) -> str:
    """Returns a sentence on why the files of an image cannot be written; empty if they can."""
    for file in files:
      name = os.path.basename(file)
      if len(os.fsencode(name)) > self._longest_name:
        return (
          f'{source.path}: the name of its output, {name[:40]}..., would be longer than the '
          f'{self._longest_name} bytes that {self.path} allows; give it a shorter name.'
        )
      if not self._overwrite and (what := self._not_ours(file, source)):
        return f'{source.path}: {what}; give another --out, or replace it with --overwrite.'
    return ''

  def _not_ours(self, file: str, source: Source) -> str:
    """Why a file may not be replaced; empty if it may."""
    path = self.path / file
    if not os.path.lexists(path):
      return ''
    line = self._written.get(file)
    if line is None:
      return f'{path} is there and was not written by predict'
    if line.source != source.sha256:
      return f'{path} was predicted for another image of this name'
    # Nobody but predict knew the file before it was finished.
    if line.sha256 and line.sha256 != _sha256(path):
      return f'{path} has been changed since predict wrote it'
    return ''

  @contextlib.contextmanager
  def writing(self, file: str, source: Source) -> Generator[Path, None, None]:
    """Yields where to write a file, and records it."""
    path = self.path / file
    path.parent.mkdir(exist_ok=True)
    begun = Written(self._round, source.sha256, None)
    # Before as well: a kill in between would leave a file that nobody is known to have written.
    self._append(file, begun)
    yield path
    self._append(file, begun._replace(sha256=_sha256(path)))
    self._untouched = False

  def begin(self, files: Sequence[str], source: Source) -> None:
    """Records files that another process is going to write."""
    for file in files:
      self._append(file, Written(self._round, source.sha256, None))

  def finish(self, lines: Sequence[tuple[str, Written]]) -> None:
    """Records what another process wrote."""
    for file, line in lines:
      self._append(file, line)
      self._untouched = False

  def withdraw(self, files: Sequence[str]) -> None:
    """Takes back what `begin` recorded of files that nobody wrote.

    A file that somebody puts there later is not ours.
    """
    for file in files:
      line = self._written.get(file)
      if line is not None and line.sha256 is None and not os.path.lexists(self.path / file):
        del self._written[file]
        with (self.path / RECORD).open('a') as record:
          record.write(json.dumps({'file': file}) + '\n')

  def _append(self, file: str, line: Written) -> None:
    self._written[file] = line
    with (self.path / RECORD).open('a') as record:
      record.write(_line(file, line))


@contextlib.contextmanager
def open_folder(
  out: Path, images: Path, origin: Origin, resume: bool = False, overwrite: bool = False
) -> Generator[PredictionFolder, None, None]:
  """Yields the folder for predictions; no other process may write to it meanwhile.

  Args:
    out: new, empty, or of earlier predictions.
    images: folder of what is predicted.
    origin: what it is predicted with.
    resume: whether to leave out what is done.
    overwrite: whether to replace files that predict did not write, or wrote with another run.

  Raises:
    UserError: if it may not be written to.
  """
  _check_place(out, images)
  # Before anything is made; and again under the lock, in case another call has just ended.
  _check_content(out, origin, resume, overwrite)
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(f'--out={out} cannot be made ({error.strerror}); give another one.') from error
  with lock.locked(out):
    record = _check_content(out, origin, resume, overwrite)
    header = json.dumps({'round': record.round, **origin._asdict()}) + '\n'
    lines = [_line(file, line) for file, line in record.files.items()]
    with atomic.replacing(out / RECORD) as temporary:
      temporary.write_text(''.join([header, *lines]))
    for folder in (out / BLOCKS).glob('*'):
      if not folder.name.startswith(f'{record.round}-'):
        shutil.rmtree(folder)
    yield PredictionFolder(out, overwrite, record)
    with contextlib.suppress(OSError):  # not there, or still needed
      (out / BLOCKS).rmdir()


def _line(file: str, line: Written) -> str:
  return json.dumps({'file': file, **line._asdict()}) + '\n'


def _check_place(out: Path, images: Path) -> None:
  """Raises UserError where no prediction may ever go."""
  if out.exists() and not out.is_dir():
    raise UserError(f'--out={out} is a file; give a folder.')
  for folder in (out, *(out / name for name in FOLDERS)):
    # By what they are, as one may be a link to the other.
    if folder.exists() and folder.samefile(images):
      raise UserError(
        f'--out={out} would write among the images of --images={images}; give another folder.'
      )
  if (out / 'config.json').exists() or (out / 'checkpoints').exists():
    raise UserError(f'--out={out} is the folder of a run; give another one, as {out}/predictions.')


def _check_content(out: Path, origin: Origin, resume: bool, overwrite: bool) -> Record:
  """What predict wrote there; of nothing where it may replace everything.

  Raises:
    UserError: if there is something else, or it was made otherwise.
  """
  then, record = _read(out / RECORD)
  if then is None:
    if not overwrite and _holds_files(out):
      raise UserError(
        f'--out={out} holds files that predict did not write; give a new or empty folder, or '
        f'replace what has the names of predictions with --overwrite.'
      )
    return Record(1, {})
  if then.network != origin.network:
    if not overwrite:
      raise UserError(
        f'--out={out} holds predictions of another network, that of {then.run}; give another '
        f'folder, or replace them with --overwrite.'
      )
    return Record(1, {})
  if resume and _given(then.options) != _given(origin.options):
    changed = []
    for name, value in _given(then.options).items():
      changed.append(f'--{name}' if value is True else f'--{name}={value}')
    raise UserError(
      f'--resume: the predictions in {out} were made with {" ".join(changed)}; give these and no '
      f'others, or leave out --resume to make all of them again.'
    )
  return record if resume else record._replace(round=record.round + 1)


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
  """The options without those that are off; records of earlier versions lack the newer ones."""
  return {name: value for name, value in options.items() if value not in (None, False)}


def _holds_files(out: Path) -> bool:
  """Whether a folder holds anything but what systems put there by themselves."""
  if not out.exists():
    return False
  names = [path.name.lower() for path in out.iterdir()]
  ours = (lock.FILE,)
  return any(
    not name.startswith('.') and name not in listing.SYSTEM_FILES and name not in ours
    for name in names
  )


def _read(path: Path) -> tuple[Origin | None, Record]:
  """With what predictions were made, and what was written; None where there is no record."""
  files: dict[str, Written] = {}
  if not path.exists():
    return None, Record(1, files)
  try:
    first, *lines = path.read_text().split('\n')
    header = json.loads(first)
    number = int(header.pop('round'))
    origin = Origin(**header)
  except (ValueError, TypeError, KeyError, AttributeError) as error:
    raise UserError(
      f'{path} is not as predict wrote it; give another --out, or delete it and use --overwrite.'
    ) from error
  for text in lines:
    # A kill may have cut a line short.
    with contextlib.suppress(ValueError, TypeError, KeyError):
      line = json.loads(text)
      file = line.pop('file')
      if line:
        files[file] = Written(**line)
      else:  # withdrawn
        files.pop(file, None)
  return origin, Record(number, files)


def _longest_name(folder: Path) -> int:
  """Bytes that a file's name may have in a folder."""
  try:
    return os.pathconf(folder, 'PC_NAME_MAX')
  except (AttributeError, OSError, ValueError):  # Windows, and some file systems
    return listing.LONGEST_NAME


def _sha256(path: Path) -> str:
  if path.is_dir():  # an OME-Zarr
    files = sorted(file for file in path.rglob('*') if file.is_file())
    lines = [f'{file.relative_to(path).as_posix()} {_sha256(file)}\n' for file in files]
    return hashlib.sha256(''.join(lines).encode()).hexdigest()
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
