"""Which fields of a data set say where files lie; what they are decides what a run is."""

import os
from collections.abc import Mapping
from typing import Any

from ssl_jax import registry

Tree = dict[str, Any]

KEPT = 'cache'
"""The field that says where what follows from the files is kept: it changes nothing."""


def _fields(name: str) -> list[str]:
  """The fields of a data set that hold paths, by their annotations."""
  parameters = registry.parameters('datasets', name)
  return [field for field, parameter in parameters.items() if 'Path' in parameter.annotation]


def expand(name: str, kwargs: Mapping[str, Any]) -> Tree:
  """Returns the fields of a data set with ~ replaced by the home folder, as shells do."""
  fields = _fields(name)
  expanded = dict(kwargs)
  for field, value in kwargs.items():
    if field in fields and isinstance(value, str):
      expanded[field] = os.path.expanduser(value)
  return expanded


def without(data: Mapping[str, Any]) -> Tree:
  """Returns the `data` of a config, in which it only counts whether there is a path.

  What lies there is compared by its content (see dataset_stats.data_checksum), so that a folder may
  be moved, renamed, or given from another place.
  """
  fields = _fields(data.get('name', 'folder'))
  tree = dict(data)
  for field, value in data.items():
    if field in fields and isinstance(value, str):
      tree[field] = 'a path'
  if KEPT in fields:
    tree.pop(KEPT, None)
  return tree
