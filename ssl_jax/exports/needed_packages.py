"""What other packages an export needs; asked before JAX is imported."""

import importlib.util

from ssl_jax.errors import UserError

NEEDED = {
  'onnx': ('ONNX', ('onnx',)),
  'bioimage': ('A package of the BioImage Model Zoo', ('onnx', 'bioimageio.spec')),
}
"""By format: what it is called, and its packages, of the extra `export`."""


def check(format_name: str) -> None:
  """Checks that the packages which write a format are installed.

  Raises:
    UserError: saying how to install them.
  """
  what, packages = NEEDED.get(format_name, ('', ()))
  for package in packages:
    if not _is_installed(package):
      raise UserError(
        f'{what} needs the package {package}, which is not installed; in your clone of '
        "ssl_jax, pip install -e '.[export]'."
      )


def _is_installed(package: str) -> bool:
  try:
    return importlib.util.find_spec(package) is not None
  except ModuleNotFoundError:  # the package that this one is a part of
    return False
