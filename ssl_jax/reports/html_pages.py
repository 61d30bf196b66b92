"""Pages for people: the files of templates/ filled in, with styles and pictures inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from ssl_jax.io.overlays import class_color

TEMPLATES = Path(__file__).parent / 'templates'


def legend(classes: Sequence[str]) -> list[tuple[str, str]]:
  """Returns the names of classes and their colors, as CSS writes colors."""
  return [
    (name, '#{:02x}{:02x}{:02x}'.format(*class_color(number)))
    for number, name in enumerate(classes)
    if number
  ]


def render(template: str, contents: Mapping[str, Any]) -> str:
  """Returns the HTML of a template; every name in it must be among the contents."""
  # Names of files, classes and stages come from people; escaped, they stay text.
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  return environment.get_template(template).render(contents)
