"""Look-up by file name: a method, model, data set or stage is found because its file is there.

Names and parameters are read from the source text, so that a page, the command line and the
documentation know them without importing JAX. Only `find` imports a file.
"""

import ast
import difflib
import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ssl_jax.errors import UserError

EXPORTS = {'methods': 'method', 'models': 'Model', 'datasets': 'load', 'stages': 'stage'}
"""What a file of each kind exports."""

NOT_CONFIGURED = {
  'methods': (),
  'models': ('num_classes', 'dtype'),
  'datasets': (),
  'stages': ('settings', 'folder', 'stop'),
}
"""Parameters that the program gives, and no config sets."""

_PACKAGE = Path(__file__).parent
# Of the process: configs are read in several places, all of which should know the plug-ins.
_plugin_folders: list[Path] = []


class Unknown:
  """The default of a parameter whose value the source text alone does not tell."""

  def __init__(self, text: str):
    self.text = text

  def __repr__(self) -> str:
    return self.text


class Parameter(NamedTuple):
  """One keyword argument of what a file exports."""

  annotation: str
  default: Any = None
  required: bool = False


def add_plugins(folder: str | Path | None) -> None:
  """Makes the methods/, models/, datasets/ and stages/ of a folder known beside ours.

  Raises:
    UserError: if the folder has none of these, or a file in it has the name of one of ours.
  """
  if folder is None:
    return
  path = Path(folder).expanduser().resolve()
  # A page adds its plug-ins when it is completed, and the run adds them again.
  if path in _plugin_folders:
    return
  if not any((path / kind).is_dir() for kind in EXPORTS):
    raise UserError(
      f'plugins={str(folder)!r}: {path} holds none of {", ".join(f"{kind}/" for kind in EXPORTS)}; '
      f'give the folder that does.'
    )
  # Ours come first in the look-up, so a plug-in of the same name would never be found.
  for kind in EXPORTS:
    for file in (path / kind).glob('*.py'):
      if (_PACKAGE / kind / file.name).exists() and file.stem != '__init__':
        raise UserError(f'{file} has the name of a file in ssl_jax/{kind}; rename yours.')
  _plugin_folders.append(path)


def _path_of(kind: str, name: str) -> Path | None:
  """The file that exports a part of this name; None where there is none."""
  # Names become paths and modules; this refuses '../x' and 'a.b'.
  if not str(name).isidentifier():
    return None
  # Our own folder comes first.
  for folder in (_PACKAGE, *_plugin_folders):
    path = folder / kind / f'{name}.py'
    if path.is_file() and _exported(kind, path) is not None:
      return path
  return None


@functools.cache
def _exported(kind: str, path: Path) -> ast.FunctionDef | ast.ClassDef | None:
  """The definition of what a file exports; None where it is a helper of other files."""
  # Parsed rather than imported: quick, without JAX, and without running a user's code.
  for node in ast.parse(path.read_text()).body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == EXPORTS[kind]:
      return node
  return None


def known(kind: str) -> list[str]:
  """Names of all methods, models, data sets or stages, in alphabetical order."""
  names = []
  for folder in (_PACKAGE, *_plugin_folders):
    for path in (folder / kind).glob('*.py'):
      if _exported(kind, path) is not None:
        names.append(path.stem)
  return sorted(names)


def path(kind: str, name: str) -> Path:
  """The file of a part.

  Raises:
    UserError: if there is none; it lists the known names, the nearest first.
  """
  found = _path_of(kind, name)
  if found is None:
    names = known(kind)
    raise UserError(
      f'There is no {name!r} in {kind}{nearest(str(name), names)}; '
      f'the known ones are {", ".join(names)}.'
    )
  return found


