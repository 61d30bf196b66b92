"""What a network says of a folder of images, written into another: masks, volumes, or cells."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ssl_jax.data import dataset_stats
from ssl_jax.data.volume_preprocessing import Preparation
from ssl_jax.errors import UserError
from ssl_jax.inference import detection, volumes
from ssl_jax.inference.images import BUDGET, predict_many
from ssl_jax.inference.volumes import Windows
from ssl_jax.io import images, nifti
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import PredictFn


def write_masks(
  probabilities: PredictFn,
  facts: dataset_stats.DatasetStats,
  folder: Path,
  out: Path,
  resume: bool = False,
  budget: int = BUDGET,
) -> list[str]:
  """Writes out/masks/NAME.png (class ids, native size) and out/overlays/NAME.png.

  To `resume` is to leave out what is there already. Returns one sentence per image that could not
  be read; the others are done all the same.
  """
  _make(out, 'masks', 'overlays')
  readable = _Readable(folder, facts, out / 'overlays' if resume else None)
  answers = predict_many(probabilities, (ready for _, ready in readable), budget=budget)
  for position, probs in tqdm(answers, total=len(readable.paths), unit=' images', desc='predict'):
    name, original = readable.take(position)
    if probs.shape[:2] != original.shape[:2]:  # training saw its images scaled
      probs = images.resized(probs, original.shape[:2], smooth=True)
    mask = probs.argmax(-1).astype(np.uint8)
    images.write_mask(out / 'masks' / f'{name}.png', mask)
    shown = images.overlay(images.to_uint8(original), mask)
    images.write_image(out / 'overlays' / f'{name}.png', shown)
  return readable.refused


def write_volumes(
  probabilities: PredictFn,
  facts: dataset_stats.DatasetStats,
  windows: Windows,
  folder: Path,
  out: Path,
  resume: bool = False,
) -> list[str]:
  """Writes out/masks/NAME.nii.gz, class ids on each volume's own grid, with its header.

  To `resume` is to leave out what is there already. Returns one sentence per volume that could not
  be read; the others are done all the same.
  """
  _make(out, 'masks')
  how, refused = Preparation(**facts.preparation), []
  for path in tqdm(nifti.list_volumes(folder), unit=' volumes', desc='predict'):
    written = out / 'masks' / f'{volumes.name_of(path)}.nii.gz'
    if resume and written.exists():
      continue
    try:
      volume = nifti.read_volume(path)
    except UserError as error:
      refused.append(str(error))
      continue
    found = volumes.segment(probabilities, volume, how, windows)
    if found.coarser:
      said = f'its voxels were made {volumes.COARSER:g} times longer'
      print(f'{path} is more than memory, or --budget, allows: {said}.')
    nifti.write_labels(written, found.ids, volume.like)
  return refused


def write_cells(
  answer: PredictFn,
  facts: dataset_stats.DatasetStats,
  size: int,
  folder: Path,
  out: Path,
  resume: bool = False,
  **knobs: float,
) -> list[str]:
  """Writes out/points/NAME.csv (x, y, class, score) and out/overlays/NAME.png, a ring a cell.

  `size` is that of the patches, `knobs` are those of detect.slide; to `resume` is to leave out what
  is there already. Returns one sentence per image that could not be read; the others are done all
  the same.
  """
  _make(out, 'points', 'overlays')
  readable = _Readable(folder, facts, out / 'overlays' if resume else None)
  for position, ready in tqdm(readable, total=len(readable.paths), unit=' images', desc='predict'):
    cells = detection.slide(answer, ready, size, **knobs)
    name, original = readable.take(position)
    replace_text(out / 'points' / f'{name}.csv', detection.as_csv(cells, facts.classes))
    shown = detection.draw(original, cells.at, cells.classes)
    images.write_image(out / 'overlays' / f'{name}.png', shown)
  return readable.refused


def _make(out: Path, *kinds: str) -> None:
  for kind in kinds:
    (out / kind).mkdir(parents=True, exist_ok=True)


class _Readable:
  """The images of a folder that can be read, as training saw its own; the others are refused.

  Left out are those of which there is a picture in `but`.
  """

  def __init__(self, folder: Path, facts: dataset_stats.DatasetStats, but: Path | None):
    paths, self.refused, self._facts = images.list_images(folder), [], facts
    pairs = zip(output_names(paths), paths, strict=True)
    left = [(n, p) for n, p in pairs if but is None or not (but / f'{n}.png').exists()]
    self._names, self.paths = [name for name, _ in left], [path for _, path in left]
    self._waiting: dict[int, tuple[str, np.ndarray]] = {}

  def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
    position = 0
    for name, path in zip(self._names, self.paths, strict=True):
      try:
        original = images.read_image(path)
        ready = dataset_stats.prepared(original, self._facts, str(path))
      except UserError as error:
        self.refused.append(str(error))
        continue
      self._waiting[position] = name, original
      yield position, ready
      position += 1

  def take(self, position: int) -> tuple[str, np.ndarray]:
    """The name and the pixels of the image that was yielded at a position; once."""
    return self._waiting.pop(position)


def output_names(paths: list[Path]) -> list[str]:
  """Stems, or whole file names where two images share a stem (a.png and a.jpg)."""
  stems = [path.stem for path in paths]
  return [p.stem if stems.count(p.stem) == 1 else p.name for p in paths]
