"""Fields that a page leaves empty, in a form that the shell can fill.

A ConfigDict reads a value of the shell by the type of what the field holds; where a field holds
nothing, a placeholder tells the type.
"""

import ast
import dataclasses
import typing
from typing import Any

from ml_collections.config_dict import placeholder

from ssl_jax import registry


def default_of(field: dataclasses.Field) -> Any:
  """Returns the default of a field, which every field of our settings has."""
  if field.default is not dataclasses.MISSING:
    return field.default
  assert field.default_factory is not dataclasses.MISSING  # one of the two is there
  return field.default_factory()


def or_placeholder(value: Any, hint: Any) -> Any:
  """Returns the value; for None a placeholder of its type, so that the shell can set it."""
  if value is not None:
    return value
  # The first type of the union that the shell can read.
  for scalar in (bool, int, float, str):
    if scalar in typing.get_args(hint):
      return placeholder(scalar)
  return None


def dataclass_defaults(section: type) -> dict[str, Any]:
  """Returns the fields of a group with their defaults, placeholders where these are None."""
  hints = typing.get_type_hints(section)
  fields = [field for field in dataclasses.fields(section) if field.name != 'kwargs']
  return {field.name: or_placeholder(default_of(field), hints[field.name]) for field in fields}


def part_placeholders(kind: str, name: str) -> dict[str, Any]:
  """Returns empty fields for the keyword arguments of a part: its own defaults are meant."""
  values = {}
  for key, parameter in registry.parameters(kind, name).items():
    scalar = _first_type(parameter.annotation)
    values[key] = placeholder(scalar) if scalar else None
  return values


def _first_type(annotation: str) -> type | None:
  """The type that an annotation names first: what the shell reads a value as."""
  node = ast.parse(annotation, mode='eval').body
  # `int | float | None` is parsed as (int | float) | None, so the first type is leftmost.
  while isinstance(node, ast.BinOp):
    node = node.left
  # tuple[float, ...] -> tuple.
  if isinstance(node, ast.Subscript):
    node = node.value
  types = {'bool': bool, 'int': int, 'float': float, 'str': str, 'Sequence': tuple, 'tuple': tuple}
  return types.get(ast.unparse(node))
