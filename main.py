"""Runs an experiment: python main.py --config=configs/fixmatch_lisc.py [--config.key=value]."""

import contextlib
import re
import shlex
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

QUICKSTART = Path(__file__).parent / 'configs' / 'quickstart.py'


@contextlib.contextmanager
def known_fields():
  """A field that the config does not have ends in a sentence, not in a traceback."""
  try:
    yield
  except (AttributeError, KeyError) as error:
    name = error.args[0]
    while isinstance(name, Exception):
      name = name.args[0]
    sys.exit(f'ssl_jax: the config has no field {" ".join(name.split())}; see its page.')
  except SyntaxError as error:
    sys.exit(f'ssl_jax: {error.filename} is no Python page ({error}); give a page of configs/.')


with known_fields():  # without --config, its fields are looked up here
  CONFIG = config_flags.DEFINE_config_file('config', str(QUICKSTART), 'A page of configs/.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Run folder; runs/<name of the config> by default.')

ONLY = flags.DEFINE_string('only', '*', 'Patterns of the names of the stages to do.')


def page_of(flag: flags.Flag) -> str:
  """The file that --config names, without the word for its get_config that may follow a colon."""
  return re.sub(r'\.py:.*', '.py', config_flags.get_config_filename(flag))


def parse(arguments: list[str]) -> list[str]:
  """Reads the flags; a page that is not there ends in a sentence."""
  with known_fields():
    left = app.parse_flags_with_usage(arguments)
  page = page_of(flags.FLAGS['config'])
  if not Path(page).is_file():
    sys.exit(f'ssl_jax: there is no config {page}; give a page of configs/.')
  return left


def main(arguments: list[str]) -> None:
  """Runs the config; a mistake of its author ends in one sentence and exit code 1."""
  if arguments[1:]:
    sys.exit(f'ssl_jax: {arguments[1]} is no flag; a config is given as --config={arguments[1]}.')
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.ERROR)  # checkpointing tells a page of news at every save
  from ssl_jax.errors import Stopped, UserError
  from ssl_jax.run import run

  name = Path(page_of(flags.FLAGS['config'])).stem
  try:
    words = [word for word in sys.argv if not word.startswith('--only')]
    command = shlex.join(['python', *words])
    run(CONFIG.value, WORKDIR.value or Path('runs') / name, ONLY.value, command)
  except UserError as error:
    sys.exit(f'ssl_jax: {error}')
  except Stopped as stopped:
    print(stopped)
  except KeyboardInterrupt:
    sys.exit('ssl_jax: interrupted; the same command goes on from the last checkpoint.')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
