"""Rows of images on one page, with titles, names, scores and a legend, and no gaps between them.

Everything is laid out in pixels of the PNG, because then an image is drawn at its final size at
once: one that is shrunk is averaged, one that is enlarged keeps its sharp pixels, and the outlines
of its mask are one pixel wide in either case.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer, UInt8

from ssl_jax.io.images import overlay, resize
from ssl_jax.types import NOTHING

DPI = 110
AREA = 270 * 270
"""Pixels of the page that an image covers."""

GAP = 4
MARGIN = 8
EMPTY = '0.93'
"""Light gray, where an image does not fill its cell."""

TITLE_FONT, NAME_FONT, SMALLEST_FONT = 10.0, 8.0, 7.0


class Mark(NamedTuple):
  """A yellow sign on an image, at x and y in its pixels from the top left corner."""

  x: float | int
  y: float | int
  sign: str  # '+' or 'o'


class Panel(NamedTuple):
  """An RGB image, class ids to lay over it, and signs to draw onto it."""

  image: UInt8[np.ndarray, 'h w 3']
  mask: Integer[np.ndarray, 'h w'] | None = None
  marks: Sequence[Mark] = ()


Row = Sequence[Panel | None]
Pixels = float | int
Color = tuple[int, int, int]


class Layout(NamedTuple):
  """Sizes of the page in pixels, and what is written on it."""

  cell: tuple[int, int]  # height, width
  rows: int
  columns: int
  left: int  # of the first column
  top: int  # of the first row
  below: int  # height of the scores under each row
  legend: int  # height of the legend under the last row

  @property
  def size(self) -> tuple[int, int]:
    """Height and width of the page."""
    height, width = self.cell
    # Scores and gaps follow each row, but there is no gap after the last one.
    return (
      self.top + self.rows * (height + self.below + GAP) - GAP + self.legend + MARGIN,
      max(self.left + self.columns * (width + GAP) - GAP + MARGIN, 240),
    )

  def corner(self, row: int, column: int) -> tuple[int, int]:
    """The pixel from the top and from the left at which a cell begins."""
    height, width = self.cell
    return self.top + row * (height + self.below + GAP), self.left + column * (width + GAP)


def draw_grid(
  path: Path,
  rows: Sequence[Row],
  titles: Sequence[str],
  row_names: Sequence[str] = (),
  row_scores: Sequence[Sequence[str]] = (),
  legend: Mapping[str, Color | str] = NOTHING,
  area: int = AREA,
) -> None:
  """Draws rows of images of equal height as a PNG.

  An image whose shape is not that of most others is fitted into its cell.

  Args:
    path: of the PNG; its folder is made.
    rows: of images; None leaves a cell empty.
    titles: above the columns.
    row_names: at the left of each row.
    row_scores: for each row a text under each of its images ('' for none), of one or more lines.
    legend: names, and their colors 0..255 or signs, below the images.
    area: pixels of the page that an image covers.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(dpi=DPI, facecolor='white')
  # A renderer is needed to measure texts before anything is drawn.
  page = _Page(figure, FigureCanvasAgg(figure).get_renderer())
  cell = _cell_size(rows, area)
  columns = max(len(row) for row in rows)
  # Every row has room for the longest score of all, so that rows have one height.
  lines = max((len(text.split('\n')) for row in row_scores for text in row if text), default=0)
  # First without a legend: how many lines it takes depends on the width of the page.
  layout = Layout(
    cell=cell,
    rows=len(rows),
    columns=columns,
    left=MARGIN + (page.line_height(NAME_FONT) if any(row_names) else 0),
    top=MARGIN + (page.line_height(TITLE_FONT) if any(titles) else 0),
    below=lines * page.line_height(NAME_FONT),
    legend=0,
  )
  # Now the height of the page is known.
  places, legend_height = _place_legend(page, list(legend), layout)
  layout = layout._replace(legend=legend_height)
  page.resize(layout.size)
  _draw_images(page, rows, layout)
  _write_texts(page, titles, row_names, row_scores, layout)
  _draw_legend(page, legend, places, layout)
  path.parent.mkdir(parents=True, exist_ok=True)
  figure.canvas.print_figure(path, dpi=DPI, format='png')


