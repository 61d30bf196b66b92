"""Runs an experiment: python main.py --config=configs/fixmatch_lisc.py [--config.key=value]."""

import sys

from ssl_jax.io import terminal

if __name__ == '__main__':
  # The import takes a moment; Ctrl-C during it should end with a sentence, not a traceback.
  terminal.leave_when_interrupted()
  from ssl_jax.cli import train

  sys.exit(train())
