"""CSV files as spreadsheets and programs of many countries write them -> rows of texts.

Delimiter, encoding and line ends follow from the file. What could be read in two ways is refused.
"""

import codecs
import csv
import io
import math
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.io import images

DELIMITERS = (',', ';', '\t')
"""Excel writes semicolons where the comma is the decimal point, and tabs as "Unicode text"."""

SEPARATOR_LINE = re.compile(r'"?sep=([,;\t|])"?', re.IGNORECASE)
"""The line before the header by which a file tells Excel its delimiter."""

UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

NO_TEXT = re.compile('[\x00-\x08\x0e-\x1f\x7f\ufffd]')
"""Characters that no text has; the last stands for bytes that are no character."""

DECIMAL_COMMA = re.compile(r'[-+]?\d*,\d+')

NOT_UTF8 = 'read as Windows-1252 (Latin-1), as it is not UTF-8'


class Row(NamedTuple):
  """A line of a table."""

  line: int  # in the file, for messages; 1 is the first
  cells: dict[str, str]  # by column, without spaces around


class Table(NamedTuple):
  """The rows of a CSV, and how it was read."""

  rows: list[Row]
  delimiter: str
  notes: tuple[str, ...] = ()  # what was guessed of the file

  def number(self, text: str) -> float:
    """Returns the number in a cell, with a decimal comma where that is no delimiter; else NaN."""
    if self.delimiter != ',' and DECIMAL_COMMA.fullmatch(text):
      text = text.replace(',', '.')
    # Python reads 1_0 as 10.
    if '_' in text:
      return math.nan
    try:
      value = float(text)
    except ValueError:
      return math.nan
    return value if math.isfinite(value) else math.nan


def read_table(path: Path, columns: Sequence[str], shown: str = '', hint: str = '') -> Table:
  """Reads a table with a header.

  Names of columns may be in capitals; further columns and empty lines do no harm.

  Args:
    path: of the file.
    columns: names, in small letters, of those that it must have, in any order.
    shown: how messages name the file; empty: by its path.
    hint: what the columns hold, for the message if one is missing.

  Raises:
    UserError: naming the file, and the line, if it cannot be read or is unclear.
  """
  shown = shown or str(path)
  text, notes = _decode(images.read_bytes(path), shown)
  lines = text.split('\n')
  start, delimiter = _find_header(lines)
  numbered = _split(lines[start:], start, delimiter, shown)
  names = numbered[0][1] if numbered else []
  header = [' '.join(name.split()).lower() for name in names]
  _check_header(header, columns, shown, hint)
  rows = [_to_row(line, cells, header, columns, shown) for line, cells in numbered[1:]]
  return Table(rows, delimiter, notes)


def _decode(data: bytes, shown: str) -> tuple[str, tuple[str, ...]]:
  """The text of a file, with line feeds and letters in one normal form, and notes."""
  notes: tuple[str, ...] = ()
  # Without the byte order mark that Excel writes, which would hide the first column.
  encoding = 'utf-16' if data.startswith(UTF16_MARKS) else 'utf-8-sig'
  try:
    text = data.decode(encoding)
  except UnicodeDecodeError:
    # Of bytes that no text has many are none here either.
    text = data.decode('cp1252', errors='replace')
    notes = (NOT_UTF8,)
  if NO_TEXT.search(text):
    raise UserError(f'{shown} is not text; save it as CSV (UTF-8).')
  # Line ends of Windows and of old Macs.
  text = text.replace('\r\n', '\n').replace('\r', '\n')
  return unicodedata.normalize('NFC', text), notes


def _find_header(lines: Sequence[str]) -> tuple[int, str]:
  """How many lines come before the header, and the delimiter."""
  named = ''
  for start, line in enumerate(lines):
    separator = SEPARATOR_LINE.fullmatch(line.strip(' '))
    if separator:
      named = separator[1]
    elif line.strip():
      return start, named or max(DELIMITERS, key=line.count)
  return 0, DELIMITERS[0]


def _split(
  lines: Sequence[str], start: int, delimiter: str, shown: str
) -> list[tuple[int, list[str]]]:
  """The cells of each line that is not empty, with its number; `start` lines come before."""
  # Not strict, a quote that is not closed would take all further lines into one cell.
  text = io.StringIO('\n'.join(lines))
  reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
  numbered = []
  try:
    for cells in reader:
      stripped = [cell.strip() for cell in cells]
      if any(stripped):
        numbered.append((start + reader.line_num, stripped))
  except csv.Error as error:
    raise UserError(
      f'{shown}, line {start + reader.line_num} cannot be read as CSV ({error}); is a quote '
      'missing? Correct it.'
    ) from error
  return numbered


def _check_header(header: Sequence[str], columns: Sequence[str], shown: str, hint: str) -> None:
  """Raises UserError if a column is missing, or two have its name."""
  for column in columns:
    count = header.count(column)
    if count > 1:
      raise UserError(f'{shown} has {count} columns called {column}; leave one.')
    if not count:
      raise UserError(
        f'{shown} has the columns {", ".join(filter(None, header)) or "(none)"} and needs '
        f'{", ".join(columns)}, with commas between them{f" ({hint})" if hint else ""}.'
      )


def _to_row(
  line: int, cells: list[str], header: Sequence[str], columns: Sequence[str], shown: str
) -> Row:
  """Checks that each cell stands under its column."""
  places = {column: header.index(column) for column in columns}
  # More: a decimal comma that is also the delimiter, or names of rows without a column.
  if len(cells) <= max(places.values()) or any(cells[len(header) :]):
    raise UserError(
      f'{shown}, line {line}: {len(cells)} cells under {len(header)} columns; write one for each '
      'column (empty where unknown), and numbers with a decimal point.'
    )
  named = {column: cells[place] for column, place in places.items()}
  for column, cell in named.items():
    if '\n' in cell:
      raise UserError(f'{shown}, line {line}: {column} has several lines; is a quote missing?')
  return Row(line, named)
