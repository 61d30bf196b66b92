"""The command line: `python main.py`, and `ssl-jax COMMAND` of an installed copy.

JAX is imported only once flags and page are right, so that a mistake is told at once.
"""

import contextlib
import difflib
import importlib
import os
import re
import runpy
import shlex
import signal
import sys
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import ConfigDict, config_flags

from ssl_jax import registry
from ssl_jax.errors import INTERRUPTED, LostProcess, Stopped, UserError
from ssl_jax.io import stop_signals, terminal
from ssl_jax.io.folders import listing
from ssl_jax.parsing import parse_settings
from ssl_jax.parsing.commands import COMMANDS, TRAIN_FLAGS, module_of
from ssl_jax.parsing.page_files import about, page_files, pages_root


def main() -> int:
  """`ssl-jax COMMAND ...`; returns the exit code."""
  words = sys.argv[1:]
  if not words or words[0] in ('-h', '--help', '-help'):
    listed = '\n'.join(f'  ssl-jax {name:10} {text}' for name, text in COMMANDS.items())
    print(f'Semi-supervised segmentation of biomedical images.\n\n{listed}\n')
    print('Each tells more with --help.')
    return 0
  command, rest = words[0], words[1:]
  if command not in COMMANDS:
    guess = registry.nearest(command, COMMANDS)
    print(f'ssl_jax: {command} is no command{guess}; there is {", ".join(COMMANDS)}.')
    return 1
  if command == 'train':
    return train(rest, program='ssl-jax train')
  with _sentences('the same command starts again'):
    # Imported here, because most of these modules import JAX, which takes seconds.
    return importlib.import_module(module_of(command)).main(rest)
  return 1


def train(words: Sequence[str] | None = None, program: str = 'python main.py') -> int:
  """Runs a page; returns the exit code: 0 done, 1 a mistake in a sentence, 130 interrupted."""
  words = list(sys.argv[1:] if words is None else words)
  sys.path.insert(0, str(pages_root()))  # pages import each other as configs.NAME
  # absl has a --help of its own, which lists the flags of every imported library.
  if any(word in ('-h', '--help', '-help', '--helpfull', '--helpshort') for word in words):
    print(help_text(program))
    return 0
  code = 1
  try:
    # SIGTERM before training is an interruption too; the loop takes both over once it runs.
    with _sentences('the same command resumes from the last checkpoint'):
      code = _train(words, program)
  except Stopped as stopped:
    print(stopped)
    code = INTERRUPTED
  return code


@contextlib.contextmanager
def _sentences(after_interrupt: str) -> Iterator[None]:
  """Mistakes and interruptions end in a sentence, never in a traceback."""
  terminal.print_any_name()
  with contextlib.suppress(ValueError):  # not the main thread
    stop_signals.set_handler(signal.default_int_handler)
  try:
    yield
  except BrokenPipeError:
    terminal.silence()
    sys.exit(1)
  except UserError as error:
    sentences = str(error).splitlines()
    if len(sentences) == 1:
      print(f'ssl_jax: {error}', file=sys.stderr)
    else:
      listed = '\n'.join(f'  - {sentence}' for sentence in sentences)
      print(f'ssl_jax: {len(sentences)} things are wrong:\n{listed}', file=sys.stderr)
    if isinstance(error, LostProcess):
      # On a usual exit JAX and the checkpoints' threads would wait for the process that is gone.
      sys.stdout.flush()
      sys.stderr.flush()
      os._exit(1)
    sys.exit(1)
  except OSError as error:
    print(f'ssl_jax: {terminal.sentence_of(error)}', file=sys.stderr)
    sys.exit(1)
  except KeyboardInterrupt:
    print(f'\nssl_jax: interrupted; {after_interrupt}.', file=sys.stderr)
    sys.exit(INTERRUPTED)


