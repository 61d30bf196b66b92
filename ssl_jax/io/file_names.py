"""Names of files: without their endings, in one normal form, and as text that can be printed."""

import os
import unicodedata
from pathlib import Path

ENDINGS = ('.nii.gz', '.nii')
"""Endings of volumes, in any case; of all other files, what follows the last dot is the ending."""


def stem(path: Path) -> str:
  """Returns a file's name without its ending, as text that can be printed and written."""
  return readable(raw_stem(path))


def raw_stem(path: Path) -> str:
  """Returns a file's name without its ending, as the file system has it."""
  for ending in ENDINGS:
    if path.name.lower().endswith(ending):
      return path.name[: -len(ending)]
  return path.stem


def readable(name: str) -> str:
  """Returns a name as text; bytes that are not UTF-8 (names of an old zip file) are Latin-1."""
  try:
    name.encode()
  except UnicodeEncodeError:
    # Python keeps such bytes as surrogates, which can be neither printed nor written to a file.
    return os.fsencode(name).decode('latin-1')
  return name


def normal(name: str) -> str:
  """Returns a name in the form in which names are compared: one code for each letter (NFC)."""
  # macOS writes an e with an accent as two codes, other systems as one.
  return unicodedata.normalize('NFC', readable(name))
