"""The folder of an export; each file in it is asked once and must say the same as `predict`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from absl import logging

from ssl_jax import build, parallel
from ssl_jax.errors import UserError
from ssl_jax.exports import bioimage_package, equality, exported_network, onnx_file, stablehlo_files
from ssl_jax.exports.bioimage_package import Details
from ssl_jax.exports.exported_network import Network
from ssl_jax.types import CELLS


def export(options: argparse.Namespace, formats: Sequence[str]) -> int:
  """Writes a network in some formats and says what was written; returns the exit code.

  Args:
    options: what `export` was called with.
    formats: of `ssl_jax.export.FORMATS`.

  Raises:
    UserError: if the run has no network yet, or it cannot be written in a format.
  """
  logging.set_verbosity(logging.FATAL)  # checkpointing warns that it may not write
  build.keep_compiled()
  parallel.check_devices()
  network, files = _write(options, formats)
  _say(network, options.out, files)
  return 0


def _write(
  options: argparse.Namespace, formats: Sequence[str]
) -> tuple[Network, dict[str, list[str]]]:
  """Writes all files; returns the network, and the names of the files by format."""
  network = exported_network.load(options.run, options.seeds == 'all')
  is_of_images = network.window is None and network.stats.preprocessing is None
  if 'bioimage' in formats and not is_of_images:
    raise UserError(
      f'The network of {options.run} was trained on volumes or patches, and packages of the '
      'BioImage Model Zoo are written for images; use --format=stablehlo or --format=onnx.'
    )
  example = equality.read_example(options.example, network)
  options.out.mkdir(parents=True, exist_ok=True)
  files: dict[str, list[str]] = {}
  for name in formats:
    print(f'Writes {name} ...', flush=True)
    if name == 'stablehlo':
      files[name] = stablehlo_files.write(network, options.out)
    elif name == 'onnx':
      files[name] = onnx_file.write(network, options.out)
    else:
      details = Details(options.name or _name_of(options.run), options.author, options.license)
      probs = equality.predicted(network, example)
      files[name] = bioimage_package.write(network, details, example, probs, options.out)
    difference = equality.check(name, network, example, options.out, files[name])
    if difference is None:
      print('Note: this file was not tried, because onnxruntime is not installed.')
    else:
      print(
        f'Probabilities of an example differ from those of predict by at most {difference:.1e}.'
      )
  return network, files


def _name_of(run: Path) -> str:
  """A name for a model, from the folder of its run."""
  return f'ssl_jax {run.resolve().name}'


def _say(network: Network, out: Path, files: dict[str, list[str]]) -> None:
  """Prints what was written, and what it means."""
  for name in [file for of_format in files.values() for file in of_format]:
    print(f'{out / name} ({(out / name).stat().st_size / 1024:.0f} KiB)')
  folders = ', '.join(map(str, network.folders))
  mean = 'The mean of the networks' if len(network.folders) > 1 else 'The network'
  print(f'{mean} of {folders}')
  print('Classes: ' + ', '.join(f'{i} {name}' for i, name in enumerate(network.stats.classes)))
  if network.window is not None:
    kind = 'patches' if network.stats.task == CELLS else 'windows'
    print(f'It takes {kind} of {" x ".join(map(str, network.window))} (docs/export.md).')
  if network.stats.instances is not None:
    print('Note: objects are separated by predict, after the network; these files give classes.')
