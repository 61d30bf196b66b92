"""What the pixels of images and masks tell before a training: see inspect_folders.py."""

import collections
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num

from ssl_jax.data.dataset_stats import to_float
from ssl_jax.data.mask_encoding import Encoding
from ssl_jax.data.masks import mask_alignment
from ssl_jax.data.selection import fingerprint, near_duplicates, unlike
from ssl_jax.errors import UserError
from ssl_jax.io import images, masks
from ssl_jax.types import BACKGROUND, IGNORE

PROBLEM, WARNING, NOTE = 'problem', 'warning', 'note'
"""What stops a training or spoils it; what may; and what a person should know."""

SAMPLED = 48
"""Images of a role whose pixels are looked at, evenly spaced; of all the headers are read."""

SAMPLED_PIXELS = 100_000_000
"""Pixels of a role that are held in memory at most, so fewer of large images are looked at."""

MOST_NAMED = 8
"""Files that a finding names; of more it says how many."""

SHIFTED_FROM = unlike.APART
"""Separation of unlabeled from labeled images from which they are said to be unlike."""


class Finding(NamedTuple):
  """Something that a person should know of the data."""

  level: str  # PROBLEM, WARNING or NOTE
  text: str


class Sample(NamedTuple):
  """An image whose pixels were looked at."""

  path: Path
  role: str
  pixels: Num[np.ndarray, 'h w c']  # as files hold them
  described: Float[np.ndarray, ' features']
  mask: Path | None = None
  ids: Integer[np.ndarray, 'h w'] | None = None  # class ids, where they are known already


def read_samples(
  files: Mapping[str, Sequence[Path]], mask_of: Mapping[Path, Path], findings: list[Finding]
) -> list[Sample]:
  """Returns some images of each role; those that cannot be read become findings."""
  samples = []
  for role, paths in files.items():
    for path in spread(paths, _count_to_sample(paths)):
      try:
        pixels = images.read_image(path)
      except UserError as error:
        findings.append(Finding(PROBLEM, str(error)))
        continue
      described = unlike.features(_in_unit_range(pixels))
      samples.append(Sample(path, role, pixels, described, mask_of.get(path)))
  return samples


