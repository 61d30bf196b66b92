"""The looks at a comparison: RUN/looks.jsonl, a line each time its verdict was printed anew.

Repetitions that are added because of what a verdict said make a wrong "helps" likelier, so each
look may spend only a part of the error (see statistics.look_error).
"""

import json
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.evaluation.statistics import Difference
from ssl_jax.io.run_log import replace_text

FILE = 'looks.jsonl'


def read_looks(run: Path, comparison: str | None = None) -> list[dict]:
  """Returns the lines of a run's ledger, of one comparison or of all."""
  path = run / FILE
  lines = []
  for number, text in enumerate(path.read_bytes().splitlines() if path.exists() else [], start=1):
    try:
      line = json.loads(text)
      if comparison in (None, line['comparison']):
        lines.append(line)
    except (ValueError, KeyError, TypeError) as error:
      raise UserError(
        f'{path}, line {number} is damaged; delete the line: this look is not counted then.'
      ) from error
  return lines


def count_look(run: Path, comparison: str, seeds: Sequence[int], difference: Difference) -> int:
  """Returns the number of this look at a comparison, and writes it down if it is a new one.

  Args:
    run: folder of the run.
    comparison: what is compared.
    seeds: those that are compared; the same ones again, after a kill say, are the same look.
    difference: what it shows.
  """
  looks = read_looks(run, comparison)
  for line in looks:
    if line['seeds'] == list(seeds):
      return line['look']
  line = {
    'comparison': comparison,
    'look': len(looks) + 1,
    'seeds': list(seeds),
    'mean': difference.mean,
    'low': difference.low,
    'high': difference.high,
    'p': difference.p,
  }
  # All lines at once, so that a kill never leaves a part of one.
  text = ''.join(json.dumps(entry) + '\n' for entry in [*read_looks(run), line])
  replace_text(run / FILE, text)
  return line['look']
