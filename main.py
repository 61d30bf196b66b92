"""Runs an experiment: python main.py --config=configs/fixmatch_lisc.py [--config.key=value]."""

import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

HERE = Path(__file__).parent
CONFIG = config_flags.DEFINE_config_file(
  'config', str(HERE / 'configs' / 'quickstart.py'), 'The experiment, a page of configs/.'
)
WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder; runs/<name of the config> by default.')


def main(_) -> None:
  """Runs the config; a mistake of its author ends in one sentence and exit code 1."""
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # checkpointing tells a page of news at every save
  from ssl_jax.run import run
  from ssl_jax.types import Stopped, UserError

  name = Path(config_flags.get_config_filename(flags.FLAGS['config'])).stem
  try:
    run(CONFIG.value, WORKDIR.value or Path('runs') / name)
  except UserError as error:
    sys.exit(f'ssl_jax: {error}')
  except Stopped as stopped:
    print(stopped)


if __name__ == '__main__':
  app.run(main)
