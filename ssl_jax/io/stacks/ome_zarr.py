"""OME-Zarr (NGFF 0.4 and 0.5): planes of level 0 of an image, and masks as labels.

https://ngff.openmicroscopy.org/0.5/
"""

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.io.formats.stored_image import CHANNELS, GRAY, Header
from ssl_jax.io.stacks import planes
from ssl_jax.io.stacks.planes import OME_ZARR, Planes

CHUNK = 512
"""Rows and columns of a chunk of a mask."""

SMALLEST_LEVEL = 1024
"""Pixels; a mask is halved until both of its sides are at most so long."""


def _zarr() -> Any:
  """The package zarr, which is optional."""
  try:
    return importlib.import_module('zarr')
  except ImportError as error:
    raise UserError(
      "OME-Zarr needs the package zarr, which is not installed; pip install 'zarr>=3'."
    ) from error


def open_planes(path: Path) -> Planes:
  """Opens level 0 of an image.

  Raises:
    UserError: if zarr is not installed, or the folder holds no image that is read.
  """
  zarr = _zarr()
  try:
    group = zarr.open_group(path, mode='r')
    attributes = dict(group.attrs)
    # Version 0.5 has all of it under one key.
    about = attributes.get('ome', attributes)
    multiscale = about['multiscales'][0]
    array = group[multiscale['datasets'][0]['path']]
  # Zarr raises many kinds of errors for what is missing or broken.
  except Exception as error:
    what = _what_else(path)
    raise UserError(
      f'{path} cannot be read as an image of OME-Zarr ({what or type(error).__name__}); give a '
      'folder that holds images with `multiscales`.'
    ) from error
  axes = _axes(multiscale, array.ndim)
  length = dict(zip(axes, array.shape, strict=True))
  others = [a for a, n in length.items() if a not in 'tczyx' and n > 1]
  if others or not {'y', 'x'} <= set(axes):
    raise UserError(f'{path} has the axes {", ".join(axes)}, and t, c, z, y and x are read.')
  channels = length.get('c', 1)
  dtype = np.dtype({'uint8': 'uint8', 'uint16': 'uint16'}.get(array.dtype.name, 'float32'))
  stacked = [axis for axis in axes if axis in 'tz']
  shape = tuple(length[axis] for axis in stacked)

  def read(plane: int, rows: slice, columns: slice) -> np.ndarray:
    places = np.unravel_index(plane, shape) if shape else ()
    chosen: dict[str, Any] = dict(zip(stacked, (int(i) for i in places), strict=True))
    chosen |= {'y': rows, 'x': columns, 'c': slice(None)}
    part = np.asarray(array[tuple(chosen.get(axis, 0) for axis in axes)])
    if 'c' not in axes:
      return planes.as_samples(part[..., None].astype(dtype, copy=False), str(path))
    kept = [axis for axis in axes if axis in 'cyx']
    part = part.transpose([kept.index(axis) for axis in 'yxc'])
    return planes.as_samples(part.astype(dtype, copy=False), str(path))

  layout = GRAY if channels == 1 else CHANNELS
  header = Header(length['y'], length['x'], channels, dtype, layout)
  about_axes = {'axes': axes, 'multiscale': multiscale, 'version': _version(group)}
  metadata = {**about_axes, 'path': str(path)}
  named = ''.join(stacked).upper()
  return Planes(str(path), header, named, shape, read, OME_ZARR, metadata)


def _version(group: Any) -> str:
  """The version of NGFF that fits the format of a group."""
  return '0.4' if group.metadata.zarr_format == 2 else '0.5'


def _what_else(path: Path) -> str:
  """What a folder is instead of an image; empty where that is not known."""
  for name in ('zarr.json', '.zattrs'):
    file = path / name
    text = file.read_text(errors='replace') if file.is_file() else ''
    if '"plate"' in text:
      return 'it is a plate, whose images lie in its folders'
    if '"bioformats2raw.layout"' in text:
      return 'its images lie in its folders 0, 1, ...'
  return ''


def _axes(multiscale: Mapping[str, Any], count: int) -> list[str]:
  """Names of axes; before version 0.4 they were plain names or fixed."""
  axes = multiscale.get('axes') or list('tczyx')[-count:]
  return [axis['name'] if isinstance(axis, Mapping) else axis for axis in axes]


