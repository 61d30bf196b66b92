"""Where files lie that a user's runs share."""

import os
import tempfile
from pathlib import Path


def folder() -> Path:
  """Returns the folder of ours in the user's cache; it need not exist yet."""
  # The freedesktop.org base directory specification, which macOS and containers honour as well.
  cache = os.environ.get('XDG_CACHE_HOME')
  if cache:
    return Path(cache).expanduser() / 'ssl_jax'
  try:
    return Path.home() / '.cache' / 'ssl_jax'
  except RuntimeError:
    # A container may run as a number that belongs to no user, without HOME.
    number = os.getuid() if hasattr(os, 'getuid') else ''
    return Path(tempfile.gettempdir()) / f'ssl_jax-{number}'
