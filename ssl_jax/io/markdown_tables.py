"""Tables in Markdown, whose cells hold names that people gave."""

from collections.abc import Iterable
from typing import Any


def row(cells: Iterable[Any]) -> str:
  """Returns a line of a table; a pipe or a line's end in a cell would end it."""
  return '| ' + ' | '.join(cell(text) for text in cells) + ' |'


def cell(text: Any) -> str:
  """Returns what a cell holds as one line, in which no pipe is one of the table's."""
  return ' '.join(str(text).split('\n')).replace('|', r'\|')