class LabelWriter:
  """Writes the labels of an image, as a group of their own that may be copied into the image.

  PATH/labels/NAME has `multiscales` and `image-label`; viewers open it by itself as well.
  """

  def __init__(self, path: Path, image: Planes, names: Sequence[str]):
    zarr = _zarr()
    self._image = image
    self._format = 2 if image.metadata['version'] == '0.4' else 3
    self._root = zarr.open_group(path, mode='w', zarr_format=self._format)
    self._set(self._root, {})
    self._labels = self._root.create_group('labels')
    self._set(self._labels, {'labels': list(names)})
    self._path = path

  def write(
    self,
    name: str,
    blocks: Iterator[tuple[int, int, int, np.ndarray]],
    dtype: type,
    meaning: Sequence[str],
    link_from: Path,
  ) -> None:
    """Writes the ids of one label image.

    Args:
      name: of the label.
      blocks: (plane, first row, first column, ids [h, w]); first rows and columns are multiples of
        CHUNK.
      dtype: of the ids.
      meaning: of ids 0, 1, ...; empty for ids of objects.
      link_from: where the group will lie when it is finished.
    """
    group = self._labels.create_group(name)
    header = self._image.header
    level = self._create(group, 0, (header.height, header.width), dtype)
    for plane, top, left, ids in blocks:
      rows, columns = slice(top, top + ids.shape[0]), slice(left, left + ids.shape[1])
      level[self._index(plane, rows, columns)] = ids.astype(dtype).reshape(self._part(ids))
    count = 1
    size = header.height, header.width
    while max(size) > SMALLEST_LEVEL:
      size = -(-size[0] // 2), -(-size[1] // 2)
      level = self._halve(level, self._create(group, count, size, dtype), size)
      count += 1
    self._set(group, self._about_label(name, count, meaning, link_from / 'labels' / name))

  def _create(self, group: Any, number: int, size: Sequence[int], dtype: type) -> Any:
    axes = self._image.metadata['axes']
    length = {'y': size[0], 'x': size[1]}
    length |= dict(zip(self._image.axes.lower(), self._image.shape, strict=True))
    shape = tuple(length.get(axis, 1) for axis in axes)
    chunks = tuple(min(CHUNK, length[axis]) if axis in 'yx' else 1 for axis in axes)
    more: dict[str, Any] = {'dimension_names': axes} if self._format == 3 else {}
    if self._format == 2:
      more['chunk_key_encoding'] = {'name': 'v2', 'separator': '/'}
    return group.create_array(str(number), shape=shape, chunks=chunks, dtype=dtype, **more)

  def _index(self, plane: int, rows: slice, columns: slice) -> tuple:
    chosen: dict[str, Any] = {'y': rows, 'x': columns}
    for axis, i in self._image.position(plane).items():
      chosen[axis] = slice(i, i + 1)
    return tuple(chosen.get(axis, slice(0, 1)) for axis in self._image.metadata['axes'])

  def _part(self, ids: np.ndarray) -> tuple[int, ...]:
    """The shape of a part of a plane in the axes of the image."""
    length = {'y': ids.shape[0], 'x': ids.shape[1]}
    return tuple(length.get(axis, 1) for axis in self._image.metadata['axes'])

  def _halve(self, level: Any, smaller: Any, size: Sequence[int]) -> Any:
    """Every second row and column of a level, four chunks at a time."""
    for plane in range(self._image.count()):
      for top in range(0, size[0], CHUNK):
        for left in range(0, size[1], CHUNK):
          rows = slice(top, min(top + CHUNK, size[0]))
          columns = slice(left, min(left + CHUNK, size[1]))
          source = self._index(
            plane, slice(2 * rows.start, 2 * rows.stop), slice(2 * columns.start, 2 * columns.stop)
          )
          every = tuple(
            slice(None, None, 2 if axis in 'yx' else 1) for axis in self._image.metadata['axes']
          )
          smaller[self._index(plane, rows, columns)] = np.asarray(level[source])[every]
    return smaller

  def _about_label(
    self, name: str, levels: int, meaning: Sequence[str], place: Path
  ) -> dict[str, Any]:
    """The metadata `multiscales` and `image-label`."""
    original = self._image.metadata['multiscale']
    axes = self._image.metadata['axes']
    named = original.get('axes')
    if not named or not isinstance(named[0], Mapping):
      kinds = {'t': 'time', 'c': 'channel'}
      named = [{'name': axis, 'type': kinds.get(axis, 'space')} for axis in axes]
    transforms = original['datasets'][0].get('coordinateTransformations') or [
      {'type': 'scale', 'scale': [1.0] * len(axes)}
    ]
    datasets = []
    for number in range(levels):
      scaled = []
      for transform in transforms:
        if transform['type'] == 'scale':
          pairs = zip(axes, transform['scale'], strict=True)
          factor = [value * (2**number if axis in 'yx' else 1) for axis, value in pairs]
          transform = {'type': 'scale', 'scale': factor}
        scaled.append(transform)
      datasets.append({'path': str(number), 'coordinateTransformations': scaled})
    multiscale = {'name': name, 'axes': list(named), 'datasets': datasets}
    if 'coordinateTransformations' in original:
      multiscale['coordinateTransformations'] = original['coordinateTransformations']
    label: dict[str, Any] = {
      'source': {'image': os.path.relpath(self._image.metadata['path'], place)}
    }
    if meaning:
      label['colors'] = [
        {'label-value': i, 'rgba': [*color, 255 if i else 0]}
        for i, color in enumerate(images.PALETTE[: len(meaning)].tolist())
      ]
      label['properties'] = [{'label-value': i, 'class': text} for i, text in enumerate(meaning)]
    version = self._image.metadata['version']
    if version == '0.4':
      multiscale['version'] = version
      label['version'] = version
    return {'multiscales': [multiscale], 'image-label': label}

  def _set(self, group: Any, about: Mapping[str, Any]) -> None:
    """Metadata of a group, in the place that its version has for it."""
    if self._format == 3:
      group.attrs['ome'] = {'version': '0.5', **about}
    else:
      group.attrs.update(about)
