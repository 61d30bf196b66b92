"""White blood cells as a TFDS data set: raw files from pinned commits, each checked."""

import csv
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, download_manager

from ssl_jax.errors import UserError

TABLES = Path(__file__).parent
"""The folder of wbc_files.tsv and wbc_splits.tsv."""

MIRROR = 'SSL_JAX_WBC_URL'
"""An environment variable that may name another server with the same paths."""

SERVER = 'https://raw.githubusercontent.com'
# LISC, as crops of single cells, comes from another repository than the Zheng sets.
OWNERS = {
  'zheng1': 'zxaoyou/segmentation_WBC',
  'zheng2': 'zxaoyou/segmentation_WBC',
  'lisc': 'Vinh2608/ST-PlusPlus',
}


class RawFile(NamedTuple):
  """One file of a public repository, pinned."""

  url: str
  bytes: int
  sha256: str


def splits(set: str) -> dict[str, list[str]]:
  """Returns the names of a set's labeled, unlabeled and val images, in the paper's order."""
  names: dict[str, list[str]] = {'labeled': [], 'unlabeled': [], 'val': []}
  for row in _rows('wbc_splits.tsv'):
    if row['set'] == set:
      names[row['split']].append(row['name'])
  return names


def raw_paths(set: str, name: str) -> dict[str, str]:
  """Returns the paths of a cell's 'image' and 'mask' in their repository."""
  if set == 'lisc':
    # 12_cell1.bmp is the image of 12_expert_cell1.bmp.
    mask = name.replace('_cell', '_expert_cell')
    return {'image': f'lisc/Images/{name}.bmp', 'mask': f'lisc/Masks/{mask}.bmp'}
  folder = f'Dataset {set[-1]}'
  return {'image': f'{folder}/{name}.bmp', 'mask': f'{folder}/{name}.png'}


def raw_files(set: str) -> dict[str, RawFile]:
  """Returns the files of a set's repository by their path in it."""
  server = os.environ.get(MIRROR, SERVER)
  files = {}
  for row in _rows('wbc_files.tsv'):
    if row['repository'] == OWNERS[set]:
      # Quoted, because the folders 'Dataset 1' and 'Dataset 2' have a space.
      path = urllib.parse.quote(f'{row["repository"]}/{row["commit"]}/{row["path"]}')
      files[row['path']] = RawFile(f'{server}/{path}', int(row['bytes']), row['sha256'])
  return files


def _rows(name: str) -> Iterator[dict[str, str]]:
  with (TABLES / name).open(newline='') as file:
    yield from csv.DictReader(file, delimiter='\t')


class Wbc(tfds.core.GeneratorBasedBuilder):
  """Zheng 1, Zheng 2 and the LISC crops, as the bytes of their raw files."""

  # TFDS keeps prepared data under this number; a change of the format needs another.
  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in OWNERS]  # noqa: RUF012
  MAX_SIMULTANEOUS_DOWNLOADS = 16

  @property
  def url_infos(self) -> Mapping[str, checksums.UrlInfo]:
    """TFDS checks each download against these; it would read them from a file it also writes."""
    infos = {}
    for path, file in raw_files(self._set()).items():
      size = tfds.core.utils.Size(file.bytes)
      infos[file.url] = checksums.UrlInfo(size, file.sha256, Path(path).name)
    return infos

  def _set(self) -> str:
    """The name of the set: TFDS calls it a config."""
    return str(self.builder_config.name) if self.builder_config else ''

  def _info(self) -> tfds.core.DatasetInfo:
    # Text is the one feature that keeps bytes as they are without TensorFlow.
    parts = {part: tfds.features.Text() for part in ('name', 'image', 'mask')}
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(parts))

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
    set = self._set()
    files = raw_files(set)
    # {split: {name: {'image': url, 'mask': url}}}
    urls = {}
    for split, names in splits(set).items():
      urls[split] = {}
      for name in names:
        urls[split][name] = {part: files[path].url for part, path in raw_paths(set, name).items()}
    paths: Any = dl_manager.download(urls)  # the same tree, of TFDS's own kind of paths
    return {split: self._generate_examples(cells) for split, cells in paths.items()}

  def _generate_examples(
    self, cells: Mapping[str, Mapping[str, Any]]
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    # Files stay encoded: what is prepared holds exactly the published bytes.
    for name, parts in cells.items():
      example: dict[str, Any] = {part: path.read_bytes() for part, path in parts.items()}
      yield name, {'name': name, **example}


def prepared(set: str, root: str | Path | None) -> dict[str, dict[str, bytes]]:
  """Returns the raw bytes of each cell's 'image' and 'mask', downloaded and prepared if needed.

  Args:
    set: 'zheng1', 'zheng2' or 'lisc'.
    root: a TFDS data directory; None: the default one.

  Raises:
    UserError: naming the file whose hash is wrong, or saying what to download by hand where the
      server cannot be reached.
  """
  # array_record can be read at random and without TensorFlow.
  builder = Wbc(config=set, data_dir=root, file_format='array_record')
  if not builder.data_path.exists():
    _download(builder, set)
  cells = {}
  # A name occurs in one split only, so one dict holds all.
  for split in builder.info.splits:
    for record in builder.as_data_source(split=split):
      name = record['name'].decode()
      cells[name] = {part: record[part] for part in ('image', 'mask')}
  return cells


def _download(builder: Wbc, set: str) -> None:
  # Without this, TFDS accepts files whose hash it does not know.
  config = tfds.download.DownloadConfig(force_checksums_validation=True)
  first = next(iter(raw_files(set).values()))
  try:
    # TFDS tries for minutes; one quick request tells at once that there is no network.
    with urllib.request.urlopen(first.url, timeout=20):
      pass
    builder.download_and_prepare(download_config=config)
  # A file that is not the published one.
  except download_manager.NonMatchingChecksumError as error:
    raise UserError(
      f'{_url(error)} is not the file that was published (its SHA-256 differs); download again, '
      'and if it persists get the data by hand and give its folder as data.root.'
    ) from error
  # No network, or an error of the server.
  except (OSError, ValueError, tfds.download.DownloadError) as error:
    raise UserError(_by_hand(set, error)) from error


def _url(error: Exception) -> str:
  """The address that TFDS names in its message."""
  return next((word.rstrip(',') for word in str(error).split() if '://' in word), 'A download')


def _by_hand(set: str, error: Exception) -> str:
  """Says what to download by hand."""
  owner = OWNERS[set]
  commit = next(row['commit'] for row in _rows('wbc_files.tsv') if row['repository'] == owner)
  folder = 'lisc/Images and lisc/Masks' if set == 'lisc' else f'the folder "Dataset {set[-1]}"'
  return (
    f'The {set} images cannot be downloaded ({error}): get {folder} of '
    f'https://github.com/{owner} at commit {commit}, and give that copy of the repository as '
    'data.root; configs/quickstart.py needs no download.'
  )
