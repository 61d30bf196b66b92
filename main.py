"""Runs an experiment: python main.py --config=configs/fixmatch_lisc.py [--config.key=value]."""

import sys

from ssl_jax.io import stop_signals

if __name__ == '__main__':
  # The import takes a moment; Ctrl-C during it should end with a sentence, not a traceback.
  stop_signals.set_handler(stop_signals.leave_at_once)
  from ssl_jax.cli import train

  sys.exit(train())
