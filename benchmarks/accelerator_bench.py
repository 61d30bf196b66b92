"""What all parts of the accelerator benchmark are given: the report, the time, and the cases."""

import fnmatch
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from accelerator_report import Clock, Report
from accelerator_steps import CASES, CHECKED, Case, tiny
from accelerator_torch import Rival

NETWORK = 'network'
"""The kind of row whose program is a training step, for the estimate of its compilation."""


class Bench(NamedTuple):
  """What all parts are given."""

  report: Report
  clock: Clock
  rival: Rival
  small: bool
  pattern: str

  def case(self, name: str) -> Case:
    """A case of CASES or CHECKED, tiny where that is asked for."""
    case = {**CASES, **CHECKED}[name]
    return tiny(case) if self.small else case

  def chosen(self, names: Mapping[str, Any]) -> list[str]:
    """The names that --rows asks for."""
    patterns = self.pattern.split(',')
    return [name for name in names if any(fnmatch.fnmatch(name, each) for each in patterns)]

  def timing(self) -> dict[str, Any]:
    """How long steps are timed."""
    return {'block_s': 0.01, 'blocks': 2} if self.small else {'block_s': 0.4, 'blocks': 5}

  def attempt(self, part: str, name: str, work: Callable[[], dict[str, Any]], kind: str = ''):
    """Does the work of a row if there is time for its compilation; one that fails is a row too.

    Rows of a `kind` take about as long as each other to compile; by default they are a part.
    """
    reason = self.clock.too_late(kind or part)
    if reason:
      self.report.add(part, name, note=reason)
      return
    self.report.doing = f'{part} {name}'
    begin = time.perf_counter()
    try:
      figures = work()
    except Exception as error:
      figures = {'note': f'{type(error).__name__}: {error}'.splitlines()[0][:200]}
    # Compilation is most of it.
    self.clock.took(kind or part, time.perf_counter() - begin)
    self.report.add(part, name, **figures)
