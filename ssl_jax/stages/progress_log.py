"""What a stage is done with, image by image, so that a killed one goes on with the next."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ssl_jax import parallel
from ssl_jax.errors import Stopped
from ssl_jax.io.run_log import replace_text


class Journal:
  """cases.jsonl in the folder of a seed: a line for each of the images `indices` that is done.

  `waiting` are those that have had no line when the journal was opened.
  """

  def __init__(self, folder: Path, indices: Iterable[int]):
    self._path, self._lines = folder / 'cases.jsonl', {}
    for text in self._path.read_text().splitlines() if self._path.exists() else ():
      try:
        index, line = json.loads(text)
      except json.JSONDecodeError:
        break  # the line that a kill cut short
      self._lines[index] = line
    kept = (json.dumps(pair) + '\n' for pair in self._lines.items())
    replace_text(self._path, ''.join(kept))
    parallel.barrier(str(self._path))  # nobody reads what is written from here on
    self.waiting: Sequence[int] = [index for index in indices if index not in self._lines]

  def through(
    self, answers: Iterable, stop: Callable[[], bool], name: str, unit: str = 'images'
  ) -> Iterator:
    """Goes through the answers for the waiting images, with a bar; raises Stopped when asked to."""
    before = len(self._lines)
    shown = dict(total=before + len(self.waiting), initial=before, unit=f' {unit}', desc=name)
    for answer in tqdm(answers, **shown):
      if stop():
        raise Stopped(f'{name}: stopped and saved; the same command goes on.')
      yield answer

  def write(self, index: int, line: Mapping[str, Any]) -> None:
    """Adds a line; what else belongs to the image has been written before."""
    text = json.dumps([index, line])
    self._lines[index] = json.loads(text)[1]  # as a later process will read it
    if parallel.is_main():
      with self._path.open('a') as file:
        file.write(text + '\n')

  def lines(self) -> dict[int, dict]:
    """What is known of each image, in the order of the indices."""
    return dict(sorted(self._lines.items()))