def find(kind: str, name: str) -> ModuleType:
  """Imports the file of a part.

  Raises:
    UserError: if there is none.
  """
  file = path(kind, name)
  # Ours are modules of the package, so that `from ssl_jax.methods import ...` is the same module.
  if file.is_relative_to(_PACKAGE):
    return importlib.import_module(f'ssl_jax.{kind}.{name}')
  # A plug-in is imported from its file, under a package name that nothing else has.
  module_name = f'ssl_jax_plugins.{kind}.{name}'
  if module_name not in sys.modules:
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
      raise UserError(f'{file} cannot be imported as Python.')
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and Flax look their module up there
    spec.loader.exec_module(module)
  return sys.modules[module_name]


def parameters(kind: str, name: str) -> dict[str, Parameter]:
  """The keyword arguments of a part that a config may set, in their order.

  Raises:
    UserError: if there is no such part.
  """
  # A model is a Flax module, whose fields are its arguments; the other kinds export functions.
  file = path(kind, name)
  node = _exported(kind, file)
  found = _of_class(node) if isinstance(node, ast.ClassDef) else _of_function(node)
  return {name: p for name, p in found.items() if name not in NOT_CONFIGURED[kind]}


def _of_class(node: ast.ClassDef) -> dict[str, Parameter]:
  """The fields of a Flax module."""
  fields = {}
  for line in node.body:
    # A dataclass field is an annotated assignment; anything else in the body is no argument.
    if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
      fields[line.target.id] = _parameter(line.annotation, line.value)
  return fields


def _of_function(node: ast.FunctionDef | None) -> dict[str, Parameter]:
  if node is None:
    return {}
  arguments = node.args
  positional = [*arguments.posonlyargs, *arguments.args]
  # Python lists the defaults of the last arguments only, so the first ones are filled up.
  missing = [None] * (len(positional) - len(arguments.defaults))
  found = {}
  for argument, default in zip(positional, [*missing, *arguments.defaults], strict=True):
    found[argument.arg] = _parameter(argument.annotation, default)
  for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
    found[argument.arg] = _parameter(argument.annotation, default)
  return found


def _parameter(annotation: ast.expr | None, default: ast.expr | None) -> Parameter:
  text = ast.unparse(annotation) if annotation is not None else 'Any'
  # No expression at all: the argument is required. A written `None` is an ast.Constant.
  if default is None:
    return Parameter(text, required=True)
  try:
    # 1 / 3 is no literal, so the expression is evaluated; names in it are unknown here.
    value = eval(compile(ast.Expression(default), '<default>', 'eval'), {'__builtins__': {}})
  except (NameError, AttributeError, TypeError):
    value = Unknown(ast.unparse(default))
  return Parameter(text, value)


def build(kind: str, name: str, kwargs: Mapping[str, Any], **given: Any) -> Any:
  """Calls what the file of a part exports, with the keyword arguments of a config.

  Raises:
    UserError: if there is no such part, or it lacks an argument or has one too many.
  """
  # Checked here as well, because tests and notebooks call `build` without validate().
  if problems := kwargs_problems(kind, name, kwargs):
    raise UserError('\n'.join(problems))
  make = getattr(find(kind, name), EXPORTS[kind])
  # `given` are what NOT_CONFIGURED lists, so the two cannot have a name in common.
  return make(**given, **kwargs)


def place(kind: str, name: str) -> str:
  """Where a config has the keyword arguments of a part: 'methods.fixmatch', 'model', 'data'."""
  return {'methods': f'methods.{name}', 'models': 'model', 'datasets': 'data'}.get(
    kind, f'stages.{name}'
  )


def kwargs_problems(
  kind: str, name: str, kwargs: Mapping[str, Any], where: str | None = None
) -> list[str]:
  """What is wrong with keyword arguments of a part, one sentence each: names and types.

  `where` is their place in the config, if it is another than `place` says.
  """
  accepted = parameters(kind, name)
  where = where or place(kind, name)
  problems = []
  for key, value in kwargs.items():
    if key not in accepted:
      problems.append(
        f'{where}.{key} is no field of {name}{nearest(key, accepted)}; '
        f'it has {", ".join(accepted) or "none"}.'
      )
    elif not fits(value, accepted[key].annotation):
      problems.append(f'{where}.{key}={value!r} is not of the type {accepted[key].annotation}.')
  # Every missing argument is told, not only the first.
  for key, parameter in accepted.items():
    if parameter.required and key not in kwargs:
      problems.append(f'{where}.{key} is not given; set it with --config.{where}.{key}=...')
  return problems


