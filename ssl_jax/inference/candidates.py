"""What the networks of a run make of unlabeled images, and of those that it has labels for."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ssl_jax import build
from ssl_jax.data import dataset_stats
from ssl_jax.data.image_mask_pairs import unlabeled_folder
from ssl_jax.data.masks.image_kind import FileNotes
from ssl_jax.data.selection import unlike
from ssl_jax.data.source_sizes import sizes_of
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volumes import volume_channels
from ssl_jax.errors import UserError, sentence_on
from ssl_jax.inference import committee as committees
from ssl_jax.inference.committee import Committee, Opinion
from ssl_jax.inference.writing.new_image import read_new_image, sizes_of_files, slice_sizes_of_files
from ssl_jax.inference.writing.prediction_folder import read_source
from ssl_jax.io.folders import listing
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import CELLS

JOURNAL = 'candidates.jsonl'
"""In the folder of suggestions: a line for each image that was looked at, so that it resumes."""


class Description(NamedTuple):
  """An image in numbers."""

  name: str
  uncertainty: float  # mean over the pixels, in bits
  intensities: tuple[float, ...]  # of data/selection/unlike.py
  shares: tuple[float, ...]  # mean probability of each class


class Candidates:
  """The unlabeled images or volumes of a folder, and what a committee says of them.

  Raises:
    UserError: if the folder is missing or holds none, or the network detects cells.
  """

  def __init__(self, folder: Path, committee: Committee):
    stats = committee.stats
    if stats.task == CELLS:
      raise UserError(
        'This run detects cells from patches, for which suggest has no measure yet; it is for runs '
        'with masks of images or volumes.'
      )
    self.kind = listing.IMAGES if stats.preprocessing is None else listing.VOLUMES
    self._notes = FileNotes()
    found = listing.read_folder(unlabeled_folder(folder), self.kind)
    paths = listing.files_of(found)
    self.refused = [f'{path} {listing.NOT_FETCHED}.' for path in found.missing]
    groups: dict[Path, tuple[Path, ...]] = {path: (path,) for path in paths}
    if self.kind == listing.VOLUMES:
      groups = volume_channels.group_unlabeled(paths, stats.channels)
      sizes = slice_sizes_of_files(list(groups), stats)
    else:
      sizes = sizes_of_files(paths, stats)
    self._committee = committee.of_sizes(sizes)
    self.files = list(groups.values())

  def describe(self, out: Path, key: str) -> dict[int, Description]:
    """Describes all images that can be read; goes on where an earlier call was interrupted.

    Args:
      out: folder, in which JOURNAL is written.
      key: of networks; a journal of others is begun anew.
    """
    path = out / JOURNAL
    known = _read_journal(path, key)
    lines = [json.dumps({'network': key})]
    lines += [json.dumps([sha256, one._asdict()]) for sha256, one in known.items()]
    replace_text(path, ''.join(f'{line}\n' for line in lines))
    described: dict[int, Description] = {}
    for index, files in enumerate(tqdm(self.files, unit=' files', desc='look')):
      sha256 = read_source(*files).sha256
      if sha256 not in known:
        one: list[Description] = []
        if not self._attempt(files[0], lambda f=files, o=one: o.append(self._describe(f))):
          continue
        known[sha256] = one[0]
        with path.open('a') as journal:
          journal.write(json.dumps([sha256, one[0]._asdict()]) + '\n')
      described[index] = known[sha256]
    for sentence in self._notes.sentences():
      print(f'Note: {sentence}.')
    return described

  def _attempt(self, path: Path, action: Callable[[], object]) -> bool:
    """Does something for a file, which is refused if that fails; returns whether it did not."""
    # One file that cannot be done should not cost the others, whatever readers raise.
    try:
      action()
    except Exception as error:
      self.refused.append(sentence_on(path, error, 'read'))
      return False
    return True

  def _describe(self, files: Sequence[Path]) -> Description:
    image, opinion = self.look(files)
    return describe(files[0].name, image, opinion)

  def look(self, files: Sequence[Path]) -> tuple[np.ndarray, Opinion]:
    """Returns an image or volume as the network sees it, and what the committee says of it.

    Raises:
      UserError: naming the file, if it cannot be read or is of another kind.
    """
    stats = self._committee.stats
    if self.kind == listing.VOLUMES:
      preprocessing = VolumePreprocessing(**(stats.preprocessing or {}))
      volume, _ = volume_channels.read_new_volume(files, stats)
      image = preprocessing.image(volume, preprocessing.placement(volume))
      return image, committees.ask(self._committee, [image])
    original, _ = read_new_image(files[0], stats, self._notes)
    # Each member scales deep images by the range of its own labels.
    shown = []
    for member in self._committee.members:
      shown.append(dataset_stats.preprocess_image(original.pixels, member.stats, files[0].name))
    return shown[0], committees.ask(self._committee, shown)


def describe(name: str, image: np.ndarray, opinion: Opinion) -> Description:
  """Returns an image in numbers."""
  space = tuple(range(image.ndim - 1))
  return Description(
    name,
    float(opinion.uncertainty.mean()),
    tuple(unlike.features(image).tolist()),
    tuple(opinion.probs.mean(space).tolist()),
  )


def labeled(committee: Committee) -> list[Description]:
  """Describes all images that the run has masks for.

  Raises:
    UserError: if they cannot be read any more.
  """
  splits = build.splits_of_seed(committee.settings, committee.seed)
  sources = (splits.labeled, splits.val, splits.test)
  committee = committee.of_sizes([size for source in sources for size in sizes_of(source)])
  described = []
  for source in sources:
    for record in _records(source):
      image = dataset_stats.to_float(record['image'])
      described.append(describe(record['name'], image, committees.ask(committee, [image])))
  return described


def _records(source: Any) -> Iterator[Any]:
  if source is not None:
    for index in range(len(source)):
      yield source[index]


def _read_journal(path: Path, key: str) -> dict[str, Description]:
  """What is known of images, by the hash of their content; of other networks nothing."""
  if not path.exists():
    return {}
  known: dict[str, Description] = {}
  for number, line in enumerate(path.read_text().splitlines()):
    try:
      content = json.loads(line)
    except json.JSONDecodeError:
      break  # cut short by a kill
    if number == 0:
      if content != {'network': key}:
        return {}
      continue
    sha256, fields = content
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    known[sha256] = Description(**fields)
  return known
