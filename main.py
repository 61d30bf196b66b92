"""Runs an experiment: python main.py --config=configs/fixmatch_lisc.py [--config.key=value]."""

import sys

if __name__ == '__main__':
  try:
    from ssl_jax.cli import train
  except KeyboardInterrupt:
    sys.exit('\nssl_jax: interrupted before anything began.')
  sys.exit(train())