def _train(words: list[str], program: str) -> int:
  # Everything that can be wrong with the command is reported before the slow import of JAX.
  request = _parse(words)
  # The compiler's log would interrupt the lines that follow the training.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
  if request.dry_run != 'no':
    from ssl_jax.reports.dry_run import describe

    as_json = request.dry_run == 'json'
    print(describe(request.config, request.page.stem, request.overridden, as_json))
    return 0
  if request.cache is not None:
    _keep_compiled_in(listing.expand(request.cache))
  with stop_signals.handled_by(stop_signals.leave_at_once):
    print('Loading JAX ...', file=sys.stderr, flush=True)
    from absl import logging

    from ssl_jax.run import run

  # Checkpointing tells a page of news at every save, and of each error a traceback for each of its
  # threads, though it raises it as well.
  logging.set_verbosity(logging.FATAL)
  # The recorded command is the one for the whole run; table.py adds an --only of its own.
  kept = [word for word in words if not word.startswith(('--only', '--dask', '--cache'))]
  command = shlex.join([*program.split(), *kept])
  workdir = listing.expand(request.workdir or Path('runs') / request.page.stem)
  run(request.config, workdir, request.only, command, request.overridden, request.dask)
  return 0


def _keep_compiled_in(folder: Path) -> None:
  """Has JAX, which is not imported yet, keep compiled programs in a folder.

  Raises:
    UserError: if it cannot be made.
  """
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UserError(
      f'--cache={folder} cannot be made ({error.strerror}); give a folder.'
    ) from error
  os.environ['JAX_COMPILATION_CACHE_DIR'] = str(folder.resolve())


class Request(NamedTuple):
  """What the words of a command line ask for."""

  page: Path
  config: ConfigDict
  overridden: list[str]  # dotted names of the fields set from the shell
  workdir: str | None
  only: str
  dry_run: str  # 'no', 'table' or 'json'
  dask: str | None  # address of a scheduler
  cache: str | None  # folder of compiled programs


def _parse(words: list[str]) -> Request:
  """The page with the fields of the shell, and the other flags.

  Raises:
    UserError: if a word is no flag, a page is not there, or a field is unknown.
  """
  # Bare names become paths first, because absl opens the file that --config names.
  words = [_with_page(word) for word in words]
  # Without a page the quickstart runs.
  if not any(re.match(r'--?config=', word) for word in words):
    words = [f'--config={pages_root() / "configs" / "quickstart.py"}', *words]
  _check_words(words)
  # Flags of our own, apart from absl's global ones, which other libraries also add to.
  values = flags.FlagValues()
  # Which fields are set is read from the words, so they are given here as well.
  direct = _direct_fields(words)
  program = ['main.py', *(word for word in words if word not in direct)]
  config_flags.DEFINE_config_file('config', None, 'A page.', flag_values=values, sys_argv=program)
  flags.DEFINE_string('workdir', None, 'Run folder.', flag_values=values)
  flags.DEFINE_string('only', '*', 'Patterns of names of stages.', flag_values=values)
  flags.DEFINE_string('dask', None, 'Scheduler of Dask.', flag_values=values)
  flags.DEFINE_string('cache', None, 'Folder of compiled programs.', flag_values=values)
  flags.DEFINE_string('dry_run', 'no', 'Describes the run without training.', flag_values=values)
  page = next(word for word in words if re.match(r'--?config=', word)).partition('=')[2]
  # The page is loaded once without the shell's fields, only to report all unknown ones in one
  # message with a guess each; absl would stop at the first.
  config = _load_page(next(word for word in words if re.match(r'--?config=', word)))
  if problems := _field_problems(words, config):
    raise UserError('\n'.join(problems))
  try:
    values(program)
  except flags.UnrecognizedFlagError as error:
    raise UserError(_unknown_flag(error.flagname)) from error
  except (flags.IllegalFlagValueError, ValueError, TypeError) as error:
    raise UserError(f'{_plain_words(str(_innermost(error)))}.') from error
  for name, value in direct.values():
    parents, _, field = name.rpartition('.')
    tree: Any = values['config'].value
    for part in parents.split('.'):
      tree = tree[part]
    tree[field] = value
  dry_run = str(values['dry_run'].value)
  if dry_run not in ('no', 'table', 'json'):
    raise UserError(f'--dry_run={dry_run} is neither table nor json.')
  return Request(
    # `PAGE.py:ARGUMENT` names the run folder after the page alone.
    page=Path(re.sub(r'\.py:.*', '.py', page)),
    config=typing.cast(ConfigDict, values['config'].value),
    overridden=[
      *config_flags.get_override_values(values['config']),
      *(name for name, _ in direct.values()),
    ],
    workdir=values['workdir'].value,
    only=str(values['only'].value),
    dry_run=dry_run,
    dask=values['dask'].value,
    cache=values['cache'].value,
  )


