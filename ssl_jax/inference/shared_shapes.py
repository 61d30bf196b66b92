"""Few padded shapes for images of many sizes, because a network is compiled for each shape."""

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Size = tuple[int, int]
"""Rows and columns."""

MOST = 4
"""Shapes for which a network is compiled, tiles included, whatever sizes the images have."""

CANDIDATES = 32
"""Groups of sizes that are compared with each other; more sizes are first grouped roughly."""


class _Group(NamedTuple):
  """Sizes that share a shape."""

  sizes: tuple[Size, ...]
  count: int  # images
  shape: Size

  def pixels(self) -> int:
    """Returns the pixels that go through the network."""
    return self.count * self.shape[0] * self.shape[1]

  def with_other(self, other: '_Group') -> '_Group':
    """Returns the group of both, whose shape covers all sizes."""
    height, width = (max(pair) for pair in zip(self.shape, other.shape, strict=True))
    return _Group(self.sizes + other.sizes, self.count + other.count, (height, width))


def counted(sizes: Iterable[Sequence[int]]) -> tuple[tuple[Size, int], ...]:
  """Returns each size with the number of images that have it, always in the same order.

  Args:
    sizes: [H, W] of each image, and perhaps more axes, which do not count.
  """
  return tuple(sorted(Counter((int(size[0]), int(size[1])) for size in sizes).items()))


@functools.lru_cache(64)
def shared_shapes(
  sizes: tuple[tuple[Size, int], ...], multiple: int, budget: int
) -> Mapping[Size, Size]:
  """Returns the shape to which images of each size are padded: at most MOST different ones.

  Where sizes rounded up to the multiple are few, that is the shape. Otherwise the two groups of
  sizes whose union adds the fewest pixels become one, again and again.

  Args:
    sizes: of all images, as `counted` returns them.
    multiple: of the sides of a network.
    budget: pixels that a network sees at once. Larger images are cut into tiles and have no shape
      here, but a tile is a shape, too.
  """
  whole = [(size, count) for size, count in sizes if size[0] * size[1] <= budget]
  most = MOST if len(whole) == len(sizes) else MOST - 1
  groups = _rounded(whole, multiple, multiple)
  unit = multiple
  while len(groups) > max(CANDIDATES, most):
    unit *= 2
    groups = _rounded(whole, unit, multiple)
  while len(groups) > most:
    unions = [
      (union.pixels() - a.pixels() - b.pixels(), i, j, union)
      for (i, a), (j, b) in itertools.combinations(enumerate(groups), 2)
      if _area((union := a.with_other(b)).shape) <= max(budget, _area(a.shape), _area(b.shape))
    ]
    # Long rows beside high columns, which together would be more than the network may see.
    if not unions:
      break
    _, first, second, union = min(unions)
    groups = [group for i, group in enumerate(groups) if i not in (first, second)] + [union]
  return {size: group.shape for group in groups for size in group.sizes}


def rounded_up(size: Sequence[int], multiple: int) -> Size:
  """Returns a size whose sides are the next multiples."""
  # -n % m is what n lacks to the next multiple of m.
  height, width = (side + -side % multiple for side in size)
  return height, width


def _rounded(sizes: Sequence[tuple[Size, int]], unit: int, multiple: int) -> list[_Group]:
  """Groups of sizes that are the same when rounded up to the unit; shapes as small as may be."""
  groups: dict[Size, _Group] = {}
  for size, count in sizes:
    new = _Group((size,), count, rounded_up(size, multiple))
    key = rounded_up(size, unit)
    groups[key] = groups[key].with_other(new) if key in groups else new
  return list(groups.values())


def _area(size: Size) -> int:
  return size[0] * size[1]
