"""What TIFF files say of their pixels, and the same for the masks that are written for them."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import tifffile

from ssl_jax.io.stacks.planes import IMAGEJ, OME_TIFF, TIFF

OME_ATTRIBUTES = (
  'PhysicalSizeX',
  'PhysicalSizeXUnit',
  'PhysicalSizeY',
  'PhysicalSizeYUnit',
  'PhysicalSizeZ',
  'PhysicalSizeZUnit',
  'TimeIncrement',
  'TimeIncrementUnit',
)
"""Attributes of the element Pixels that hold for a mask as well."""

IMAGEJ_KEYS = ('unit', 'spacing', 'finterval', 'fps', 'tunit', 'zunit', 'xorigin', 'yorigin')
"""Properties of an ImageJ image that hold for a mask as well."""


def read(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[str, dict[str, Any]]:
  """Returns the form of a file, and what it says of sizes, times and resolution."""
  page: Any = series.keyframe
  metadata: dict[str, Any] = {}
  resolution = [page.tags.valueof(name) for name in ('XResolution', 'YResolution')]
  if all(value and value[0] and value[1] for value in resolution):
    unit = page.tags.valueof('ResolutionUnit', default=1)
    metadata['resolution'] = tuple(above / below for above, below in resolution)
    metadata['resolutionunit'] = int(unit)
  if series.kind == 'ome' and tif.ome_metadata:
    return OME_TIFF, metadata | {'ome': _read_ome(tif.ome_metadata)}
  if series.kind == 'imagej':
    found = tif.imagej_metadata or {}
    return IMAGEJ, metadata | {'imagej': {key: found[key] for key in IMAGEJ_KEYS if key in found}}
  return TIFF, metadata


def _read_ome(xml: str) -> dict[str, Any]:
  """The name of the first image, and the sizes of its pixels."""
  found: dict[str, Any] = {}
  for element in ElementTree.fromstring(xml).iter():
    kind = element.tag.rpartition('}')[2]
    if kind == 'Image' and element.get('Name'):
      found['Name'] = element.get('Name')
    if kind == 'Pixels':
      for name in OME_ATTRIBUTES:
        if (text := element.get(name)) is not None:
          found[name] = text if name.endswith('Unit') else float(text)
      # Other images of the file, such as a thumbnail, have their own.
      return found
  return found


def to_write(
  form: str, metadata: Mapping[str, Any], axes: str, meaning: Sequence[str]
) -> dict[str, Any]:
  """Returns the arguments by which tifffile writes ids with the metadata of their image.

  Args:
    form: of the file that is written.
    metadata: of the image.
    axes: of what is written, as in 'ZYX'.
    meaning: of ids 0, 1, ...; empty for ids of objects.
  """
  arguments: dict[str, Any] = {'photometric': 'minisblack', 'metadata': {'axes': axes}}
  if 'resolution' in metadata:
    arguments |= {key: metadata[key] for key in ('resolution', 'resolutionunit')}
  if form == IMAGEJ:
    # A unit of ImageJ's own stands in its description; the tag has none then.
    if arguments.get('resolutionunit') == 1:
      del arguments['resolutionunit']
    shown = {'min': 0.0, 'max': float(max(len(meaning) - 1, 1))} if meaning else {}
    return arguments | {'imagej': True, 'metadata': {'axes': axes, **metadata['imagej'], **shown}}
  if form == OME_TIFF:
    about = dict(metadata.get('ome', {}))
    classes = ', '.join(f'{i} {name}' for i, name in enumerate(meaning))
    about['Channel'] = {'Name': f'class ids: {classes}' if meaning else 'ids of objects'}
    return arguments | {'ome': True, 'metadata': {'axes': axes, **about}}
  return arguments


def of_maps(
  metadata: Mapping[str, Any], axes: str, names: Sequence[str], sizes: Mapping[str, float]
) -> dict[str, Any]:
  """Returns the arguments by which tifffile writes maps as an OME-TIFF.

  Args:
    metadata: of the image, with what it says in the words of OME, if anything, under 'ome'.
    axes: of what is written, as in 'ZCYX'.
    names: of the channels.
    sizes: of pixels and planes in micrometers, for what the image does not say in these words.
  """
  about = dict(metadata.get('ome', {}))
  for axis, size in sizes.items():
    if f'PhysicalSize{axis.upper()}' not in about:
      about |= {f'PhysicalSize{axis.upper()}': size, f'PhysicalSize{axis.upper()}Unit': 'µm'}
  about['Channel'] = {'Name': list(names)}
  return {'ome': True, 'metadata': {'axes': axes, **about}}