def _direct_fields(words: Sequence[str]) -> dict[str, tuple[str, str]]:
  """Words of fields that ml_collections cannot set -> their dotted names and values.

  A ConfigDict has a method `values`, which it would take for the field of that name.
  """
  direct = {}
  for word in words:
    match = re.match(r'--?config\.([^=]+\.([^=.]+))=(.*)', word, re.DOTALL)
    if match and hasattr(ConfigDict, match.group(2)):
      direct[word] = (match.group(1), match.group(3))
  return direct


def _with_page(word: str) -> str:
  """A word of the command line; a page's bare name becomes its path, --dry_run gets its value.

  Raises:
    UserError: if there is no such page.
  """
  # A string flag needs a value in absl.
  if word in ('--dry_run', '--dry-run'):
    return '--dry_run=table'
  if word.startswith('--dry-run='):
    return word.replace('--dry-run=', '--dry_run=')
  # The page up to a colon, and the argument that get_config receives.
  match = re.match(r'--?config=([^:]*)(.*)', word)
  if match is None:
    return word
  name, argument = match.groups()
  # A path from here, a path from the folder that holds configs/, or a page's bare name.
  for path in (listing.expand(name), pages_root() / name, pages_root() / 'configs' / f'{name}.py'):
    if path.is_file():
      return f'--config={path}{argument}'
  pages = [path.stem for path in page_files()]
  guess = registry.nearest(Path(name).stem, pages)
  # A page of one's own lies beside others.
  beside = {path.name: str(path) for path in Path(name).parent.glob('*.py')}
  if own := difflib.get_close_matches(Path(name).name, beside, 1):
    guess = f' (did you mean {beside[own[0]]}?)'
  raise UserError(f'there is no config {name}{guess}; the pages are {", ".join(pages)}.')


def _check_words(words: Sequence[str]) -> None:
  """Refuses words that absl would take for something else.

  Raises:
    UserError: if a word is no flag.
  """
  for word in words:
    if not word.startswith('-'):
      what = f'; a config is given as --config={word}' if word.endswith('.py') else ''
      raise UserError(f'{word} is no flag{what}.')


def _unknown_flag(name: str) -> str:
  first = name.split('.')[0].split('=')[0]
  if first in parse_settings.FIELDS:
    return f'--{name} is no flag; fields of the config are set as --config.{name}=...'
  known = [*TRAIN_FLAGS, 'help']
  guess = registry.nearest(first, known)
  return f'--{name} is no flag{guess}; the flags are --{", --".join(known)}, --config.FIELD=...'


def _innermost(error: BaseException) -> BaseException | str:
  """What an error wraps: ml_collections wraps its own several times."""
  inner: BaseException | str = error
  while isinstance(inner, BaseException) and inner.args:
    if not isinstance(inner.args[0], BaseException | str):
      break
    inner = inner.args[0]
  return inner


