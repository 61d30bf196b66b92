"""Where files lie that a user's runs share."""

import os
from pathlib import Path


def folder() -> Path:
  """Returns the folder of ours in the user's cache; it need not exist yet."""
  # The freedesktop.org base directory specification, which macOS and containers honour as well.
  return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'ssl_jax'
