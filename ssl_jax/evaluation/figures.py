"""Figures of what was found, drawn as PNG files; no display, and no state of pyplot, is touched."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ssl_jax.io.images import PALETTE, overlay, to_channels, to_uint8
from ssl_jax.types import BACKGROUND, IGNORE

INK = [tuple(colour / 255) for colour in PALETTE[[6, 5, 3, 7, 1, 2, 4]]]
"""Colours of lines, on white."""


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
  """A figure and its panels, each of so many inches."""
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width * columns, height * rows + 0.3), layout='constrained')
  return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Any, path: Path) -> None:
  from matplotlib.backends.backend_agg import FigureCanvasAgg

  Path(path).parent.mkdir(parents=True, exist_ok=True)
  FigureCanvasAgg(figure).print_figure(Path(path), dpi=110, format='png')


def beside(path: Path, rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str]) -> None:
  """Draws rows of RGB images as they are; `titles` head the columns."""
  figure, axes = _axes(len(rows), len(titles), 4.0, 4.0)
  for line, row in zip(axes, rows, strict=True):
    for axis, image in zip(line, row, strict=True):
      axis.axis('off')
      axis.imshow(image, interpolation='nearest')
  for title, axis in zip(titles, axes[0], strict=True):
    axis.set_title(title, fontsize=10)
  _save(figure, path)


def flat(image: np.ndarray, *masks: np.ndarray | None) -> list[np.ndarray | None]:
  """An image and its masks; of a volume [z, y, x, C] the slice of which the first marks most."""
  if image.ndim == 3:
    return [image, *masks]
  first = next((mask for mask in masks if mask is not None), np.zeros(image.shape[:3]))
  at = int(((first != BACKGROUND) & (first != IGNORE)).sum((1, 2)).argmax())
  return [image[at], *(None if mask is None else mask[at] for mask in masks)]


def picture(path: Path, rows: Sequence[Sequence[np.ndarray | None]], titles: Sequence[str]) -> None:
  """Draws rows of [image, mask, mask, ...] as a PNG: the image, then each mask laid over it.

  A mask may be None (an empty cell); `titles` head the columns. Of volumes a slice is shown.
  """
  columns = max(len(row) for row in rows)
  figure, axes = _axes(len(rows), columns, 2.6, 2.6)
  for axis in axes.flat:
    axis.axis('off')
  for row, line in zip(rows, axes, strict=True):
    image, *masks = flat(*row)
    shown = [to_channels(to_uint8(image), 3)]
    shown += [None if mask is None else overlay(image, mask) for mask in masks]
    for panel, axis in zip(shown, line, strict=False):
      if panel is not None:
        axis.imshow(panel, interpolation='nearest')
  for title, axis in zip(titles, axes[0], strict=False):
    axis.set_title(title, fontsize=10)
  _save(figure, path)


def confusion(
  path: Path, matrices: Mapping[str, Int[np.ndarray, 'k k']], classes: Sequence[str]
) -> None:
  """A panel for each system: which part of a class (rows, the truth) was called what (columns)."""
  side = 1.2 + 0.62 * len(classes)
  figure, axes = _axes(1, len(matrices), side, side)
  for axis, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap='Blues', vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(share):
      ink = 'white' if value > 0.6 else 'black'
      count = f'{value:.0%}\n{matrix[row, column]}'
      axis.text(column, row, count, ha='center', va='center', fontsize=7, color=ink)
    axis.set_xticks(range(len(classes)), classes, rotation=40, ha='right', fontsize=8)
    axis.set_yticks(range(len(classes)), classes, fontsize=8)
    axis.set(xlabel='predicted', ylabel='truth')
    axis.set_title(title, fontsize=10)
  _save(figure, path)


def centroids(path: Path, points: Mapping[str, Float[np.ndarray, 'n 2']], side: int) -> None:
  """A panel for each of truth and systems: where in a patch of `side` pixels its cell is (x, y)."""
  figure, axes = _axes(1, len(points), 2.6, 2.6)
  for axis, (title, at) in zip(axes[0], points.items(), strict=True):
    size = min(max(3000 / max(len(at), 1), 3), 30)
    axis.scatter(at[:, 0], at[:, 1], s=size, alpha=0.3, color=INK[0], linewidths=0)
    axis.set(xlim=(0, side), ylim=(side, 0), aspect='equal', xlabel='x', ylabel='y')
    axis.set_title(title, fontsize=10)
  _save(figure, path)


class Shown(NamedTuple):
  """A patch, the true place and class of its cell, and those that a system gives it."""

  image: np.ndarray
  truth: tuple[float, float] | None  # x, y; None where there is none
  found: tuple[float, float] | None
  title: str


def patches(path: Path, rows: Mapping[str, Sequence[Shown]]) -> None:
  """A row of patches for each system: + is the truth, o what it says."""
  figure, axes = _axes(len(rows), max(map(len, rows.values())), 1.3, 1.6)
  for axis in axes.flat:
    axis.axis('off')
  for line, (system, row) in zip(axes, rows.items(), strict=True):
    for axis, patch in zip(line, row, strict=False):
      axis.imshow(to_channels(to_uint8(patch.image), 3), interpolation='nearest')
      for at, sign in ((patch.truth, '+'), (patch.found, 'o')):
        if at is not None:
          pen = dict(color='yellow', markerfacecolor='none', markersize=7)
          axis.plot(at[0] - 0.5, at[1] - 0.5, sign, **pen)
      axis.set_title(patch.title, fontsize=6)
    line[0].text(0, -0.02, system, transform=line[0].transAxes, fontsize=7, va='top')
  _save(figure, path)


def bars(path: Path, groups: Mapping[str, Mapping[str, float]], y: str) -> None:
  """A group of bars for each split, a bar for each score of 0 to 100."""
  names = [*next(iter(groups.values()))]
  figure, axes = _axes(1, 1, 1.5 + 1.3 * len(groups), 3.2)
  axis, width = axes[0, 0], 0.8 / len(names)
  for i, name in enumerate(names):
    heights = [scores[name] for scores in groups.values()]
    at = np.arange(len(groups)) + (i - (len(names) - 1) / 2) * width
    drawn = axis.bar(at, heights, width, color=INK[i % len(INK)], label=name)
    axis.bar_label(drawn, fmt='%.0f', fontsize=7)
  axis.set_xticks(range(len(groups)), list(groups))
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
  """A line and its interval for each system."""
  figure, axes = _axes(1, 1, 5.0, 3.5)
  axis = axes[0, 0]
  for (system, line), ink in zip(lines.items(), INK * len(lines), strict=False):
    axis.plot(line.x, line.y, 'o-', color=ink, label=system, markersize=3)
    axis.fill_between(line.x, line.low, line.high, color=ink, alpha=0.15, linewidth=0)
  if log:
    axis.set_xscale('log')
    every = sorted({value for line in lines.values() for value in line.x})
    axis.set_xticks(every, [f'{value:g}' for value in every])
    axis.minorticks_off()
  axis.set(xlabel=x, ylabel=y, title=title)
  axis.grid(alpha=0.3)
  axis.legend(fontsize=8)
  _save(figure, path)
