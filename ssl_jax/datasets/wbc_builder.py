"""White blood cells as a TFDS data set: raw files from pinned commits, each checked."""

import csv
import os
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums, download_manager

from ssl_jax.errors import UserError

FACTS = Path(__file__).parent  # wbc_files.tsv and wbc_splits.tsv
MIRROR = 'SSL_JAX_WBC_URL'  # this environment variable may name another server of the same paths
SERVER = 'https://raw.githubusercontent.com'
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
  """Names of the paper's labeled, unlabeled and val images of a set, in the paper's order."""
  found: dict[str, list[str]] = {'labeled': [], 'unlabeled': [], 'val': []}
  for row in _rows('wbc_splits.tsv'):
    if row['set'] == set:
      found[row['split']].append(row['name'])
  return found


def raw_paths(set: str, name: str) -> dict[str, str]:
  """Where a cell's image and mask lie in their repository."""
  if set == 'lisc':
    mask = name.replace('_cell', '_expert_cell')
    return {'image': f'lisc/Images/{name}.bmp', 'mask': f'lisc/Masks/{mask}.bmp'}
  folder = f'Dataset {set[-1]}'
  return {'image': f'{folder}/{name}.bmp', 'mask': f'{folder}/{name}.png'}


def raw_files(set: str) -> dict[str, RawFile]:
  """The files of a set's repository by their path in it."""
  server = os.environ.get(MIRROR, SERVER)
  files = {}
  for row in _rows('wbc_files.tsv'):
    if row['repository'] == OWNERS[set]:
      path = urllib.parse.quote(f'{row["repository"]}/{row["commit"]}/{row["path"]}')
      files[row['path']] = RawFile(f'{server}/{path}', int(row['bytes']), row['sha256'])
  return files


def _rows(name: str) -> Iterator[dict[str, str]]:
  with (FACTS / name).open(newline='') as file:
    yield from csv.DictReader(file, delimiter='\t')


class Wbc(tfds.core.GeneratorBasedBuilder):
  """Zheng 1, Zheng 2 and the LISC crops, as the bytes of their raw files."""

  VERSION = tfds.core.Version('1.0.0')
  BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in OWNERS]  # noqa: RUF012
  MAX_SIMULTANEOUS_DOWNLOADS = 16

  @property
  def url_infos(self) -> Mapping[str, checksums.UrlInfo]:
    """TFDS checks each download against these; it would read them from a file it also writes."""
    return {
      file.url: checksums.UrlInfo(file.bytes, file.sha256, Path(path).name)
      for path, file in raw_files(self.builder_config.name).items()
    }

  def _info(self) -> tfds.core.DatasetInfo:
    # Text is the one feature that keeps bytes as they are without TensorFlow.
    parts = {part: tfds.features.Text() for part in ('name', 'image', 'mask')}
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(parts))

  def _split_generators(self, dl_manager: tfds.download.DownloadManager):
    set = self.builder_config.name
    files = raw_files(set)
    urls = {
      split: {
        name: {part: files[path].url for part, path in raw_paths(set, name).items()}
        for name in names
      }
      for split, names in splits(set).items()
    }
    paths = dl_manager.download(urls)
    return {split: self._generate_examples(cells) for split, cells in paths.items()}

  def _generate_examples(self, cells):
    for name, parts in cells.items():
      yield name, {'name': name} | {part: path.read_bytes() for part, path in parts.items()}


def prepared(set: str, root: str | Path | None) -> dict[str, dict[str, bytes]]:
  """Raw bytes {'image', 'mask'} of each cell by name, downloaded and prepared where need be.

  `root` is a TFDS data directory, None for the default one. Raises UserError naming the file whose
  hash is wrong, or saying what to download by hand where the server cannot be reached.
  """
  builder = Wbc(config=set, data_dir=root, file_format='array_record')
  if not builder.data_path.exists():
    _download(builder, set)
  cells = {}
  for split in builder.info.splits:
    for record in builder.as_data_source(split=split):
      cells[record['name'].decode()] = {part: record[part] for part in ('image', 'mask')}
  return cells


def _download(builder: Wbc, set: str) -> None:
  config = tfds.download.DownloadConfig(force_checksums_validation=True)
  try:
    # TFDS tries for minutes; one quick request tells at once that there is no network.
    with urllib.request.urlopen(next(iter(raw_files(set).values())).url, timeout=20):
      pass
    builder.download_and_prepare(download_config=config)
  except download_manager.NonMatchingChecksumError as error:
    raise UserError(
      f'{_url(error)} is not the file that was published (its SHA-256 differs); download again, '
      'and if it persists get the data by hand and give its folder as data.root.'
    ) from error
  except (OSError, ValueError, tfds.download.DownloadError) as error:
    raise UserError(_by_hand(set, error)) from error


def _url(error: Exception) -> str:
  return next((word.rstrip(',') for word in str(error).split() if '://' in word), 'A download')


def _by_hand(set: str, error: Exception) -> str:
  owner = OWNERS[set]
  commit = next(row['commit'] for row in _rows('wbc_files.tsv') if row['repository'] == owner)
  folder = 'lisc/Images and lisc/Masks' if set == 'lisc' else f'the folder "Dataset {set[-1]}"'
  return (
    f'The {set} images cannot be downloaded ({error}): get {folder} of '
    f'https://github.com/{owner} at commit {commit}, and give that copy of the repository as '
    'data.root; configs/quickstart.py needs no download.'
  )
