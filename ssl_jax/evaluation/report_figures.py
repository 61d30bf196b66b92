"""Charts of a report, as SVG text that stands inside an HTML page."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.evaluation.figures import LINE_COLORS

WIDTH = 6.4
"""Of a chart in inches; a page scales it to its own width."""


class Bar(NamedTuple):
  """A difference to a control, and the interval that it lies in."""

  name: str
  mean: float
  low: float
  high: float


class Curve(NamedTuple):
  """A line of a chart: of each seed, as faint lines, and their mean."""

  name: str
  seeds: Sequence[Mapping[int, float]]  # step -> value
  # Its place among the stages, so that a stage has one color in all charts.
  place: int


def intervals(bars: Sequence[Bar], x: str) -> str:
  """Returns a chart of differences with their intervals, one a row, and a line at 0.

  Args:
    bars: the first on top.
    x: what the x axis is called.
  """
  figure, axis = _axis(0.9 + 0.4 * len(bars))
  for row, bar in enumerate(bars):
    color = LINE_COLORS[0]
    axis.plot([bar.low, bar.high], [-row, -row], color=color, linewidth=3, solid_capstyle='butt')
    axis.plot([bar.mean], [-row], 'o', color=color, markersize=8)
  axis.axvline(0, color='0.3', linewidth=1)
  axis.set_yticks([-row for row in range(len(bars))], [bar.name for bar in bars])
  axis.set_ylim(-len(bars) + 0.4, 0.6)
  axis.set_xlabel(x)
  axis.grid(axis='x', alpha=0.3)
  return _svg(figure)


def curves(lines: Sequence[Curve]) -> str:
  """Returns a chart of values over the steps of training; seeds are faint, their mean is not.

  Args:
    lines: one for each stage; what they show is said above the chart.
  """
  figure, axis = _axis(2.8)
  for line in lines:
    color = LINE_COLORS[line.place % len(LINE_COLORS)]
    if len(line.seeds) > 1:
      for seed in line.seeds:
        axis.plot(list(seed), list(seed.values()), color=color, alpha=0.25, linewidth=0.8)
    # The mean is over all seeds or it would jump where one has no value.
    steps = sorted(set.intersection(*(set(seed) for seed in line.seeds)))
    means = [float(np.mean([seed[step] for seed in line.seeds])) for step in steps]
    axis.plot(steps, means, color=color, label=line.name, linewidth=1.8)
  axis.set_xlabel('step')
  axis.grid(alpha=0.3)
  axis.legend(fontsize=8)
  return _svg(figure)


def _axis(height: float) -> tuple[Any, Any]:
  """A figure of its own and its only plot."""
  # Imported where it is used, because it takes a while.
  from matplotlib.figure import Figure

  figure = Figure(figsize=(WIDTH, height), layout='constrained')
  return figure, figure.subplots()


def _svg(figure: Any) -> str:
  """The SVG element of a figure, which takes the width that the page gives it."""
  import matplotlib
  from matplotlib.backends.backend_svg import FigureCanvasSVG

  text = io.StringIO()
  # Letters stay letters, which are smaller than their outlines and can be searched for. A fixed
  # salt names the parts of a chart alike each time, so that a report can be compared.
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'ssl_jax'}):
    FigureCanvasSVG(figure).print_svg(text, metadata={'Date': None})
  # What precedes the element is for a file of its own.
  element = text.getvalue()
  element = element[element.index('<svg') :]
  return re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'class="chart"', element, count=1)