def _count_to_sample(paths: Sequence[Path]) -> int:
  """How many images of a role fit, if all are as large as the first that can be read."""
  for path in paths:
    try:
      header = images.read_header(path)
    except UserError:
      continue
    pixels = header.height * header.width * header.channels
    return int(np.clip(SAMPLED_PIXELS // max(pixels, 1), 4, SAMPLED))
  return 0


def _in_unit_range(pixels: Num[np.ndarray, 'h w c']) -> Float[np.ndarray, 'h w c']:
  """An image as float32 in about [0, 1]; 16-bit ones by what 16 bits hold, floats as they are."""
  if pixels.dtype == np.uint16:
    return pixels.astype(np.float32) / 65535
  return to_float(pixels)


def class_ids(sample: Sample, encoding: Encoding) -> Integer[np.ndarray, 'h w'] | None:
  """Returns the class ids of a sample's mask, where it fits the image."""
  if sample.mask is None or sample.ids is not None:
    return sample.ids
  try:
    ids = encoding.read(sample.mask)
  except UserError:
    return None  # it was told before
  return ids if ids.shape == sample.pixels.shape[:2] else None


def class_table(
  samples: Sequence[Sample], encoding: Encoding, findings: list[Finding]
) -> list[dict[str, Any]]:
  """Returns the share, images and object sizes of each class, over the labeled samples."""
  counts = np.zeros(len(encoding.classes))
  showing = np.zeros(len(encoding.classes), int)
  diameters: list[list[float]] = [[] for _ in encoding.classes]
  empty = []
  looked_at = 0
  for sample in samples:
    ids = class_ids(sample, encoding) if sample.role == 'labeled' else None
    if ids is None:
      continue
    looked_at += 1
    of_image = np.bincount(ids[ids != IGNORE], minlength=len(counts))[: len(counts)]
    counts += of_image
    showing += of_image > 0
    if not of_image[1:].any():
      empty.append(sample.path.name)
    for class_id in np.flatnonzero(of_image):
      if class_id != BACKGROUND:
        diameters[class_id] += fingerprint.object_diameters(ids == class_id).tolist()
  if empty:
    findings.append(
      Finding(WARNING, f'{len(empty)} of {looked_at} masks show no object: {named(empty)}.')
    )
  rows = []
  for class_id, name in enumerate(encoding.classes):
    measured = diameters[class_id]
    share = float(100 * counts[class_id] / max(counts.sum(), 1))
    rows.append(class_row(name, share, int(showing[class_id]), looked_at, measured))
    if looked_at and not showing[class_id]:
      findings.append(Finding(WARNING, f'no labeled mask that was looked at shows {name}.'))
  return rows


def class_row(
  name: str, share: float, images: int, of: int, diameters: Sequence[float] = ()
) -> dict[str, Any]:
  """Returns what is known of a class: percent of the pixels, images that show it, objects."""
  return {
    'name': name,
    'share': share,
    'images': images,
    'of': of,
    'objects': len(diameters),
    'diameter': float(np.median(diameters)) if diameters else None,
  }


def find_misplaced(samples: Sequence[Sample], findings: list[Finding]) -> None:
  """Finds masks that would lie better elsewhere on their images."""
  pairs = []
  for sample in samples:
    if sample.mask is None:
      continue
    try:
      stored = stored_values(sample.mask)
    except UserError:
      continue
    if stored.shape == sample.pixels.shape[:2]:
      pairs.append(mask_alignment.prepare(sample.pixels.astype(np.float32), stored))
  misplaced = mask_alignment.find_misplaced(pairs)
  if misplaced is not None:
    findings.append(
      Finding(
        PROBLEM,
        f'masks {misplaced.what}: corrected, their borders would lie on edges of the image in '
        f'{100 * misplaced.agreeing:.0f} % of the {misplaced.images} images that were compared.',
      )
    )


def stored_values(path: Path) -> Integer[np.ndarray, 'h w']:
  """Returns the numbers of a mask, whatever they mean: its borders are those of the numbers.

  Raises:
    UserError: if it cannot be read.
  """
  stored = masks.read_stored(path)
  values, _ = masks.whole_numbers(stored.values, path)
  return values


def of_equal_channels(samples: Sequence[Sample]) -> list[Sample]:
  """Returns the samples whose numbers can be compared, as a training reads them.

  Gray images among RGB ones are described as RGB. Those of other channels, which a training
  refuses, are left out.
  """
  counts = collections.Counter(sample.pixels.shape[-1] for sample in samples)
  if not counts:
    return []
  channels = 3 if set(counts) == {1, 3} else counts.most_common(1)[0][0]
  comparable = []
  for sample in samples:
    count = sample.pixels.shape[-1]
    if count == 1 and channels == 3:
      # The numbers of each channel follow one another.
      sample = sample._replace(described=np.tile(sample.described, channels))
    elif count != channels:
      continue
    comparable.append(sample)
  return comparable


def find_outliers(samples: Sequence[Sample], findings: list[Finding]) -> list[Sample]:
  """Returns images unlike all others, blank ones among them; all have the same channels."""
  blank = [sample for sample in samples if sample.pixels.min() == sample.pixels.max()]
  if blank:
    names = [f'{sample.path.name} ({sample.role})' for sample in blank]
    findings.append(
      Finding(
        WARNING,
        f'{len(blank)} of {len(samples)} images that were looked at are blank, one value '
        f'everywhere: {named(names)}. Take them away if nothing was meant to be seen there.',
      )
    )
    samples = [sample for sample in samples if not any(sample is other for other in blank)]
  flags = unlike.outliers([sample.described for sample in samples]) if samples else []
  outliers = [sample for sample, flag in zip(samples, flags, strict=True) if flag]
  # Of two kinds of images in equal numbers none is an outlier, and of many a few always are.
  if outliers and len(outliers) <= max(len(samples) // 10, 1):
    names = [f'{sample.path.name} ({sample.role})' for sample in outliers]
    findings.append(
      Finding(
        WARNING,
        f'{len(outliers)} of {len(samples)} images that were looked at differ from the rest in '
        f'brightness, contrast or sharpness: {named(names)}.',
      )
    )
    return blank + outliers
  return blank


def compare_unlabeled(samples: Sequence[Sample], findings: list[Finding]) -> None:
  """Finds whether unlabeled images look like the labeled ones; all have the same channels."""
  described: dict[str, list[np.ndarray]] = {'labeled': [], 'unlabeled': []}
  for sample in samples:
    if sample.role in described:
      described[sample.role].append(sample.described)
  # Of very few images a number separates any two sets by accident.
  if min(len(values) for values in described.values()) < 5:
    return
  apart = unlike.separation(described['labeled'], described['unlabeled'])
  if apart >= SHIFTED_FROM:
    findings.append(
      Finding(
        WARNING,
        f'unlabeled images are unlike the labeled ones: by brightness, contrast or sharpness '
        f'alone {100 * apart:.0f} % are told apart (chance: 50 %). They are unlikely to help.',
      )
    )


def find_alike(
  samples: Sequence[Sample], copies: Collection[frozenset[Path]], findings: list[Finding]
) -> list[tuple[Sample, Sample]]:
  """Returns pairs of images that are nearly the same; exact `copies` become no findings."""
  # Only images whose pixels were looked at can be shown beside each other.
  thumbnails = [near_duplicates.thumbnail(_in_unit_range(sample.pixels)) for sample in samples]
  pairs = near_duplicates.find(thumbnails)
  told: dict[tuple[str, str], list[str]] = {}
  shown = []
  for pair in pairs:
    first, second = samples[pair.first], samples[pair.second]
    shown.append((first, second))
    # Exact copies were told before.
    if frozenset((first.path, second.path)) in copies:
      continue
    told.setdefault((first.role, second.role), []).append(
      f'{first.path.name} and {second.path.name}'
    )
  for roles, names in told.items():
    level = WARNING if {'test', 'val'} & set(roles) else NOTE
    findings.append(Finding(level, f'nearly the same {among(roles)}: {named(names)}.'))
  return shown


def among(roles: tuple[str, str]) -> str:
  """Returns where two images lie, in words."""
  one, other = roles
  return f'among {one} images' if one == other else f'among {one} and {other} images'


def spread(paths: Sequence[Path], count: int) -> list[Path]:
  """Returns at most so many of the paths, evenly spaced."""
  if not paths:
    return []
  chosen = np.linspace(0, len(paths) - 1, min(len(paths), count)).astype(int)
  return [paths[i] for i in chosen]


def named(names: Sequence[str]) -> str:
  """Returns the first of some names, and how many more there are."""
  more = f' and {len(names) - MOST_NAMED} more' if len(names) > MOST_NAMED else ''
  return ', '.join(names[:MOST_NAMED]) + more
