"""Draws results as PNG files; no display, and no state of pyplot, is touched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8

from ssl_jax.evaluation.image_grid import DPI, Color, Mark, Panel, draw_grid
from ssl_jax.io.images import PALETTE, to_rgb
from ssl_jax.io.overlays import class_color
from ssl_jax.types import BACKGROUND, IGNORE

LINE_COLORS = [tuple(color / 255) for color in PALETTE[[6, 5, 3, 7, 1, 2, 4]]]
"""Colors of lines and bars, on white."""

SMALL, LARGE = 140 * 140, 440 * 440
"""Pixels of the page that a patch covers, and an image that is shown as it is."""


def beside(
  path: Path,
  rows: Sequence[Sequence[UInt8[np.ndarray, '_ _ 3'] | Panel]],
  titles: Sequence[str],
  row_names: Sequence[str] = (),
  row_scores: Sequence[Sequence[str]] = (),
  classes: Sequence[str] = (),
  unknown: bool = False,
) -> None:
  """Draws rows of RGB images as they are.

  Args:
    path: of the PNG.
    rows: of images; a Panel has class ids to lay over one as well.
    titles: above the columns.
    row_names: at the left of each row.
    row_scores: for each row a text under each of its images ('' for none).
    classes: names, the background first; their colors are the legend.
    unknown: whether the legend has the color of IGNORE as well.
  """
  panels = [[x if isinstance(x, Panel) else Panel(x) for x in row] for row in rows]
  colors = legend(classes, unknown)
  draw_grid(path, panels, titles, row_names, row_scores, colors, LARGE)


def picture(
  path: Path,
  rows: Sequence[Sequence[np.ndarray | None]],
  titles: Sequence[str],
  row_names: Sequence[str] = (),
  row_scores: Sequence[Sequence[str]] = (),
  classes: Sequence[str] = (),
) -> None:
  """Draws rows of [image, mask, mask, ...]: the image, then each mask laid over it.

  Of volumes it shows the slice of which the first mask marks most.

  Args:
    path: of the PNG.
    rows: an image [H, W, C] or volume [z, y, x, C], and class ids; None leaves a cell empty.
    titles: above the columns.
    row_names: at the left of each row, say the image's.
    row_scores: for each row a text under each of its images ('' for none).
    classes: names, the background first; their colors are the legend.
  """
  # `names` is a copy, because slices are added to it.
  panels, names, unknown = [], list(row_names), False
  for i, (image, *masks) in enumerate(rows):
    assert image is not None  # only masks may be missing
    # Of a volume one slice is shown; the reader should know which.
    if names and image.ndim == 4:
      names[i] += f', slice {marked_slice(image, *masks)}'
    image, *masks = in_plane(image, *masks)
    rgb = to_rgb(image)
    panels.append([Panel(rgb), *(None if mask is None else Panel(rgb, mask) for mask in masks)])
    # Only then the legend has a color for it.
    unknown = unknown or any(mask is not None and (mask == IGNORE).any() for mask in masks)
  draw_grid(path, panels, titles, names, row_scores, legend(classes, unknown))


def legend(classes: Sequence[str], unknown: bool = False) -> dict[str, Color]:
  """Returns the colors of the classes but the background, which has none; empty without classes.

  With `unknown` there is one more, for pixels or cells whose class nobody has said.
  """
  colors = {name: class_color(class_id) for class_id, name in enumerate(classes) if class_id}
  if colors and unknown:
    colors['unknown'] = class_color(IGNORE)
  return colors


def marked_slice(volume: np.ndarray, *masks: np.ndarray | None) -> int:
  """Returns the index of the slice [z] of which the first mask there is marks most."""
  # Without any mask all slices mark equally little, and the first is shown.
  first = next((mask for mask in masks if mask is not None), np.zeros(volume.shape[:3]))
  return int(((first != BACKGROUND) & (first != IGNORE)).sum((1, 2)).argmax())


def in_plane(image: np.ndarray, *masks: np.ndarray | None) -> list[Any]:
  """Returns an image and its masks as they are; of a volume and its masks the marked slice."""
  if image.ndim == 3:
    return [image, *masks]
  z = marked_slice(image, *masks)
  return [image[z], *(None if mask is None else mask[z] for mask in masks)]


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
  """A figure and its plots, each of so many inches."""
  # Imported where it is used, because it takes a while. A Figure of its own, not pyplot's, needs no
  # display and leaves the user's figures alone.
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width * columns, height * rows + 0.3), layout='constrained')
  return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Any, path: Path) -> None:
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  path.parent.mkdir(parents=True, exist_ok=True)
  FigureCanvasAgg(figure).print_figure(path, dpi=DPI, format='png')


def confusion_matrices(
  path: Path, matrices: Mapping[str, Integer[np.ndarray, 'k k']], classes: Sequence[str]
) -> None:
  """Draws a confusion matrix for each system: rows are the truth, columns the predictions.

  A cell has the fraction of its row, and the count.
  """
  # Inches: room for the names of the classes, and for the two lines of text in each cell.
  side = 1.2 + 0.62 * len(classes)
  figure, axes = _axes(1, len(matrices), side, side)
  for axis, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
    # A class without truth has a row of zeros.
    fractions = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(fractions, cmap='Blues', vmin=0, vmax=1)
    for (row, column), fraction in np.ndenumerate(fractions):
      # Readable on the dark end of the blues.
      color = 'white' if fraction > 0.6 else 'black'
      text = f'{fraction:.0%}\n{matrix[row, column]}'
      axis.text(column, row, text, ha='center', va='center', fontsize=7, color=color)
    axis.set_xticks(range(len(classes)), classes, rotation=40, ha='right', fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    axis.set(xlabel='predicted', ylabel='truth')
    axis.set_title(title, fontsize=10)
  _save(figure, path)


def centroids(path: Path, points: Mapping[str, Float[np.ndarray, 'n 2']], side: int) -> None:
  """Draws a plot for the truth and for each system: where in a patch its cell is.

  Args:
    path: of the PNG.
    points: by title, x and y in pixels from the patch's top left corner.
    side: of a patch in pixels.
  """
  figure, axes = _axes(1, len(points), 2.6, 2.6)
  for axis, (title, xy) in zip(axes[0], points.items(), strict=True):
    # Fewer points are drawn larger; transparency shows where many lie on top of each other.
    size = min(max(3000 / max(len(xy), 1), 3), 30)
    axis.scatter(xy[:, 0], xy[:, 1], s=size, alpha=0.3, color=LINE_COLORS[0], linewidths=0)
    # y grows downwards, as in the image.
    axis.set(xlim=(0, side), ylim=(side, 0), aspect='equal', xlabel='x', ylabel='y')
    axis.set_title(title, fontsize=10)
  _save(figure, path)


class Patch(NamedTuple):
  """A patch, and where its cell is: the truth, and the prediction of a system."""

  image: Num[np.ndarray, 'h w c']
  truth: tuple[float, float] | None  # x, y in pixels from the corner; None where there is none
  predicted: tuple[float, float] | None
  title: str  # one or more lines


def patches(path: Path, rows: Mapping[str, Sequence[Patch]]) -> None:
  """Draws a row of patches for each system: + is the truth, o the prediction."""
  panels = []
  for row in rows.values():
    panels.append([])
    for patch in row:
      # Patches of background show no cell, so there is no position to mark.
      points = (('+', patch.truth), ('o', patch.predicted))
      marks = [Mark(*point, sign) for sign, point in points if point is not None]
      panels[-1].append(Panel(to_rgb(patch.image), marks=marks))
  titles = [[patch.title for patch in row] for row in rows.values()]
  signs = {'truth': '+', 'predicted': 'o'}
  draw_grid(path, panels, (), list(rows), titles, signs, SMALL)


def bars(path: Path, groups: Mapping[str, Mapping[str, float]], y: str) -> None:
  """Draws a group of bars for each split, a bar for each score of 0 to 100; `y` is the axis."""
  names = list(next(iter(groups.values())))
  figure, axes = _axes(1, 1, 1.5 + 1.3 * len(groups), 3.2)
  axis, width = axes[0, 0], 0.8 / len(names)
  for i, name in enumerate(names):
    heights = [scores[name] for scores in groups.values()]
    # The bars of a group stand side by side around its tick.
    centers = np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width
    color = LINE_COLORS[i % len(LINE_COLORS)]
    drawn = axis.bar(centers, heights, width, color=color, label=name)
    axis.bar_label(drawn, fmt='%.0f', fontsize=7)
  axis.set_xticks(range(len(groups)), list(groups))
  # Room for the numbers above bars of 100.
  axis.set(ylim=(0, 108), ylabel=y)
  axis.legend(fontsize=7, ncols=len(names), loc='upper center', bbox_to_anchor=(0.5, 1.12))
  _save(figure, path)


class Line(NamedTuple):
  """Values over x, and the interval of each (equal to it where there is none)."""

  x: Sequence[float]
  y: Sequence[float]
  low: Sequence[float]
  high: Sequence[float]


def curves(
  path: Path, lines: Mapping[str, Line], x: str, y: str, log: bool = False, title: str = ''
) -> None:
  """Draws a line and its interval for each system.

  Args:
    path: of the PNG.
    lines: by system.
    x: what the x axis is called.
    y: what the y axis is called.
    log: whether x is shown on a logarithmic scale.
    title: above the plot.
  """
  figure, axes = _axes(1, 1, 5.0, 3.5)
  axis = axes[0, 0]
  for i, (system, line) in enumerate(lines.items()):
    color = LINE_COLORS[i % len(LINE_COLORS)]
    axis.plot(line.x, line.y, 'o-', color=color, label=system, markersize=3)
    # Where there is no interval, low and high are the line itself and nothing is filled.
    axis.fill_between(line.x, line.low, line.high, color=color, alpha=0.15, linewidth=0)
  if log:
    axis.set_xscale('log')
    # Ticks where there are points (10, 50, 100 labels) instead of powers of ten.
    values = sorted({value for line in lines.values() for value in line.x})
    axis.set_xticks(values, [f'{value:g}' for value in values])
    axis.minorticks_off()
  axis.set(xlabel=x, ylabel=y, title=title)
  axis.grid(alpha=0.3)
  axis.legend(fontsize=8)
  _save(figure, path)
