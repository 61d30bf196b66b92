"""The shape of the code: imports only go down, and files stay small."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'ssl_jax'

# Each file may import only what stands above it (and, in a folder, its own `_helpers` and layers).
FLOORS = [
  'types',
  'atomic find parallel losses metrics intervals optimizers affine collapse mixup',
  'resampling _imagefile _torchfile surface sliding',
  'images volumes photometric randaugment pretrained geometry recipes',
  'pieces',
  'masks preparation',
  'augment figures altered replay distance',
  'methods models datasets',
  'learner data',
  'gan',
  'build checkpoint inference record',
  'clusters',
  'trained',
  'evaluate train',
  'detect organs',
  'outputs',
  'predict',
  'stages table',
  'validate',
  'run',
]
HEIGHT = {name: height for height, floor in enumerate(FLOORS) for name in floor.split()}
WITHIN = {'models': {'layers', 'convolution', 'resnet', 'wideresnet'}}
WITHIN |= {'datasets': set(), 'methods': set(), 'stages': set()}


def _imports(path: Path) -> set[str]:
  """Modules of the package that a file imports, as 'losses' or 'models.layers'."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {a.name.removeprefix('ssl_jax.') for a in node.names if 'ssl_jax.' in a.name}
    elif isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'ssl_jax':
      inner = node.module.removeprefix('ssl_jax').lstrip('.')
      found |= {f'{inner}.{a.name}' if inner in WITHIN else inner or a.name for a in node.names}
  return found


FILES = sorted(p for p in PACKAGE.rglob('*.py') if p.name != '__init__.py')


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_only_go_down(path):
  folder = path.parent.name if path.parent != PACKAGE else None
  own = HEIGHT[folder or path.stem]
  for module in _imports(path):
    first, _, rest = module.partition('.')
    if folder and first == folder:
      helper = rest.split('.')[0]
      assert helper in WITHIN[folder] or helper.startswith('_'), f'{path} imports {module}'
    else:
      assert HEIGHT[first] < own, f'{path} imports {module}, which does not stand below it'


def test_every_file_has_a_floor():
  names = {p.stem if p.parent == PACKAGE else p.parent.name for p in FILES}
  assert names == set(HEIGHT)


@pytest.mark.parametrize('path', FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path):
  assert len(path.read_text().splitlines()) <= 250


def test_run_time_needs_neither_torch_nor_tensorflow():
  for path in FILES:
    assert not {m.split('.')[0] for m in _all_imports(path)} & {'torch', 'tensorflow'}, path


def _all_imports(path: Path) -> set[str]:
  nodes = ast.walk(ast.parse(path.read_text()))
  names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
  nodes = ast.walk(ast.parse(path.read_text()))
  return names | {n.module or '' for n in nodes if isinstance(n, ast.ImportFrom)}
