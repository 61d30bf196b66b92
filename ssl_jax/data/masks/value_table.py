"""The values, or colors, that a set of masks holds, and the words in which messages name them."""

import itertools
from collections.abc import Sequence

import numpy as np

from ssl_jax.data.masks.mask_facts import MaskFacts
from ssl_jax.io import masks
from ssl_jax.types import IGNORE

MAX_NAMED = 8
"""Values or colors that a message names at most."""

LARGEST = (2**16 - 1, 2**32 - 1, 2**64 - 1)
"""What -1 is as an unsigned number."""

WHITE = (1, 2**8 - 1, 2**16 - 1)
"""The largest numbers of 1, 8 and 16 bits."""

MAX_ENDS = 8
MIN_BORDER_COLORS = 5
MAX_DEVIATION = 2
"""Between two of so many most frequent colors a smooth border has at least so many others, each of
which is at most so many steps beside the line from one to the other."""

MAX_PROPOSED = 40
"""Entries of a proposal for `data.values`, which is there to be copied, at most."""


class ValueTable:
  """The values of masks in increasing order; of colors those with the most pixels first."""

  def __init__(self, facts: Sequence[MaskFacts], by_color: bool = False):
    self.facts = facts
    self._by_color = by_color
    self._files: dict[int, list[MaskFacts]] = {}
    self._pixels: dict[int, int] = {}
    for mask in facts:
      for value, count in (mask.color_counts() if by_color else mask.counts).items():
        self._files.setdefault(value, []).append(mask)
        self._pixels[value] = self._pixels.get(value, 0) + count
    order = (lambda color: -self._pixels[color]) if by_color else None
    self.values = sorted(self._files, key=order)
    self._unit = 'voxels' if facts and len(facts[0].shape) == 3 else 'pixels'

  def files(self, value: int) -> list[MaskFacts]:
    """Returns the masks that hold a value."""
    return self._files[value]

  def text(self, value: int) -> str:
    """Returns a value, or a color, in words."""
    return masks.color_text(value) if self._by_color else str(value)

  def where(self, value: int) -> str:
    """Returns how many pixels of how many masks have a value."""
    files = len(self._files[value])
    unit = self._unit if self._pixels[value] != 1 else self._unit[:-1]
    return f'{self._pixels[value]} {unit} in {files} mask{"s" * (files != 1)}'

  def listed(self) -> str:
    """Returns the values, at most eight, and a file that holds the largest."""
    last = self.values[-1]
    more = ', ...' if len(self.values) > MAX_NAMED else ''
    first = ', '.join(map(self.text, self.values[:MAX_NAMED]))
    return f'{first}{more} ({self.text(last)} is in {self._files[last][0].shown})'

  def counts(self) -> str:
    """Returns each value, at most eight, with how many pixels of how many masks have it."""
    parts = [f'{self.text(value)}: {self.where(value)}' for value in self.values[:MAX_NAMED]]
    more = f', and {len(self.values) - MAX_NAMED} more' if len(self.values) > MAX_NAMED else ''
    return ', '.join(parts) + more

  def proposal(self, ignore: bool = False) -> str:
    """Returns what `data.values` could be, each value a class; with `ignore` 255 is none."""
    if self._is_white_of_several_depths() and not ignore:
      return ', '.join(f'{value}:1' for value in self.values if value)
    background = self._background()
    entries = [] if background == 0 else [(background, 0)]
    class_id = 0
    for value in [value for value in self.values if value != background][:MAX_PROPOSED]:
      # Negative numbers beside others mean unknown; -1 may have become the largest number.
      unknown = value < 0 or (value in LARGEST and not self._by_color)
      unknown = unknown and len(self.values) > 2
      ignored = unknown or (ignore and value == IGNORE)
      class_id += not ignored
      entries.append((value, IGNORE if ignored else class_id))
    more = ', ...' * (len(self.values) > MAX_PROPOSED + 1)
    return ', '.join(f'{self.text(value)}:{class_id}' for value, class_id in entries) + more

  def _is_white_of_several_depths(self) -> bool:
    """Whether masks of 1, 8 and 16 bits stand together, each with 0 and the white of its depth."""
    white = [value for value in self.values if value]
    if self._by_color or len(white) < 2 or not set(white) <= set(WHITE):
      return False
    return all(len(set(white) & set(mask.counts)) <= 1 for mask in self.facts)

  def _background(self) -> int:
    """The value, or color, that is most likely nobody's drawing."""
    if 0 in self.values:
      return 0
    # Colors have the most pixels first.
    if self._by_color:
      return self.values[0]
    # Of two numbers (-1 and 1) the smaller; else negative ones are unknown.
    return min(self.values, key=lambda v: (v < 0 and len(self.values) > 2, v))

  def soft_colors(self) -> str | None:
    """Returns what is wrong with drawings that have smooth borders; None if they have none."""
    colors = np.array([masks.unpack(color) for color in self.values], float).reshape(-1, 3)
    # The most frequent colors come first: two of them are the ends of a border.
    for i, j in itertools.combinations(range(min(len(colors), MAX_ENDS)), 2):
      direction = colors[j] - colors[i]
      share = (colors - colors[i]) @ direction / (direction @ direction)
      beside = np.abs(colors - colors[i] - share[:, None] * direction).max(-1)
      between = np.flatnonzero((share > 0) & (share < 1) & (beside <= MAX_DEVIATION))
      pixels = [self._pixels[self.values[k]] for k in between]
      if len(between) >= MIN_BORDER_COLORS and max(pixels) < self._pixels[self.values[j]]:
        low, high = self.text(self.values[i]), self.text(self.values[j])
        holder = self._files[self.values[between[0]]][0].shown
        return (
          f'{holder} looks like a drawing of {low} and {high} with smooth borders ({sum(pixels)} '
          f'{self._unit} of all masks lie between, such as {self.text(self.values[between[0]])}); '
          'draw it without smoothing (anti-aliasing), or give each of these pixels the nearer of '
          'the two colors, and save it as PNG.'
        )
    return None

  def first_soft(self) -> str | None:
    """Returns what is wrong with the first mask that has smooth borders; None if none has."""
    for mask in self.facts:
      ends = mask.soft()
      if ends is not None:
        low, high = ends
        between = {v: count for v, count in mask.counts.items() if low < v < high}
        middle = (low + high + 1) // 2
        example = min(between, key=lambda v: abs(v - middle))
        number = sum(between.values())
        return (
          f'{mask.shown} looks like a mask of {low} and {high} with smooth borders ({number} of '
          f'{mask.pixels} {self._unit} lie between, such as {example}); threshold it (values of '
          f'{middle} and more become {high}, all others {low}) and save it as PNG, TIFF or NIfTI.'
        )
    return None
