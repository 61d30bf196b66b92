"""The size of an image's pixels, as its file names it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import tifffile

MICROMETERS = {
  'nm': 1e-3,
  'µm': 1.0,
  'μm': 1.0,
  'um': 1.0,
  'micron': 1.0,
  'microns': 1.0,
  'micrometer': 1.0,
  'micrometre': 1.0,
  '\\u00b5m': 1.0,  # as ImageJ writes it, in ASCII
  'mm': 1e3,
  'cm': 1e4,
  'inch': 25400.0,
  'in': 25400.0,
  'm': 1e6,
}
"""Length of units in micrometers, by the names that OME, ImageJ and TIFF have for them."""

COARSEST_OF_TAG = 20.0
"""Micrometers; TIFF's resolution in inches or centimeters means print or screen where it is coarser
(1270 dpi), as most programs that know no pixel size write 72, 96 or 300 dpi."""


class PixelSize(NamedTuple):
  """Sides of a pixel in micrometers."""

  x: float
  y: float

  @property
  def area(self) -> float:
    """In square micrometers."""
    return self.x * self.y


def read_pixel_size(path: Path) -> PixelSize | None:
  """Reads it from the metadata of OME or ImageJ, or the tags of a TIFF; None where none says it."""
  try:
    with tifffile.TiffFile(path) as tif:
      if tif.is_ome and (size := _of_ome(tif.ome_metadata or '')):
        return size
      return _of_tags(tif)
  # Another format, or metadata that nobody can read: the size is a help, and not needed.
  except Exception:
    return None


def _of_ome(xml: str) -> PixelSize | None:
  """Of the first image."""
  for element in ElementTree.fromstring(xml).iter():
    if element.tag.rpartition('}')[2] == 'Pixels':
      sides = []
      for axis in 'XY':
        # Micrometers are the default of the standard.
        factor = MICROMETERS.get(element.get(f'PhysicalSize{axis}Unit', 'µm'))
        text = element.get(f'PhysicalSize{axis}')
        if factor is None or text is None:
          return None
        sides.append(float(text) * factor)
      return _checked(*sides)
  return None


def _of_tags(tif: tifffile.TiffFile) -> PixelSize | None:
  """Of the first page; ImageJ keeps the unit in its own metadata."""
  page = tif.pages.first
  sides = []
  for name in ('XResolution', 'YResolution'):
    numerator, denominator = page.tags.valueof(name, default=(0, 1))
    if not numerator:
      return None
    # Pixels a unit -> units a pixel.
    sides.append(denominator / numerator)
  unit = (tif.imagej_metadata or {}).get('unit')
  if unit is not None:
    factor = MICROMETERS.get(str(unit).lower())
    return None if factor is None else _checked(sides[0] * factor, sides[1] * factor)
  # 2 is inch and 3 centimeter; 1 is no unit.
  factor = {2: MICROMETERS['inch'], 3: MICROMETERS['cm']}.get(
    page.tags.valueof('ResolutionUnit', 2)
  )
  if factor is None or max(sides) * factor > COARSEST_OF_TAG:
    return None
  return _checked(sides[0] * factor, sides[1] * factor)


def _checked(x: float, y: float) -> PixelSize | None:
  return PixelSize(x, y) if 0 < x < float('inf') and 0 < y < float('inf') else None
