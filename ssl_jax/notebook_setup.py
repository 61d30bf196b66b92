"""Makes a machine ready for the notebooks: finds its GPU or TPU, and installs what is missing.

Imports nothing beyond Python, because nothing else may be installed yet.
"""

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

GOOGLE = '0x1ae0'
"""Vendor of TPUs on the PCI bus."""

TPU_DEVICES = ('0x0027', '0x0056', '0x005e', '0x0062', '0x0063', '0x006f', '0x0076')
"""PCI devices that are TPUs (v2 to v7), as jax/_src/hardware_utils.py lists them."""

ADVICE = {
  'cpu': 'No GPU or TPU: trainings take longer. In Colab choose Runtime > Change runtime type.',
  'gpu': 'Trainings use the GPU.',
  'tpu': 'Trainings use the TPU.',
}


def prepare() -> None:
  """Installs what the project needs on this machine, and prints what JAX computes on.

  Raises:
    RuntimeError: if pip fails, or if an older copy of what was installed is already loaded.
  """
  kind = find_accelerator()
  before = _versions()
  command = [sys.executable, '-m', 'pip', 'install', '--quiet', '--disable-pip-version-check']
  print('Checking what is installed ...', flush=True)
  ended = subprocess.run([*command, *requirements(kind)], capture_output=True, text=True)
  if ended.returncode:
    raise RuntimeError(f'pip failed:\n{ended.stderr.strip()}')
  _check_loaded(before)
  # Imported only now, because it may just have been installed.
  import jax

  names = ', '.join(sorted({device.device_kind for device in jax.devices()}))
  used = jax.default_backend()
  print(f'JAX {jax.__version__} computes on {jax.device_count()} x {names}.')
  print(ADVICE.get(used, f'Trainings use {used}.'))


def find_accelerator(pci: Path = Path('/sys/bus/pci/devices')) -> str:
  """Returns 'gpu' (NVIDIA), 'tpu' or 'cpu', without JAX.

  Args:
    pci: folder in which Linux describes the devices of the machine.
  """
  if os.environ.get('JAX_PLATFORMS') == 'cpu':
    return 'cpu'
  try:
    # The program is also on machines whose GPU was taken away; then it fails.
    listed = subprocess.run(['nvidia-smi', '-L'], capture_output=True, text=True)
    if listed.returncode == 0 and 'GPU' in listed.stdout:
      return 'gpu'
  except OSError:
    pass
  for vendor in pci.glob('*/vendor'):
    device = vendor.with_name('device')
    if vendor.read_text().strip() == GOOGLE and device.read_text().strip() in TPU_DEVICES:
      return 'tpu'
  return 'cpu'


def requirements(kind: str) -> list[str]:
  """Returns what pip is to install: the project's dependencies, with JAX for this kind of machine.

  Args:
    kind: see find_accelerator.
  """
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  extra = {'cpu': '', 'gpu': '[cuda12]', 'tpu': '[tpu]'}[kind]
  # CUDA 13 needs a newer driver than many machines have; where it is installed, it stays.
  if kind == 'gpu' and 'jax-cuda13-plugin' in _versions():
    extra = '[cuda13]'
  jax, *others = project['dependencies']
  assert jax.startswith('jax>')  # the order of pyproject.toml
  return [jax.replace('jax', f'jax{extra}', 1), *others]


def _versions() -> dict[str, str]:
  """The installed packages with their versions."""
  packages = importlib.metadata.distributions()
  return {package.metadata['Name'].lower(): package.version for package in packages}


def _check_loaded(before: dict[str, str]) -> None:
  """Raises RuntimeError where this Python has loaded a package that pip has just replaced."""
  after = _versions()
  replaced = [name for name in before if after.get(name) != before[name]]
  loaded = [name for name in replaced if name.replace('-', '_') in sys.modules]
  if loaded:
    raise RuntimeError(
      f'{", ".join(loaded)} was in use while it was updated; choose Runtime > Restart session '
      '(Kernel > Restart), then run the cells from the top.'
    )