def call_problems(make: Callable, kwargs: Mapping[str, Any], where: str) -> list[str]:
  """As kwargs_problems, for a function that is no plug-in."""
  # Arguments come first among a function's local variables, the positional ones before the others.
  code = make.__code__
  accepted = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
  return [
    f'{where}.{key} is no field{nearest(key, accepted)}; it may be {", ".join(accepted)}.'
    for key in kwargs
    if key not in accepted
  ]


SYNONYMS = {
  'learning_rate': 'lr',
  'batch_size': 'batch',
  'iterations': 'steps',
  'max_steps': 'steps',
  'size': 'crop_size',
  'patch_size': 'crop_size',
  'replicas': 'num_seeds',
  'seeds': 'num_seeds',
  'together': 'vmap_seeds',
  'average': 'ema_decay',
  'ema': 'ema_decay',
  'of': 'source',
  'base': 'resize_long_side',
  'ramp': 'ramp_up_steps',
  'holdout': 'test_fraction',
  'labels': 'num_labeled',
  'missing': 'drop_instances',
  'beta1': 'b1',
}
"""Words that people use for fields that are spelt in another way."""


def nearest(word: str, names: Collection[str]) -> str:
  """' (did you mean ...?)' with the name that is most like a misspelt one; '' where none is."""
  # Spelling does not help where a field has another word in other programs.
  synonym = SYNONYMS.get(word)
  if synonym in names:
    return f' (did you mean {synonym}?)'
  matches = difflib.get_close_matches(word, list(names), n=1, cutoff=0.6)
  return f' (did you mean {matches[0]}?)' if matches else ''


def fits(value: Any, annotation: str) -> bool:
  """Whether a value of a config is of the type that an annotation spells; True if it is unknown."""
  return _fits(value, ast.parse(annotation, mode='eval').body)


def _fits(value: Any, node: ast.expr) -> bool:
  # A union, `int | None`.
  if isinstance(node, ast.BinOp):
    return _fits(value, node.left) or _fits(value, node.right)
  # An annotation in quotes.
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return fits(value, node.value)
  # None is the only other constant that an annotation holds.
  if isinstance(node, ast.Constant):
    return value is node.value
  if isinstance(node, ast.Subscript):
    name = ast.unparse(node.value)
    if name in ('Sequence', 'tuple', 'list', 'Iterable'):
      # tuple[float, ...] and Sequence[float]: only the type of the first entry is looked at.
      item = node.slice.elts[0] if isinstance(node.slice, ast.Tuple) else node.slice
      return isinstance(value, list | tuple) and all(_fits(part, item) for part in value)
    if name == 'Literal':
      # The comma makes a tuple of one choice as well.
      return value in ast.literal_eval(f'({ast.unparse(node.slice)},)')
    # Of other generic types (Callable, ...) nothing is known here; the function itself will tell.
    return isinstance(value, Mapping) if name in ('Mapping', 'dict') else True
  return _is_a(value, ast.unparse(node))


def _is_a(value: Any, name: str) -> bool:
  """Whether a value is of a plain type; a whole number is a float, and a bool is no number."""
  # In Python a bool is an int, but `weight=True` is a mistake.
  number = isinstance(value, int | float) and not isinstance(value, bool)
  checks = {
    'bool': isinstance(value, bool),
    'int': number and isinstance(value, int),
    'float': number,
    'str': isinstance(value, str),
    'Path': isinstance(value, str | Path),
    # JSON and the shell give lists for tuples.
    'tuple': isinstance(value, list | tuple),
    'Mapping': isinstance(value, Mapping),
  }
  return checks.get(name, True)
