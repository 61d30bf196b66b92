"""What a run was made with: RUN/provenance.json, an entry for each code, machine and versions."""

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from ssl_jax.io.run_log import read_json, replace_text

FILE = 'provenance.json'

PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')

_ROOT = Path(__file__).resolve().parents[2]


def now() -> dict[str, Any]:
  """Returns the code, the machine and the versions of this process."""
  versions = {'python': platform.python_version()}
  for name in PACKAGES:
    versions[name] = importlib.metadata.version(name)
  device = jax.devices()[0]
  return {
    'commit': _commit(),
    'machine': {
      'system': platform.system(),
      'processor': _processor(),
      'cores': os.cpu_count(),
      'device': device.device_kind,
      'devices': jax.device_count(),
    },
    'versions': versions,
  }


def keep(run: Path, init_from: str | None = None) -> None:
  """Adds this process to a run's provenance.json, unless one like it is there.

  `init_from` is the run whose networks its trainings start from.
  """
  add(run, now() | ({'init_from': init_from} if init_from else {}))


def add(run: Path, entry: Mapping[str, Any]) -> None:
  """Adds what `now` returned in some process, unless an entry like it is there."""
  entries = read(run)
  if entry not in entries:
    replace_text(run / FILE, json.dumps([*entries, entry], indent=1))


def read(run: Path) -> list[dict[str, Any]]:
  """Returns the entries of a run; none of a run of an earlier version."""
  path = run / FILE
  return read_json(path, 'delete it, a new one is written', list) if path.exists() else []


def _commit() -> str | None:
  """The commit of this code, with '+' after it where files differ; None outside a clone."""
  # An installed package lies in site-packages, perhaps inside some other repository.
  if not (_ROOT / '.git').exists():
    return None
  try:
    commit = _git('rev-parse', '--short=12', 'HEAD')
    # Files that git does not know, such as runs, do not matter.
    changed = _git('status', '--porcelain', '--untracked-files=no')
  except (OSError, subprocess.SubprocessError):
    return None
  return commit + ('+' if changed else '')


def _git(*arguments: str) -> str:
  command = ['git', '-C', str(_ROOT), *arguments]
  done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
  return done.stdout.strip()


def _processor() -> str:
  """The name of the processor, as far as the system tells it."""
  information = Path('/proc/cpuinfo')
  if information.exists():
    for line in information.read_text().splitlines():
      if line.startswith('model name'):
        return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()
