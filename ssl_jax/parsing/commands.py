"""The commands of ssl-jax and their options, read from the source text, without importing JAX."""

import ast
from pathlib import Path
from typing import NamedTuple

COMMANDS = {
  'inspect': 'looks at images and masks before a training',
  'new-page': 'writes a page for your data, to be changed as you like',
  'train': 'trains what a page describes (the same as python main.py)',
  'predict': 'writes masks, or points, for a folder of images',
  'report': 'writes a run as one HTML file',
  'export': 'writes a trained network for other programs',
  'suggest': 'chooses images to label next',
  'table': 'prints the table of a run',
  'completion': 'prints what makes a shell complete these commands',
}
"""Each is the file of this name with a function main, but for train, which is in cli.py."""

TRAIN_FLAGS = {
  'config': 'page to run, by path or name',
  'workdir': 'run folder',
  'only': 'stages to do, by name',
  'dask': 'scheduler of Dask whose workers do the stages',
  'cache': 'folder of compiled programs',
  'dry_run': 'describes the run without training',
}


class Option(NamedTuple):
  """An option of a command."""

  about: str
  takes_value: bool = True
  choices: tuple[str, ...] = ()


def module_of(command: str) -> str:
  """The name of the module of a command."""
  return f'ssl_jax.{command.replace("-", "_")}'


def options(command: str) -> dict[str, Option]:
  """The options of a command, without their dashes, in the order in which they are defined."""
  if command == 'train':
    return {name: Option(about) for name, about in TRAIN_FLAGS.items()}
  path = Path(__file__).parents[1] / f'{command.replace("-", "_")}.py'
  found = {}
  for node in ast.walk(ast.parse(path.read_text())):
    # `add('--run', ...)`, or `parser.add_argument('--run', ...)`.
    if not isinstance(node, ast.Call) or not node.args:
      continue
    called = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    first = node.args[0]
    is_option = called in ('add', 'add_argument') and isinstance(first, ast.Constant)
    if is_option and str(first.value).startswith('--'):
      found[str(first.value)[2:]] = _option(node)
  return found


def _option(call: ast.Call) -> Option:
  keywords = {keyword.arg: keyword.value for keyword in call.keywords}
  about = ast.literal_eval(keywords['help']) if 'help' in keywords else ''
  # A flag, a flag that has a --no- form, or an option whose value may be left out: '?'.
  action = ast.unparse(keywords['action']) if 'action' in keywords else ''
  may_stand_alone = 'store_true' in action or 'BooleanOptional' in action or 'nargs' in keywords
  choices: tuple[str, ...] = ()
  if 'choices' in keywords:
    # Choices that stand elsewhere under a name are not followed.
    node = keywords['choices']
    choices = tuple(ast.literal_eval(node)) if isinstance(node, ast.Tuple | ast.List) else ()
  return Option(about, not may_stand_alone, choices)
