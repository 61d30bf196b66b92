"""What a folder holds: the files of one kind, and all else, counted so that it can be said."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.io.folders import file_names


class Kind(NamedTuple):
  """Files that are read, by their endings."""

  name: str  # for messages, in the plural
  endings: tuple[str, ...]  # in lower case; upper case is read as well
  output: str  # ending of what a run or predict writes for such a file
  folders: tuple[str, ...] = ()  # endings of folders that are read as one file


IMAGES = Kind('images', ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff'), '.png')
VOLUMES = Kind('volumes', file_names.ENDINGS, '.nii.gz')
PREDICTED = Kind('images', (*IMAGES.endings, *VOLUMES.endings), '.png', ('.zarr',))
"""What a network of two dimensions predicts: images, and stacks plane by plane."""
TABLES = Kind('CSV files', ('.csv',), '.csv')

HIDDEN = 'hidden or system files'

SINGULAR = {
  HIDDEN: 'hidden or system file',
  'folders': 'folder',
  'broken links': 'broken link',
  'pipes or devices': 'pipe or device',
}
"""Of what there may be one."""

SYSTEM_FILES = ('thumbs.db', 'desktop.ini', '__macosx')
"""What systems put into folders, in lower case; names that begin with a dot are hidden anyway."""

FORMATS = {'dcm': 'DICOM', 'ima': 'DICOM', 'jpg': 'JPEG', 'tif': 'TIFF', 'gz': 'GZ'}
"""Names of formats by their endings, where these are not the same."""

POINTERS = (b'/annex/objects/', b'version https://git-lfs')
"""How small text files begin that git-annex and Git LFS put in the place of files to be fetched."""

POINTER_BYTES = 1024
"""A pointer is smaller."""

NOT_FETCHED = (
  'is a link to a file that is not there (not fetched?); get it (datalad get, git annex get, '
  'git lfs pull) or remove it'
)

LONGEST_NAME = 255
"""Bytes of a file's name on nearly all disks."""

MOST_NAMES = 5
"""So many names are given in a note; of more the number."""


class Listing(NamedTuple):
  """The entries of a folder."""

  folder: Path
  kind: Kind
  paths: list[Path]  # files of the kind, sorted by name
  missing: list[Path]  # links or pointers of the kind to files that are not there
  others: Mapping[str, int]  # all else, by what it is

  def left_out(self) -> str:
    """Returns what the folder holds beside the files, for a message; empty if there is nothing."""
    parts = [
      f'{n} {SINGULAR.get(what, what) if n == 1 else what}' for what, n in self.others.items()
    ]
    if self.missing:
      links = f'{len(self.missing)} link{"s" * (len(self.missing) > 1)}'
      parts.append(f'{links} to files that are not there ({names(self.missing)})')
    return ', '.join(parts)

  def note(self) -> str:
    """Returns a note on what is not read; empty if there is nothing."""
    left_out = self.left_out()
    return f'not read in {self.folder}: {left_out}' if left_out else ''


def names(paths: Sequence[Path]) -> str:
  """Returns the names of files for a message, at most MOST_NAMES."""
  more = f' and {len(paths) - MOST_NAMES} more' if len(paths) > MOST_NAMES else ''
  return ', '.join(file_names.normal(path.name) for path in paths[:MOST_NAMES]) + more


def read_folder(folder: str | Path, kind: Kind) -> Listing:
  """Returns what a folder holds; files in its sub-folders do not count.

  Raises:
    UserError: if it does not exist, is a file, or may not be read.
  """
  folder = expand(folder)
  if folder.is_file():
    raise UserError(f'{folder} is a file, not a folder; give the folder that it lies in.')
  if folder.is_dir() and folder.name.lower().endswith(kind.folders):
    raise UserError(f'{folder} is one image, not a folder of images; give the folder it lies in.')
  if not folder.is_dir():
    raise UserError(f'The folder {folder} does not exist; check the path.')
  try:
    # Entries know what they are, where each question to a Path asks the disk; and names compare
    # faster than paths.
    with os.scandir(folder) as found:
      entries = sorted(found, key=lambda entry: entry.name)
  except OSError as error:
    raise UserError(f'The folder {folder} cannot be read ({error.strerror}).') from error
  paths: list[Path] = []
  missing: list[Path] = []
  others: dict[str, int] = {}
  for entry in entries:
    path = folder / entry.name
    what = _what(entry, path, kind)
    if what == 'file':
      paths.append(path)
    elif what == 'missing':
      missing.append(path)
    else:
      others[what] = others.get(what, 0) + 1
  return Listing(folder, kind, paths, missing, dict(sorted(others.items())))


