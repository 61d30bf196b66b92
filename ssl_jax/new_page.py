"""A page for your data: `ssl-jax new-page --task=masks --labeled=DIR --unlabeled=DIR mine.py`.

The page is configs/your_images.py, your_volumes.py or your_cells.py with your folders in it, and
with the help of each field beside it, so that it can be read and changed from top to bottom.
"""

import argparse
import ast
import dataclasses
import runpy
import shlex
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ssl_jax import registry, settings
from ssl_jax.errors import UserError
from ssl_jax.io import atomic
from ssl_jax.io.folders import listing
from ssl_jax.io.option_parser import OptionParser
from ssl_jax.parsing import page_files, stage_list

BASES = {
  'masks': 'your_images',
  'volumes': 'your_volumes',
  'cells': 'your_cells',
  'instances': 'your_images',
}
"""Pages that a page is made from, by task."""

FIELDS = ('seed', 'steps', 'log_every', 'checkpoint', 'precision', 'tensorboard')
"""Fields that a page offers in comments, with their help."""

WIDTH = 100


class Wishes(NamedTuple):
  """What a person said of the data and the training."""

  task: str
  data: Mapping[str, Any]  # fields of the data set
  minutes: float | None = None


def write(wishes: Wishes, path: Path) -> None:
  """Writes a page.

  Raises:
    UserError: if there is such a file, or the page would be refused.
  """
  if path.suffix != '.py':
    raise UserError(f'{path} is no name of a page; give one that ends in .py.')
  if path.exists():
    raise UserError(f'{path} is there already and stays as it is; give another name.')
  if not path.stem.isidentifier():
    # Runs are named after pages, and a page may be imported by another one.
    raise UserError(f'{path.name}: use letters, digits and _ in the name of a page.')
  text = page_text(wishes, path)
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(path) as temporary:
      temporary.write_text(text, encoding='utf-8')
      _check(temporary)
  except OSError as error:
    raise UserError(f'{path} cannot be written ({error.strerror}); give another name.') from error


def page_text(wishes: Wishes, path: Path) -> str:
  """Returns the text of a page that will stand in a file.

  Raises:
    UserError: if a field is none of the task's data set.
  """
  base = page_files.pages_root() / 'configs' / f'{_base_of(wishes)}.py'
  source = base.read_text()
  tree = ast.parse(source)
  # What is replaced: first and last line, counted from 1, and what comes there.
  edits = [
    _docstring_edit(tree, wishes, path),
    _data_edit(tree, wishes),
    *_length_edits(tree, wishes),
  ]
  lines = source.splitlines()
  for first, last, new in sorted(edits, reverse=True):
    lines[first - 1 : last] = new
  # With slashes, as a backslash in a text of Python means something else.
  return '\n'.join(lines).replace(f'configs/{base.name}', path.as_posix()) + '\n'


def _program() -> str:
  """What trains a page: an installed copy has no main.py."""
  in_clone = (page_files.pages_root() / 'main.py').exists()
  return 'python main.py' if in_clone else 'ssl-jax train'


def _base_of(wishes: Wishes) -> str:
  """The page to start from: instances may be of images or of volumes."""
  if wishes.task == 'instances':
    images = Path(wishes.data['labeled']) / 'images'
    if images.is_dir() and listing.read_folder(images, listing.VOLUMES).paths:
      return BASES['volumes']
  return BASES[wishes.task]


Edit = tuple[int, int, list[str]]


def _docstring_edit(tree: ast.Module, wishes: Wishes, path: Path) -> Edit:
  node = tree.body[0]
  old = (ast.get_docstring(tree) or '').splitlines()
  data = shlex.quote(str(wishes.data['labeled']))
  new = [
    f'r"""{old[0]}',
    '',
    'Written by `ssl-jax new-page`; change it as you like before the first run.',
    f'Data: {data} and the folders below.',
    f'Run:  {_program()} --config={path.as_posix()}',
    'What the page leaves open is chosen for your data (configuration.md in the run folder).',
    '"""',
  ]
  return node.lineno, node.end_lineno or node.lineno, new


