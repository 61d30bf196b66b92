"""Writes ids of planes as a TIFF: pages of small planes, tiles and smaller copies of large ones."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile

from ssl_jax.io import atomic
from ssl_jax.io.stacks import tiff_metadata
from ssl_jax.io.stacks.planes import IMAGEJ, OME_TIFF, TIFF, Planes

TILE = 512
"""Rows and columns of a tile."""

SMALLEST_LEVEL = 2048
"""Pixels; a large mask is halved until both of its sides are at most so long."""

CLASSIC_BYTES = 2**31
"""Bytes of ids, before compression, above which a file is a BigTIFF."""


MICRON = 'µm'
UNITS = {name: MICRON for name in ('micron', 'microns', 'um', 'µm', 'μm', '\\u00B5m')}
UNITS |= {name: name for name in ('nm', 'mm', 'cm', 'm')}
"""Units as ImageJ writes them, and as OME does."""

Rows = Callable[[int, int], Iterator[np.ndarray]]
"""(plane, step) -> tiles [TILE, TILE], row by row, of every step-th row and column of a plane."""


class Layer(NamedTuple):
  """Values of all planes of an image, for one channel of the file that is written."""

  whole: Callable[[int], np.ndarray]  # gives those [H, W] of a small plane
  tiles: Rows  # gives those of a large one


def write(path: Path, image: Planes, dtype: type, meaning: Sequence[str], layer: Layer) -> None:
  """Writes the ids of all planes of an image, with its metadata.

  Args:
    path: of the file.
    image: whose ids they are.
    dtype: of the ids.
    meaning: of ids 0, 1, ...; empty for ids of objects.
    layer: the ids.
  """
  large = image.is_large()
  form = image.form
  # ImageJ opens neither tiles nor ids of 32 bits as its own hyperstacks.
  if form == IMAGEJ and (large or np.dtype(dtype).itemsize > 2):
    form = OME_TIFF
  # tifffile's own note of the axes does not go with smaller copies: it warns and leaves it out.
  if form == TIFF and large and image.count() > 1:
    form = OME_TIFF
  metadata = image.metadata if form == image.form else _with_ome(image)
  arguments = tiff_metadata.to_write(form, metadata, f'{image.axes}YX', meaning)
  if form == TIFF and large:
    arguments['metadata'] = None
  _write_pages(path, image, dtype, [layer], image.shape, arguments)


def write_maps(
  path: Path,
  image: Planes,
  dtype: type,
  names: Sequence[str],
  layers: Sequence[Layer],
  sizes: Mapping[str, float],
) -> None:
  """Writes maps of all planes of an image as an OME-TIFF with a named channel for each.

  Args:
    path: of the file.
    image: whose maps they are.
    dtype: of the maps.
    names: of the channels.
    layers: the channels.
    sizes: of pixels and planes in micrometers, by axis.
  """
  arguments = tiff_metadata.of_maps(_with_ome(image), f'{image.axes}CYX', names, sizes)
  _write_pages(path, image, dtype, layers, (*image.shape, len(layers)), arguments)


def _write_pages(
  path: Path,
  image: Planes,
  dtype: type,
  layers: Sequence[Layer],
  leading: Sequence[int],
  arguments: dict[str, Any],
) -> None:
  """Writes the channels of each plane after one another; `leading` are the axes before Y and X."""
  size = image.header.height, image.header.width
  formats = {name: arguments.pop(name) for name in ('imagej', 'ome') if name in arguments}
  total = int(np.prod((*leading, *size))) * np.dtype(dtype).itemsize
  big = 'imagej' not in formats and total > CLASSIC_BYTES
  common: dict[str, Any] = {'dtype': dtype, 'compression': 'zlib', 'photometric': 'minisblack'}
  pages = list(itertools.product(range(image.count()), layers))
  with (
    atomic.replacing(path) as temporary,
    tifffile.TiffWriter(temporary, bigtiff=big, **formats) as tif,
  ):
    if not image.is_large():
      planes = (layer.whole(plane).astype(dtype) for plane, layer in pages)
      tif.write(planes, shape=(*leading, *size), **{**common, **arguments})
      return
    steps = _steps(size)
    common['tile'] = TILE, TILE
    for step in steps:
      smaller = (*leading, *(-(-side // step) for side in size))
      parts = (part.astype(dtype) for plane, layer in pages for part in layer.tiles(plane, step))
      if step == 1:
        more = {**arguments, 'subifds': len(steps) - 1}
      else:
        # Smaller copies, which viewers show where the whole is larger than the screen.
        more = {'subfiletype': 1, 'metadata': None}
      tif.write(parts, shape=smaller, **{**common, **more})


def _steps(size: Sequence[int]) -> list[int]:
  """1, 2, 4, ...: every how many rows and columns a copy has."""
  steps = [1]
  while max(size) / steps[-1] > SMALLEST_LEVEL:
    steps.append(2 * steps[-1])
  return steps


def _with_ome(image: Planes) -> Mapping[str, Any]:
  """The metadata of an image, with what ImageJ says in the words of OME."""
  if image.form != IMAGEJ:
    return image.metadata
  return {**image.metadata, 'ome': _as_ome(image.metadata)}


def _as_ome(metadata: Mapping[str, Any]) -> dict[str, Any]:
  """What ImageJ says of sizes and times, in the words of OME."""
  imagej = metadata['imagej']
  found: dict[str, Any] = {}
  # Of a unit that is not known nothing is said.
  unit = UNITS.get(imagej.get('unit', ''))
  if unit and 'spacing' in imagej:
    found |= {'PhysicalSizeZ': float(imagej['spacing']), 'PhysicalSizeZUnit': unit}
  if unit and 'resolution' in metadata:
    for axis, per_unit in zip('XY', metadata['resolution'], strict=True):
      found |= {f'PhysicalSize{axis}': 1 / per_unit, f'PhysicalSize{axis}Unit': unit}
  if 'finterval' in imagej:
    found |= {'TimeIncrement': float(imagej['finterval']), 'TimeIncrementUnit': 's'}
  return found
