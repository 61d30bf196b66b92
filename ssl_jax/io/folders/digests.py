"""SHA-256 of the files that a stage wrote, in the form that `sha256sum --check` reads.

A flipped bit in a mask or a table would otherwise be used by later stages without a word.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.io import atomic

FILE = 'digests.sha256'

OWN_CHECKS = ('checkpoints', 'tensorboard')
"""Folders that are left out: checkpoints carry checksums of their own."""

CHANGING = (
  FILE,
  'config.json',
  'command.txt',
  'configuration.json',
  'configuration.md',
  'lock.json',
  'looks.jsonl',
  'provenance.json',
  'report.html',
)
"""Files that are rightly written again after a stage is done."""


def write(folder: Path, done: str, text: str) -> None:
  """Writes the digests of all files of a folder, and of `done`, which will hold `text`.

  Folders inside it that are done, of seeds or stages, have digests of their own.
  """
  digests = {}
  for parent, folders, names in os.walk(folder):
    path = Path(parent)
    folders[:] = sorted(
      name for name in folders if name not in OWN_CHECKS and not (path / name / done).exists()
    )
    for name in sorted(names):
      relative = (path / name).relative_to(folder).as_posix()
      # Temporary files begin with a dot, and a line cannot hold two lines of a name.
      if relative not in CHANGING and not name.startswith('.') and '\n' not in relative:
        digests[relative] = _sha256(path / name)
  _keep(folder, digests | {done: _of_text(text)})


def renew(folder: Path, name: str, text: str) -> None:
  """Writes the digest of one file, which will hold `text`, in place of the one before."""
  _keep(folder, _read(folder) | {name: _of_text(text)})


def check(folder: Path, names: tuple[str, ...] = ()) -> None:
  """Compares files with their digests: all that are still there, or those of some names.

  Raises:
    UserError: naming the first that is not as it was written.
  """
  digests = _read(folder)
  for name in names or digests:
    path = folder / name
    if name in digests and path.is_file() and _sha256(path) != digests[name]:
      raise UserError(
        f'{path} is damaged or was changed: it is not what its stage wrote. Restore it, or delete '
        f'{_what_to_delete(folder, name)}, and the command of the run makes it again; if you '
        f'changed it yourself, delete {folder / FILE}.'
      )


def _what_to_delete(folder: Path, name: str) -> str:
  # Without its done.json a stage is finished again, from its last checkpoint.
  if name == 'done.json':
    return 'it'
  if folder.name.startswith('seed_'):
    return f'{folder} and {folder.parent / "done.json"}'
  return str(folder)


def _keep(folder: Path, digests: Mapping[str, str]) -> None:
  text = ''.join(f'{digest}  {name}\n' for name, digest in digests.items())
  with atomic.replacing(folder / FILE) as temporary:
    temporary.write_text(text, encoding='utf-8', errors='surrogateescape')


def _read(folder: Path) -> dict[str, str]:
  """Name -> digest; empty for a run of an earlier version."""
  path = folder / FILE
  if not path.exists():
    return {}
  digests = {}
  for line in path.read_text(encoding='utf-8', errors='surrogateescape').split('\n'):
    digest, _, name = line.partition('  ')
    if name:
      digests[name] = digest
  return digests


def _sha256(path: Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _of_text(text: str) -> str:
  return hashlib.sha256(text.encode('utf-8', errors='surrogateescape')).hexdigest()
