"""The size of an image from the beginning of its file, where a wrong one costs only time."""

from pathlib import Path

import tifffile
from PIL import Image

from ssl_jax.io.formats import stored_image

TIFF_MARKS = (b'II', b'MM')
"""Of the order of bytes, with which every TIFF begins."""


def quick_size(path: Path) -> tuple[int, int] | None:
  """Returns the rows and columns of an upright image; None where the file does not tell at once.

  Of a stack it is the size of the first plane. An orientation that a PNG stores behind its pixels
  is not seen.
  """
  try:
    with path.open('rb') as file:
      is_tiff = file.read(2) in TIFF_MARKS
    if is_tiff:
      with tifffile.TiffFile(path) as tif:
        page = tif.pages.first.aspage()
        orientation = page.tags.valueof(stored_image.ORIENTATION_TAG, default=1)
        return stored_image.upright_size(page.imagelength, page.imagewidth, orientation)
    with Image.open(path) as image:
      # Pillow would decode all pixels of a PNG to look for a tag behind them.
      known = image.format != 'PNG' or 'exif' in image.info
      orientation = image.getexif().get(stored_image.ORIENTATION_TAG, 1) if known else 1
      return stored_image.upright_size(image.size[1], image.size[0], orientation)
  except Exception:  # readers raise any kind of error for broken bytes, which is told elsewhere
    return None
