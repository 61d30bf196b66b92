"""What is counted in one mask file: the pixels of each value, and the pieces that it lies in."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Integer
from scipy import ndimage

from ssl_jax.io import atomic, masks
from ssl_jax.io.folders import file_names
from ssl_jax.io.masks import StoredMask
from ssl_jax.types import IGNORE

MAX_IDS = 64
"""More distinct values than this are instance ids, unless the user names that many classes."""

VERSION = 2
"""Version of the facts in a cache; increase it when something else is counted."""

MIN_BORDER_VALUES = 5
MIN_EXTREMES = 0.6
"""A mask with smooth borders has so many values between, and this fraction of its pixels at the
ends."""

MIN_RANGE = 100
"""From the lower to the upper end of such a mask; 255 in most."""

MIN_INSTANCE = 4
"""Fewer pixels are one piece by chance."""

SAMPLED_VALUES = 32
"""Values between the ends whose pieces are counted."""


class Piece(NamedTuple):
  """The pixels of one value in one mask, other than 0 and 255."""

  value: int
  pixels: int
  connected: bool  # whether they are one connected component
  center: tuple[float, ...]  # as fractions of the sides


class MaskFacts(NamedTuple):
  """What is known of a mask file."""

  path: Path
  shape: tuple[int, ...]
  counts: dict[int, int]  # pixels of each value; where `colored`, of each color (packed)
  colored: bool = False
  bits: int = 8
  palette: tuple[int, ...] = ()  # the color (packed) of each value
  rounded: float = 0.0  # how far a value was from a whole number at most
  pieces: tuple[Piece, ...] = ()  # of masks of at most MAX_IDS values
  notes: tuple[str, ...] = ()

  @property
  def shown(self) -> str:
    """The path as text that can be printed."""
    return file_names.readable(str(self.path))

  @property
  def name(self) -> str:
    """The name of the file as text that can be printed."""
    return file_names.readable(self.path.name)

  @property
  def pixels(self) -> int:
    """Number of pixels, or voxels."""
    return sum(self.counts.values())

  def color_counts(self) -> dict[int, int]:
    """Returns the pixels of each color (packed); of plain numbers, of their grays."""
    if self.colored:
      return self.counts
    counts: dict[int, int] = {}
    for value, count in self.counts.items():
      color = self.color_of(value)
      counts[color] = counts.get(color, 0) + count
    return counts

  def color_of(self, value: int) -> int:
    """Returns the color (packed) of a value of a mask that is not in color."""
    if self.palette:
      return self.palette[min(value, len(self.palette) - 1)]
    return masks.gray(value)

  def count_text(self, value: int) -> str:
    """Returns how many pixels have a value, in words."""
    count = self.counts.get(value, 0)
    unit = 'voxel' if len(self.shape) == 3 else 'pixel'
    return f'{count} {unit}{"s" * (count != 1)}'

  def soft(self) -> tuple[int, int] | None:
    """Returns the ends of a mask of two values with smooth borders; None if it is another."""
    return _smooth_borders(self)


def measure(stored: StoredMask, path: Path) -> MaskFacts:
  """Counts the values of a mask, and the pieces that each lies in.

  Raises:
    UserError: naming the file, if it holds fractions.
  """
  values, rounded = masks.whole_numbers(stored.values, path)
  counts = _count(values)
  ids = [value for value in counts if value not in (0, IGNORE)]
  # Of colors nobody asks whether they are instances. More than MAX_IDS values are; there a few
  # pieces tell only whether borders are smooth.
  return MaskFacts(
    path,
    values.shape,
    counts,
    stored.colored,
    stored.bits,
    stored.palette,
    rounded,
    () if stored.colored else pieces_of(values, ids if len(ids) <= MAX_IDS else _spread(ids)),
    stored.notes,
  )


def read_facts(path: Path, sha256: str = '', cache: Path | None = None) -> MaskFacts:
  """Reads a mask file and counts its values.

  Args:
    path: of the mask.
    sha256: of its content.
    cache: the folder that keeps what was counted of files of this content; None: none.

  Raises:
    UserError: naming the file, if it cannot be read or holds fractions.
  """
  kept = cache / f'{sha256}-{VERSION}.json' if cache else None
  if kept is not None and kept.exists():
    facts = _from_json(kept.read_text(), path)
    if facts is not None:
      return facts
  facts = measure(masks.read_stored(path), path)
  if kept is not None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(kept) as temporary:
      temporary.write_text(json.dumps(facts._replace(path='')._asdict()))
  return facts


def _from_json(text: str, path: Path) -> MaskFacts | None:
  """Facts as json.dumps wrote them: its keys are texts and its tuples lists.

  None if another version of this program wrote them, or they are not whole: then the file of the
  mask, which tells the same, is read again.
  """
  try:
    fields = json.loads(text)
  except json.JSONDecodeError:
    return None
  if not isinstance(fields, dict) or set(fields) != set(MaskFacts._fields):
    return None
  fields['path'] = path
  fields['counts'] = {int(value): count for value, count in fields['counts'].items()}
  fields['pieces'] = tuple(Piece(*piece[:3], tuple(piece[3])) for piece in fields['pieces'])
  for name in ('shape', 'palette', 'notes'):
    fields[name] = tuple(fields[name])
  return MaskFacts(**fields)


def _count(values: Integer[np.ndarray, '*space']) -> dict[int, int]:
  """Pixels of each value, in increasing order."""
  # For 8 and 16 bits much faster than sorting.
  if values.dtype in (np.uint8, np.uint16):
    counts = np.bincount(values.ravel())
    return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
  unique, counts = np.unique(values, return_counts=True)
  return dict(zip(unique.tolist(), counts.tolist(), strict=True))


def _spread(ids: list[int]) -> list[int]:
  """A few of many ids, evenly spaced."""
  chosen = np.linspace(0, len(ids) - 1, SAMPLED_VALUES).astype(int)
  return [ids[i] for i in dict.fromkeys(chosen.tolist())]


def pieces_of(values: Integer[np.ndarray, '*space'], ids: list[int]) -> tuple[Piece, ...]:
  """Returns the pieces of those of the ids (in increasing order) that a mask holds."""
  if not ids:
    return ()
  # Ids renumbered 1, 2, ... without gaps, as `find_objects` needs them; 0 elsewhere.
  ranks = _ranks(values, ids)
  # Pixels that touch at a corner are connected.
  touching = np.ones((3,) * values.ndim, int)
  pieces = []
  for rank, box in enumerate(ndimage.find_objects(ranks, len(ids)), start=1):
    if box is None:
      continue
    # Only the bounding box of an id is searched.
    inside = ranks[box] == rank
    _, components = ndimage.label(inside, touching)
    center = []
    for axis, part in enumerate(box):
      other_axes = tuple(other for other in range(values.ndim) if other != axis)
      along = inside.sum(other_axes)
      middle = part.start + float((along * np.arange(len(along))).sum() / along.sum())
      center.append((middle + 0.5) / values.shape[axis])
    pieces.append(Piece(int(ids[rank - 1]), int(inside.sum()), components == 1, tuple(center)))
  return tuple(pieces)


def _ranks(values: Integer[np.ndarray, '*space'], ids: list[int]) -> Int32[np.ndarray, '*space']:
  """1 for the first of the ids, 2 for the second, ...; 0 for all other values."""
  if values.dtype in (np.uint8, np.uint16):
    table = np.zeros(np.iinfo(values.dtype).max + 1, np.int32)
    table[ids] = np.arange(1, len(ids) + 1)
    return table[values]
  positions = np.minimum(np.searchsorted(ids, values), len(ids) - 1)
  return np.where(np.array(ids)[positions] == values, positions + 1, 0).astype(np.int32)


def _smooth_borders(facts: MaskFacts) -> tuple[int, int] | None:
  """The ends of a mask of two values that was resized smoothly, or was once a JPEG."""
  if facts.colored or len(facts.counts) < MIN_BORDER_VALUES + 2:
    return None
  low, high = min(facts.counts), max(facts.counts)
  # Classes are small numbers.
  if high - low < MIN_RANGE:
    return None
  # Beside the ends there is JPEG's noise.
  noise = (high - low) // 16
  between = [value for value in facts.counts if low + noise < value < high - noise]
  middle = (low + high) / 2
  # Instance ids beside 255 are small numbers; a smooth border passes through all.
  if not any(value < middle for value in between) or not any(value > middle for value in between):
    return None
  pixels_between = [facts.counts[value] for value in between]
  white = max(count for value, count in facts.counts.items() if value >= high - noise)
  if len(between) < MIN_BORDER_VALUES or max(pixels_between) > white:
    return None
  if sum(pixels_between) > (1 - MIN_EXTREMES) * facts.pixels:
    return None
  # Each value of a border lies all along it, an instance in one place.
  large = [piece for piece in facts.pieces if piece.pixels >= MIN_INSTANCE]
  inner = [piece for piece in large if piece.value in between]
  if inner and sum(piece.connected for piece in inner) > len(inner) / 2:
    return None
  return low, high