def _plain_words(message: str) -> str:
  """What absl and Python say of a value, without their own terms."""
  message = message.strip().rstrip('.').removeprefix('flag ')
  for theirs, ours in (
    (r'could not convert string to float: (.*)', r'\1 is no number'),
    (r'invalid literal for int\(\) with base 10: (.*)', r'\1 is no whole number'),
    (r"Failed to parse '.*' as a ConfigDict: .*", 'it holds fields; set these, each by its name'),
  ):
    message = re.sub(theirs, ours, message)
  if message.startswith('--config.data.classes=') and message.endswith('is no whole number'):
    message += "; give names with the values, as in --config.data.values='1:nucleus, 2:cytoplasm'"
  return message


def _load_page(word: str) -> ConfigDict:
  """The config of `--config=PAGE[:ARGUMENT]`, before the shell's fields are set.

  Raises:
    UserError: if the file is no page, or does not know the argument.
  """
  # partition took '.py:' away together with the argument, so the suffix is put back.
  path, _, argument = word.partition('=')[2].partition('.py:')
  path = f'{path}.py' if argument else path
  try:
    get_config = runpy.run_path(path)['get_config']
  except SyntaxError as error:
    raise UserError(
      f'{error.filename}, line {error.lineno}, is no Python ({error.msg}); correct the file, or '
      'give another page.'
    ) from error
  except KeyError as error:
    raise UserError(f'{path} has no function get_config; give a page of configs/.') from error
  try:
    config = get_config(argument) if argument else get_config()
  except (KeyError, ValueError, TypeError) as error:
    # Without an argument the error is a bug of the page itself: its traceback helps its author.
    if not argument:
      raise
    raise UserError(f'{path} does not know {argument!r} after the colon; see its text.') from error
  if not isinstance(config, ConfigDict):
    raise UserError(
      f'get_config of {path} returns no config; end it with `return settings.complete(config)`.'
    )
  return config


def _field_problems(words: Sequence[str], config: ConfigDict) -> list[str]:
  """A sentence for each field of the shell that the page does not have."""
  problems = []
  for word in words:
    match = re.match(r'--?config\.([^=]+)=', word)
    if match is None:
      continue
    tree: Any = config
    parents: list[str] = []
    for part in match.group(1).split('.'):
      # 'steps.x': the walk has reached a plain value, which holds no fields.
      if not isinstance(tree, ConfigDict):
        problems.append(f'--config.{match.group(1)}: {".".join(parents)} has no fields.')
        break
      if part not in tree:
        names = sorted(tree.keys())
        where = f'{".".join(parents)} has' if parents else 'the config has'
        problems.append(
          f'--config.{match.group(1)}: {where} no field {part}{registry.nearest(part, names)}; '
          f'the fields are {", ".join(names)}.'
        )
        break
      parents.append(part)
      tree = tree[part]
  return problems


def help_text(program: str) -> str:
  """The two commands, the flags, and the pages with a line each."""
  pages = []
  for path in page_files():
    pages.append(f'  {path.stem:20} {about(path)}')
  listed = '\n'.join(pages)
  return f"""Trains what a page of configs/ describes: segmentation with few labels and many images.

  {program}                                   the quickstart: six minutes on two CPU cores
  {program} --config=configs/your_images.py --config.data.labeled=DIR --config.data.unlabeled=DIR

Flags:
  --config=PAGE         page to run, a path or a name below (default: quickstart)
  --config.FIELD=VALUE  sets a field of the page, as in --config.steps=500; docs/configuration.md
                        lists them
  --workdir=DIR         run folder (default: runs/PAGE); the same command resumes a run in it
  --only=PATTERN        stages to do, by name, with * and commas
  --dask=ADDRESS        Dask scheduler whose workers run the stages; stages that do not depend on
                        each other run at the same time (docs/many_machines.md)
  --cache=DIR           folder of compiled programs, which a machine of the same kind can reuse
                        (default: that of the user)
  --dry_run[=json]      describes the run, its data and networks, without training

Pages:
{listed}

New images: python -m ssl_jax.predict --run=RUN --images=DIR --out=DIR
Tables:     python -m ssl_jax.table RUN"""