class _Page:
  """A figure of matplotlib, addressed in pixels from its top left corner."""

  def __init__(self, figure: Any, renderer: Any):
    self._figure = figure
    self._renderer = renderer

  def resize(self, size: tuple[int, int]) -> None:
    """Sets the height and width."""
    height, width = size
    self._figure.set_size_inches(width / DPI, height / DPI)
    self._height, self._width = height, width

  def line_height(self, font: float) -> int:
    """The height of a line of text, with space around it."""
    # Points are 1/72 inch.
    return round(font * DPI / 72 * 1.35)

  def text_width(self, text: str, font: float) -> Pixels:
    """The width of a text."""
    from matplotlib.font_manager import FontProperties

    properties = FontProperties(size=font)
    return self._renderer.get_text_width_height_descent(text, properties, False)[0]

  def fitted(self, text: str, font: float, room: Pixels) -> tuple[str, float]:
    """The text and its font size such that it fits; what is too long loses its middle."""
    width = self.text_width(text, font)
    # First a smaller font, down to what can still be read, and then fewer letters.
    if width > room:
      font = max(font * room / width, SMALLEST_FONT)
    kept = len(text)
    short = text
    while kept > 2 and self.text_width(short, font) > room:
      kept -= 1
      # Names of files often differ at their ends, so both ends stay.
      short = text[: (kept + 1) // 2] + '…' + text[len(text) - kept // 2 :]
    return short, font

  def image(self, pixels: np.ndarray, top: int, left: int) -> None:
    """Draws an image, a pixel of it for a pixel of the page."""
    # figimage counts from the bottom.
    bottom = self._height - top - pixels.shape[0]
    self._figure.figimage(pixels, left, bottom, origin='upper')

  def box(self, top: Pixels, left: Pixels, height: Pixels, width: Pixels, color: Any) -> None:
    """Fills a rectangle."""
    from matplotlib.patches import Rectangle

    # Figures of matplotlib are addressed as fractions, from the bottom left.
    corner = (left / self._width, 1 - (top + height) / self._height)
    size = (width / self._width, height / self._height)
    # Below everything else: images and signs lie on it.
    kwargs = dict(transform=self._figure.transFigure, facecolor=color, linewidth=0, zorder=-1)
    self._figure.add_artist(Rectangle(corner, *size, **kwargs))

  def mark(self, sign: str, top: Pixels, left: Pixels) -> None:
    """Draws a yellow sign."""
    from matplotlib.lines import Line2D

    x, y = left / self._width, 1 - top / self._height
    # A line of one point: its marker has the same size however large the page is.
    line = Line2D([x], [y], linestyle='none', marker=sign, markersize=7, color='yellow')
    line.set(markerfacecolor='none', transform=self._figure.transFigure)
    self._figure.add_artist(line)

  def write(self, text: str, top: Pixels, left: Pixels, font: float, **kwargs: Any) -> None:
    """Writes a text, by default centered on this place."""
    # A $ in a name of a file is no formula.
    kwargs = {'ha': 'center', 'va': 'center', 'parse_math': False, **kwargs}
    self._figure.text(left / self._width, 1 - top / self._height, text, fontsize=font, **kwargs)


def _cell_size(rows: Sequence[Row], area: int) -> tuple[int, int]:
  """Height and width of all cells: the median shape of the images, at the given area."""
  shapes = [panel.image.shape for row in rows for panel in row if panel is not None]
  # Most images have one shape; the median is not moved by a few others.
  ratio = float(np.median([width / height for height, width, _ in shapes]))
  ratio = min(max(ratio, 0.2), 5.0)  # a strip stays visible
  # height * width = area and width / height = ratio.
  height = (area / ratio) ** 0.5
  return round(height), round(height * ratio)


def _draw_images(page: _Page, rows: Sequence[Row], layout: Layout) -> None:
  height, width = layout.cell
  for i, row in enumerate(rows):
    for j in range(layout.columns):
      # Rows may be of different lengths.
      panel = row[j] if j < len(row) else None
      top, left = layout.corner(i, j)
      pixels = None if panel is None else _fitted_image(panel, layout.cell)
      # Gray shows that the cell is there, and where the image ends.
      if pixels is None or pixels.shape[:2] != layout.cell:
        page.box(top, left, height, width, EMPTY)
      if panel is None or pixels is None:
        continue
      # Centered in its cell.
      top += (height - pixels.shape[0]) // 2
      left += (width - pixels.shape[1]) // 2
      page.image(pixels, top, left)
      # Marks are in pixels of the original image.
      scale = pixels.shape[0] / panel.image.shape[0]
      for mark in panel.marks:
        page.mark(mark.sign, top + mark.y * scale, left + mark.x * scale)


def _fitted_image(panel: Panel, cell: tuple[int, int]) -> UInt8[np.ndarray, 'h w 3']:
  """The panel as large as its cell allows, its mask laid over it."""
  height, width = panel.image.shape[:2]
  scale = min(cell[0] / height, cell[1] / width)
  # A pixel more or less for a shape that is the cell's but for rounding.
  size = [
    room if abs(side * scale - room) < 1.5 else max(round(side * scale), 1)
    for side, room in ((height, cell[0]), (width, cell[1]))
  ]
  image = resize(panel.image, size, smooth=scale < 1)
  if panel.mask is None:
    return image
  # Nearest neighbor: the ids of two classes have no mean.
  return overlay(image, resize(panel.mask.astype(np.uint8), size, smooth=False))


def _write_texts(
  page: _Page,
  titles: Sequence[str],
  row_names: Sequence[str],
  row_scores: Sequence[Sequence[str]],
  layout: Layout,
) -> None:
  height, width = layout.cell
  for j, title in enumerate(titles):
    _, left = layout.corner(0, j)
    text, font = page.fitted(title, TITLE_FONT, width)
    page.write(text, (MARGIN + layout.top) / 2 - 2, left + width / 2, font)
  # Written upwards, so that the room for a name is the height of its row.
  for i, name in enumerate(row_names):
    top, _ = layout.corner(i, 0)
    text, font = page.fitted(name, NAME_FONT, height)
    page.write(text, top + height / 2, (MARGIN + layout.left) / 2 - 2, font, rotation=90)
  for i, scores in enumerate(row_scores):
    for j, score in enumerate(scores):
      top, left = layout.corner(i, j)
      for number, line in enumerate(score.split('\n')):
        text, font = page.fitted(line, NAME_FONT, width)
        middle = top + height + (number + 0.5) * page.line_height(NAME_FONT)
        page.write(text, middle, left + width / 2, font)


def _place_legend(
  page: _Page, names: Sequence[str], layout: Layout
) -> tuple[list[tuple[int, int]], int]:
  """Where each entry begins (line, pixel from the left), and the height of all of them."""
  if not names:
    return [], 0
  line_height = page.line_height(NAME_FONT)
  right_edge = layout.size[1] - MARGIN
  places = []
  line, left = 0, layout.left
  for name in names:
    # The square, the name, and space to the next entry.
    width = 2 * line_height + round(page.text_width(name, NAME_FONT))
    # An entry wider than the page gets a line of its own and is shortened later.
    if left + width > right_edge and left > layout.left:
      line, left = line + 1, layout.left
    places.append((line, left))
    left += width
  return places, (line + 1) * line_height + GAP


def _draw_legend(
  page: _Page,
  legend: Mapping[str, Color | str],
  places: Sequence[tuple[int, int]],
  layout: Layout,
) -> None:
  """A sign, or a square in the color, of each entry, its name at the right of it."""
  line_height = page.line_height(NAME_FONT)
  square = round(line_height * 0.65)
  first_line = layout.size[0] - MARGIN - layout.legend + GAP
  # The most that a name may take, on a line of its own.
  room = layout.size[1] - MARGIN - layout.left - line_height
  for (name, key), (line, left) in zip(legend.items(), places, strict=True):
    middle = first_line + (line + 0.5) * line_height
    if isinstance(key, str):
      page.write(key, middle, left + square / 2, NAME_FONT)
    else:
      page.box(middle - square / 2, left, square, square, tuple(part / 255 for part in key))
    text, font = page.fitted(name, NAME_FONT, room)
    page.write(text, middle, left + square + 5, font, ha='left')
