"""Records the images that a stage is done with, so that a killed one goes on with the next."""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from ssl_jax import parallel
from ssl_jax.errors import Stopped
from ssl_jax.io.run_log import replace_text

Prediction = TypeVar('Prediction')


class Journal:
  """cases.jsonl in the folder of a seed: a line for each of the images `indices` that is done.

  `waiting` are those that had no line when the journal was opened.
  """

  def __init__(self, folder: Path, indices: Iterable[int]):
    self._path = folder / 'cases.jsonl'
    self._lines = _read_lines(self._path)
    # Without what a kill cut short.
    replace_text(self._path, ''.join(_line(*pair) + '\n' for pair in self._lines.items()))
    # From here on nobody reads what is written: all processes have the same images waiting.
    parallel.barrier(str(self._path))
    self.waiting: Sequence[int] = [index for index in indices if index not in self._lines]

  def through(
    self,
    predictions: Iterable[Prediction],
    stop: Callable[[], bool],
    name: str,
    unit: str = 'images',
  ) -> Iterator[Prediction]:
    """Yields the predictions for the waiting images, with a progress bar.

    Raises:
      Stopped: if `stop` says so after an image.
    """
    done = len(self._lines)
    total = done + len(self.waiting)
    for prediction in tqdm(predictions, total=total, initial=done, unit=f' {unit}', desc=name):
      if stop():
        raise Stopped(f'{name}: stopped and saved; the same command goes on.')
      yield prediction

  def write(self, index: int, line: Mapping[str, Any]) -> None:
    """Adds the line of an image; what else belongs to the image must be written before it."""
    # JSON keys are text, so the index travels in a pair instead.
    text = _line(index, line)
    self._lines[index] = json.loads(text)[1]  # as a later process will read it
    if parallel.is_main():
      with self._path.open('a') as file:
        file.write(text + '\n')

  def lines(self) -> dict[int, dict[str, Any]]:
    """Returns the line of each image that is done, in the order of the indices."""
    # Predictions do not always come in order (see predict_many).
    return dict(sorted(self._lines.items()))


def _line(index: int, line: Mapping[str, Any]) -> str:
  """The index of an image, what is known of it, and a checksum of both."""
  return json.dumps([index, line, _checksum(index, line)])


def _checksum(index: int, line: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps([index, line]).encode())


def _read_lines(path: Path) -> dict[int, dict[str, Any]]:
  """The lines of a journal, up to the first that a kill cut short or that is damaged."""
  lines: dict[int, dict[str, Any]] = {}
  if not path.exists():
    return lines
  texts = path.read_bytes().removesuffix(b'\n').split(b'\n')
  for number, text in enumerate(texts, start=1):
    try:
      # Journals of earlier versions have no checksum.
      index, line, *checksum = json.loads(text)
      if checksum not in ([], [_checksum(index, line)]):
        raise ValueError
      lines[index] = line
    except (ValueError, TypeError):
      # Lines are appended, so that a kill can cut only the last one short.
      if text and number < len(texts):
        print(f'{path}, line {number} is damaged; the images from there on are done again.')
      break
  return lines
