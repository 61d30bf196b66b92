"""Tables of a run of many cells: `python -m ssl_jax.table RUN` prints Markdown and writes CSV.

A config's `table` says which stage stands where; `only` is what --only needs to make it, `figure`
which figure it shows: one of the test's, or any of done.json with its split (without it, the mIoU,
or the balanced accuracy of cells):

  config.table = (
    dict(table='Table 1', row='PSPNet', column='ST', stage='pspnet-st', control='pspnet-teacher',
         published=83.08, only='pspnet-*'),
    ...
  )

A stage, or a control, may be a tuple of stages: repetitions on other draws of the labels, whose
scores are taken together.
"""

import sys
from pathlib import Path

from ssl_jax.io import terminal
from ssl_jax.io.folders import listing
from ssl_jax.io.option_parser import OptionParser


def main(arguments: list[str] | None = None) -> int:
  """The program; prints the Markdown table and writes table.csv into the run."""
  parser = OptionParser('python -m ssl_jax.table', description=__doc__.splitlines()[0])
  parser.add_argument('run', type=listing.expand, help='folder of a run, or a ledger (.jsonl)')
  parser.add_argument('--ledger', type=Path, help='file to which the cells are written, as JSON')
  options = parser.parse_args(arguments)
  # Here, because it imports JAX, which takes seconds, and --help is answered at once.
  from ssl_jax.reports import result_tables

  return terminal.exit_code(
    lambda: result_tables.print_table(options.run, options.ledger),
    'the same command prints it again',
  )


if __name__ == '__main__':
  sys.exit(main())
