"""The sizes of a source's images, where they are known without decoding the images."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ssl_jax.types import Source


@runtime_checkable
class Sized(Protocol):
  """A source that knows the sizes of its images."""

  def sizes(self) -> Sequence[tuple[int, int]]:
    """Returns the rows and columns of each image, in order; nothing where they are not known."""
    ...


def sizes_of(source: Source | None) -> Sequence[tuple[int, int]]:
  """Returns the rows and columns of each image of a source; nothing where they are not known."""
  return source.sizes() if isinstance(source, Sized) else ()