def _assigned(tree: ast.Module, name: str) -> ast.Assign:
  """The statement that assigns to config.NAME."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == f'config.{name}':
      return node
  raise AssertionError(f'the page assigns no config.{name}')


def _data_edit(tree: ast.Module, wishes: Wishes) -> Edit:
  """config.data with the wishes in it, and the help of each of its fields above it."""
  node = _assigned(tree, 'data')
  assert isinstance(node.value, ast.Call)
  fields = {word.arg or '': ast.literal_eval(word.value) for word in node.value.keywords}
  known = registry.parameters('datasets', fields['name'])
  for name in wishes.data:
    if name not in known:
      raise UserError(f'--{name} is nothing that pages of {wishes.task} have; leave it out.')
  # The folders first, the numbers of the base page last.
  fields = {'name': fields['name'], **wishes.data, **(fields | dict(wishes.data))}
  helps = _data_help(fields['name'])
  new = ['  config.data = dict(']
  for name, value in fields.items():
    new += _comment(helps.get(name, ''), 4)
    new.append(f'    {name}={value!r},')
  new.append('  )')
  others = [name for name in known if name not in fields and name in helps]
  new += ['  # More fields of the data, with what they are when they are not set:']
  for name in others:
    new += _comment(f'{name}={known[name].default!r}: {helps[name]}', 2)
  return node.lineno, node.end_lineno or node.lineno, new


def _data_help(name: str) -> dict[str, str]:
  """The help of each field of a data set, from the text of its loader."""
  tree = ast.parse(registry.path('datasets', name).read_text())
  load = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == 'load')
  helps: dict[str, str] = {}
  current = ''
  arguments = (ast.get_docstring(load) or '').partition('Args:\n')[2].partition('\n\n')[0]
  for line in arguments.splitlines():
    text = line.strip()
    # Further lines of an argument are indented more.
    if line.startswith('    ') and current:
      helps[current] += f' {text}'
      continue
    current, _, about = line.strip().partition(': ')
    helps[current] = about
  return helps


def _length_edits(tree: ast.Module, wishes: Wishes) -> list[Edit]:
  """The minutes, and further fields in comments below what is left open."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'open_fields.leave_open':
      minutes = next(word.value for word in node.keywords if word.arg == 'minutes')
      asked = wishes.minutes if wishes.minutes is not None else ast.literal_eval(minutes)
      new = [f'  open_fields.leave_open(config, chosen, minutes={asked:g})']
      new += [
        '  # More settings; take away the # of those that you set (docs/configuration.md has all):'
      ]
      for field in dataclasses.fields(settings.Settings):
        if field.name in FIELDS:
          new += _comment(field.metadata['help'], 2)
          new.append(f'  # config.{field.name} = {field.default!r}')
      return [(node.lineno, node.end_lineno or node.lineno, new)]
  raise AssertionError('the page leaves nothing open')


def _comment(text: str, indent: int) -> list[str]:
  before = ' ' * indent + '# '
  return textwrap.wrap(
    text, WIDTH, initial_indent=before, subsequent_indent=before, break_on_hyphens=False
  )


def _check(page: Path) -> None:
  """Raises UserError if a run would refuse the page, as far as it shows without its images."""
  sys.path.insert(0, str(page_files.pages_root()))
  config = runpy.run_path(str(page))['get_config']()
  specs = stage_list.resolve(stage_list.plain(config))
  data = specs[0].settings.data
  if problems := registry.kwargs_problems('datasets', data.name, data.kwargs):
    raise UserError('\n'.join(problems))


def _parser() -> OptionParser:
  parser = OptionParser(
    'python -m ssl_jax.new_page',
    description='Writes a page for your data, to be changed as you like.',
  )
  add = parser.add_argument
  add('page', type=listing.expand, help='file to write, as mine.py')
  add(
    '--task',
    choices=('masks', 'volumes', 'cells', 'instances'),
    required=True,
    help='kind of data',
  )
  add('--labeled', required=True, help='folder with images/ and masks/ (or points/) in it')
  add('--unlabeled', required=True, help='folder of unlabeled images')
  add('--val', help='as --labeled, of validation images')
  add('--test', help='as --labeled, of test images')
  add('--classes', help='their number, or names with commas, the background first')
  add('--values', help='which class each value or color of a mask is, as in 205:1, 420:2')
  add('--group', help='pattern or CSV file that names the patient of an image')
  add('--minutes', type=float, help='minutes that one training takes (default 20)')
  return parser


def _wishes(options: argparse.Namespace) -> Wishes:
  """What the options ask for.

  Raises:
    UserError: if a folder is not there, or a value cannot be.
  """
  data: dict[str, Any] = {}
  for role in ('labeled', 'unlabeled', 'val', 'test'):
    given = getattr(options, role)
    if given is None:
      continue
    folder = listing.expand(given)
    if not folder.is_dir():
      raise UserError(f'The folder {folder} (--{role}) does not exist; check the path.')
    # A page may be run from anywhere.
    data[role] = str(folder.resolve())
  if options.classes:
    data['classes'] = _classes(options.classes)
  for name in ('values', 'group'):
    if getattr(options, name):
      data[name] = getattr(options, name)
  group = data.get('group', '')
  if group.endswith('.csv') and Path(group).is_file():
    data['group'] = str(Path(group).resolve())
  if options.task == 'instances':
    data['instances'] = True
  # `not >` rather than `<=`, so that NaN is refused as well.
  if options.minutes is not None and not options.minutes > 0:
    raise UserError(f'--minutes={options.minutes} is not above 0.')
  return Wishes(options.task, data, options.minutes)


def _classes(text: str) -> int | tuple[str, ...]:
  if text.isdigit():
    return int(text)
  names = tuple(name.strip() for name in text.split(','))
  if len(names) < 2 or not all(names):
    raise UserError(
      f'--classes={text} is neither a number nor several names; give all, the background first, as '
      f'in background,cell.'
    )
  return names


def main(arguments: Sequence[str] | None = None) -> int:
  """The program; returns its exit code."""
  options = _parser().parse_args(arguments)
  try:
    write(_wishes(options), options.page)
  except UserError as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  print(f'Page: {options.page}')
  command = f'{_program()} --config={shlex.quote(str(options.page))}'
  print(f'Look first:  {command} --dry_run')
  print(f'Then train:  {command}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