def _what(entry: os.DirEntry, path: Path, kind: Kind) -> str:
  """'file' or 'missing' of the kind, or what else an entry is."""
  name = entry.name.lower()
  # macOS leaves .NAME.icloud in the place of a file that only lies in the cloud.
  if name.startswith('.') and name.endswith('.icloud'):
    return 'missing' if name.removesuffix('.icloud').endswith(kind.endings) else HIDDEN
  # macOS writes a hidden ._NAME.png beside NAME.png on some disks, which is no image.
  if name.startswith('.') or name in SYSTEM_FILES:
    return HIDDEN
  is_link = entry.is_symlink()
  # A link may lead in a circle, of which entries raise an error.
  asked: os.DirEntry | Path = path if is_link else entry
  if asked.is_dir():
    return 'file' if name.endswith(kind.folders) else 'folders'
  of_kind = name.endswith(kind.endings)
  if is_link and not path.exists():
    return 'missing' if of_kind else 'broken links'
  if not asked.is_file():
    # Reading from a pipe would wait for ever.
    return 'pipes or devices'
  if of_kind:
    return 'missing' if _is_pointer(path, kind) else 'file'
  ending = path.suffix[1:]
  if not ending:
    return 'DICOM' if _is_dicom(path) else 'without an ending'
  return FORMATS.get(ending.lower(), ending.upper())


def _is_pointer(path: Path, kind: Kind) -> bool:
  """Whether a small text file stands where the file itself has not been fetched."""
  try:
    if not 0 < path.stat().st_size < POINTER_BYTES:
      return False
    text = path.read_bytes().rstrip(b'\r\n')
  except OSError:
    return False  # it is said when it is read
  if text.startswith(POINTERS):
    return True
  # Where a disk or an archive knows no links, a link becomes a file that holds its path.
  target = os.fsdecode(text)
  return '/' in target and target.isprintable() and target.lower().endswith(kind.endings)


def _is_dicom(path: Path) -> bool:
  """Whether a file has the mark of DICOM, whose files often have no ending."""
  try:
    with path.open('rb') as file:
      return file.read(132)[128:] == b'DICM'
  except OSError:
    return False


def _files(folder: str | Path, kind: Kind, partial: bool) -> list[Path]:
  """The files of a folder, at least one."""
  listing = read_folder(folder, kind)
  if listing.missing and not (partial and listing.paths):
    more = f' ({len(listing.missing)} such links in all)' if len(listing.missing) > 1 else ''
    raise UserError(f'{listing.missing[0]} {NOT_FETCHED}{more}.')
  return files_of(listing)


def files_of(listing: Listing) -> list[Path]:
  """Returns the files of a folder.

  Raises:
    UserError: if there is none.
  """
  if not listing.paths:
    left_out = listing.left_out()
    holds = f' It holds {left_out}.' if left_out else ' It is empty.'
    raise UserError(
      f'{listing.folder} holds no {listing.kind.name}; put '
      f'{", ".join(listing.kind.endings)} files in it.{holds}'
    )
  return listing.paths


def list_images(folder: str | Path, partial: bool = False) -> list[Path]:
  """Returns a folder's image files, sorted by name, without hidden ones.

  Args:
    folder: with images in it.
    partial: whether links to files that are not there are left out; otherwise they are refused.

  Raises:
    UserError: if the folder does not exist or holds no image.
  """
  return _files(folder, IMAGES, partial)


def list_volumes(folder: str | Path, partial: bool = False) -> list[Path]:
  """Returns a folder's NIfTI files as `list_images` does.

  Raises:
    UserError: if the folder does not exist or holds none.
  """
  return _files(folder, VOLUMES, partial)


def list_tables(folder: str | Path) -> list[Path]:
  """Returns a folder's CSV files, of which there may be none, as `list_images` does.

  Raises:
    UserError: if the folder does not exist, or a link in it leads nowhere.
  """
  listing = read_folder(folder, TABLES)
  if listing.missing:
    raise UserError(f'{listing.missing[0]} {NOT_FETCHED}.')
  return listing.paths


def notes(folders: Mapping[Path, Kind]) -> list[str]:
  """Returns a note for each folder in which there is more than is read."""
  written = [read_folder(folder, kind).note() for folder, kind in folders.items()]
  return [note for note in written if note]


def name_for_outputs(path: Path, kind: Kind) -> str:
  """Returns a file's name as text, after which outputs of a run are called.

  Raises:
    UserError: if an output's name would be too long, so that it is found before the training.
  """
  name = file_names.normal(file_names.raw_stem(path))
  # Longer than that of the file: .nii becomes .nii.gz, .a becomes .png, Latin-1 becomes UTF-8.
  if len((name + kind.output).encode()) > LONGEST_NAME:
    raise UserError(
      f'The name of {path} is too long: files of a run are called after it, and {kind.output} with '
      f'it would be more than {LONGEST_NAME} bytes; give it a shorter name.'
    )
  return name


def expand(path: str | Path) -> Path:
  """Returns a path with ~ replaced by the home folder, which shells do not do after `=`."""
  return Path(os.path.expanduser(path))
