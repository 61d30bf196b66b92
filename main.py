"""Runs an experiment: python main.py --config=configs/fixmatch_lisc.py [--config.key=value]."""

import sys

if __name__ == '__main__':
  # The import takes a moment; Ctrl-C during it should end with a sentence, not a traceback.
  try:
    from ssl_jax.cli import train
  except KeyboardInterrupt:
    sys.exit('\nssl_jax: interrupted before anything began.')
  sys.exit(train())
