"""Names of files: without their endings, in one normal form, and as text that can be printed."""

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
  """Returns a name as text that can be printed and written.

  Bytes that are no UTF-8, as archives from Windows bring them, are read as Latin-1.
  """
  # Python keeps such bytes as lone surrogates U+DC80 to U+DCFF, which nothing can print.
  return ''.join(chr(ord(c) - 0xDC00) if '\udc80' <= c <= '\udcff' else c for c in name)


def normal(name: str) -> str:
  """Returns a name as text in the form in which names are compared: one code a letter (NFC)."""
  # macOS writes an e with an accent as two codes, other systems as one.
  return unicodedata.normalize('NFC', readable(name))
