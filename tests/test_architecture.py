"""The shape of the code: imports only go down, and files stay small."""

import ast
import subprocess
import sys
from pathlib import Path

from ssl_jax import registry
from ssl_jax.parsing import commands

PACKAGE = Path(__file__).resolve().parents[1] / 'ssl_jax'
FILES = sorted(path for path in PACKAGE.rglob('*.py') if path.name != '__init__.py')

# A file or a room imports only what stands on a lower floor; files of one room may also import each
# other, as long as they do not form a cycle.
FLOORS = (
  'errors open_fields notebook_setup',
  'types registry',
  'placeholders',
  'settings parallel losses',
  'io views',
  'parsing',
  'data methods models',
  'datasets training run_folder',
  'build',
  'running',
  'inference',
  'evaluation',
  'stages',
  'reports',
  'table report',
  'inspect exports',
  'run predict new_page completion export',
  'suggestion_folder napari_plugin',
  'suggest',
  'cli',
  'notebook',
)
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor.split()}

# A plug-in imports no other plug-in of its room, so that each can be read and removed alone. The
# heads of Hydra sit on a wide ResNet, which is also a network of its own.
PLUG_INS_IN_PLUG_INS = {('models.hydra', 'models.wideresnet')}


def _module_of(path):
  """'losses' for ssl_jax/losses.py, 'io.images' for ssl_jax/io/images.py."""
  return '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)


MODULES = {_module_of(path): path for path in FILES}


def _imported_names(path):
  """Full dotted names of all that a file imports, inside functions too."""
  names = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      names |= {name.name for name in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path} has a relative import'
      names |= {f'{node.module}.{name.name}' for name in node.names}
  return names


def _imported_modules(path):
  """Modules of the package that a file imports, as _module_of names them."""
  modules = set()
  for name in _imported_names(path):
    if not name.startswith('ssl_jax.'):
      continue
    # 'ssl_jax.io.images.to_uint8' names something in a module, 'ssl_jax.io.images' the module.
    name = name.removeprefix('ssl_jax.')
    module = name if name in MODULES else name.rpartition('.')[0]
    assert module in MODULES, f'{path} imports {name}, which is no module of the package'
    modules.add(module)
  return modules


GRAPH = {module: _imported_modules(path) for module, path in MODULES.items()}


def test_every_room_and_file_has_a_floor():
  assert {module.split('.')[0] for module in MODULES} == set(HEIGHT)


def test_imports_only_go_down():
  faults = []
  for module, imported_modules in GRAPH.items():
    room = module.split('.')[0]
    for imported in imported_modules:
      imported_room = imported.split('.')[0]
      if imported_room != room and HEIGHT[imported_room] >= HEIGHT[room]:
        faults.append(f'{module} imports {imported}, which does not stand below it')
  assert not faults, '\n'.join(sorted(faults))


def test_no_cycles():
  left = {module: set(imported_modules) for module, imported_modules in GRAPH.items()}
  while True:
    ready = {module for module, imported_modules in left.items() if not imported_modules}
    if not ready:
      break
    left = {module: left[module] - ready for module in left if module not in ready}
  assert not left, f'in a cycle, or above one: {left}'


def test_plug_ins_do_not_import_each_other():
  plug_ins = {f'{kind}.{name}' for kind in registry.EXPORTS for name in registry.known(kind)}
  faults = set()
  for module in plug_ins:
    room = module.split('.')[0]
    beside = {name for name in GRAPH[module] & plug_ins if name.split('.')[0] == room}
    faults |= {(module, imported) for imported in beside}
  assert faults == PLUG_INS_IN_PLUG_INS


def test_files_stay_small():
  lengths = {str(path): len(path.read_text().splitlines()) for path in FILES}
  assert not {path: length for path, length in lengths.items() if length > 400}


def test_run_time_needs_neither_torch_nor_tensorflow():
  for path in FILES:
    packages = {name.split('.')[0] for name in _imported_names(path)}
    assert not packages & {'torch', 'tensorflow'}, path


def _imported_by(program, packages):
  """Which of some packages are there after a program."""
  shown = f'import sys\n{program}\nprint(sorted({packages!r} & set(sys.modules)))'
  command = [sys.executable, '-c', shown]
  printed = subprocess.run(command, cwd=PACKAGE.parent, check=True, capture_output=True, text=True)
  return printed.stdout.strip()


def test_settings_and_options_are_read_without_jax():
  """So that a page, --help and --dry_run answer at once."""
  modules = ('settings', 'registry', 'parsing.parse_settings', 'open_fields')
  settings = 'import ' + ', '.join(f'ssl_jax.{module}' for module in modules)
  assert _imported_by(settings, {'jax', 'flax', 'numpy'}) == '[]'
  # What is left takes a tenth of a second.
  for command in set(commands.COMMANDS) - {'train'}:
    door = f'import {commands.module_of(command)}'
    assert _imported_by(door, {'jax', 'flax', 'scipy', 'grain'}) == '[]', command
