"""The pages of configs/, found and described without running them."""

import ast
from pathlib import Path


def pages_root() -> Path:
  """The folder that holds configs/: inside an installed package, or the repository's root."""
  # A wheel carries configs/ as ssl_jax/pages/configs (see pyproject.toml), because a top-level
  # package named `configs` would clash with others.
  package = Path(__file__).resolve().parents[1]
  installed = package / 'pages'
  return installed if installed.is_dir() else package.parent


def page_files() -> list[Path]:
  """The pages of configs/."""
  # Files that begin with an underscore, such as __init__.py, are no pages.
  return sorted((pages_root() / 'configs').glob('[!_]*.py'))


def about(page: Path) -> str:
  """The first line of a page's text."""
  # Parsed, not imported: listing the pages must neither run them nor need their data.
  lines = (ast.get_docstring(ast.parse(page.read_text())) or '').splitlines()
  return lines[0] if lines else ''
