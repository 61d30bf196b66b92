"""Parts of a page of a TIFF file, of which only the strips or tiles that they touch are decoded."""

from collections import OrderedDict
from typing import Any

import numpy as np
import tifffile

from ssl_jax.errors import UserError
from ssl_jax.io.formats import tiff_decoding

CACHE_BYTES = 256 * 1024 * 1024
"""Decoded strips and tiles that are kept, because neighboring parts share them."""

LARGEST_SEGMENT = 1 << 30
"""Bytes of a strip or tile above which a compressed file is refused: it would fill the memory."""


class RegionReader:
  """Reads parts of the pages of a series."""

  def __init__(self, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, name: str):
    self._tif = tif
    self._pages = series.pages
    self._keyframe: Any = series.keyframe
    self._memmap = None
    self._decoded: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
    self._bytes = 0
    keyframe = self._keyframe
    # All planes lie behind each other, as ImageJ and tifffile write them: nothing is to be decoded.
    if series.dataoffset is not None and keyframe.is_memmappable:
      dtype = keyframe.dtype.newbyteorder(tif.byteorder)
      shape = (-1, *keyframe.shaped)
      count = int(np.prod(series.shape, dtype=int))
      data = np.memmap(str(tif.filehandle.path), dtype, 'r', series.dataoffset, (count,))
      self._memmap = data.reshape(shape)
      return
    height, width = self._segment_size()
    if height * width * keyframe.shaped[4] * keyframe.dtype.itemsize > LARGEST_SEGMENT:
      raise UserError(
        f'{name} is compressed in one piece and too large to be decoded at once; save it in tiles '
        "(in Python: tifffile.imwrite(..., tile=(512, 512), compression='zlib'))."
      )

  def read(self, number: int, rows: slice, columns: slice) -> np.ndarray:
    """Returns the samples [S, h, w] of a part of a page that lies inside it.

    Where the samples of a pixel are stored apart, each is a page; pages are counted accordingly.
    """
    page, sample = divmod(number, self._keyframe.shaped[0])
    if self._memmap is not None:
      # [pages, separate samples, depth, length, width, contiguous samples]
      part = np.asarray(self._memmap[page, sample, 0, rows, columns])
      return part.astype(part.dtype.newbyteorder('='), copy=False).transpose(2, 0, 1)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    size = height, width, self._keyframe.shaped[4]
    part = np.full(size, self._keyframe.nodata, self._keyframe.dtype)
    for index, top, left in self._segments(sample, rows, columns):
      segment = self._segment(page, index)
      if segment is None:  # a hole in a sparse file
        continue
      # What the strip or tile and the region share, in coordinates of the page.
      first_row, first_column = max(top, rows.start), max(left, columns.start)
      last_row = min(top + segment.shape[0], rows.stop)
      last_column = min(left + segment.shape[1], columns.stop)
      if last_row <= first_row or last_column <= first_column:
        continue
      part[
        first_row - rows.start : last_row - rows.start,
        first_column - columns.start : last_column - columns.start,
      ] = segment[first_row - top : last_row - top, first_column - left : last_column - left]
    return part.transpose(2, 0, 1)

  def _segment_size(self) -> tuple[int, int]:
    """Rows and columns of a strip or tile."""
    page = self._keyframe
    if page.is_tiled:
      return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth

  def _segments(self, sample: int, rows: slice, columns: slice) -> list[tuple[int, int, int]]:
    """(index, first row, first column) of the strips or tiles that a region touches."""
    page = self._keyframe
    height, width = self._segment_size()
    down, across = -(-page.imagelength // height), -(-page.imagewidth // width)
    found = []
    for i in range(rows.start // height, -(-rows.stop // height)):
      for j in range(columns.start // width, -(-columns.stop // width)):
        found.append(((sample * down + i) * across + j, i * height, j * width))
    return found

  def _segment(self, page: int, index: int) -> np.ndarray | None:
    """A decoded strip or tile [h, w, samples]."""
    key = page, index
    if key in self._decoded:
      self._decoded.move_to_end(key)
      return self._decoded[key]
    frame: Any = self._pages[page]
    offset, count = frame.dataoffsets[index], frame.databytecounts[index]
    if not count:
      return None
    handle = self._tif.filehandle
    handle.seek(offset)
    data = handle.read(count)
    if len(data) < count:
      raise ValueError('its end is missing')
    tables = {}
    if self._keyframe.compression in tiff_decoding.JPEG_COMPRESSIONS:
      tables = {'jpegtables': frame.jpegtables, 'jpegheader': self._keyframe.jpegheader}
    decoded, _, _ = self._keyframe.decode(data, index, **tables)
    if decoded is None:
      return None
    segment = decoded[0]  # of one depth
    self._decoded[key] = segment
    self._bytes += segment.nbytes
    while self._bytes > CACHE_BYTES and len(self._decoded) > 1:
      _, oldest = self._decoded.popitem(last=False)
      self._bytes -= oldest.nbytes
    return segment
