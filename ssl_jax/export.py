"""A trained network for other programs: `python -m ssl_jax.export --run=RUN --out=OUT`.

As StableHLO (JAX, without ssl_jax), as ONNX, or as a package of the BioImage Model Zoo. Each file
that is written is asked once and must say the same as `predict`.
"""

import argparse
import sys
from pathlib import Path

from absl import logging

from ssl_jax import (
  build,
  export_bioimage,
  export_check,
  export_network,
  export_onnx,
  export_stablehlo,
  parallel,
)
from ssl_jax.errors import UserError
from ssl_jax.export_bioimage import Details
from ssl_jax.export_network import Network
from ssl_jax.io import listing, terminal
from ssl_jax.types import CELLS

FORMATS = ('stablehlo', 'onnx', 'bioimage')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'python -m ssl_jax.export', description='Writes a trained network for other programs.'
  )
  add = parser.add_argument
  add('run_and_out', nargs='*', type=listing.expand, metavar='RUN OUT', help='the same as below')
  add('--run', type=listing.expand, help='run, stage or seed folder')
  add('--out', type=listing.expand, help='folder to write to, new or empty')
  add(
    '--format',
    choices=(*FORMATS, 'all'),
    default='stablehlo',
    help='what to write (default: %(default)s)',
  )
  add(
    '--seeds',
    choices=('first', 'all'),
    default='first',
    help='the network of the first seed, or the mean of all (default: %(default)s)',
  )
  add('--example', type=listing.expand, help='bioimage: an image, for the test and the picture')
  add('--license', help='bioimage: of the network, for example CC-BY-4.0')
  add('--author', action='append', help='bioimage: your name; may be given several times')
  add('--name', help='bioimage: of the model (default: the name of the run)')
  return parser


def _check(options: argparse.Namespace) -> None:
  """Fills in RUN and OUT; raises UserError for what is missing or cannot be."""
  places = list(options.run_and_out)
  for name in ('run', 'out'):
    if getattr(options, name) is None and places:
      setattr(options, name, places.pop(0))
    if getattr(options, name) is None:
      raise UserError(f'--{name} is missing; give `--run=RUN --out=OUT`.')
  if places:
    raise UserError(f'{places[0]} is one folder too many; give `--run=RUN --out=OUT`.')
  if 'bioimage' in _formats(options):
    for name, value in (('example', 'IMAGE'), ('license', 'CC-BY-4.0'), ('author', '"Ada Byron"')):
      if not getattr(options, name):
        raise UserError(
          f'A package of the BioImage Model Zoo needs --{name}, for example --{name}={value}.'
        )
    export_bioimage.check_packages()
  if 'onnx' in _formats(options):
    export_onnx.check_package('onnx', 'ONNX')
  out = options.out
  if out.exists() and (not out.is_dir() or any(out.iterdir())):
    raise UserError(f'--out={out} exists and is not an empty folder; give a new one.')


def _formats(options: argparse.Namespace) -> tuple[str, ...]:
  return FORMATS if options.format == 'all' else (options.format,)


def _write(options: argparse.Namespace) -> tuple[Network, dict[str, list[str]]]:
  """Writes all files; returns the network, and the names of the files by format."""
  network = export_network.load(options.run, options.seeds == 'all')
  is_of_images = network.window is None and network.stats.preprocessing is None
  if 'bioimage' in _formats(options) and not is_of_images:
    raise UserError(
      f'The network of {options.run} was trained on volumes or patches, and packages of the '
      'BioImage Model Zoo are written for images; use --format=stablehlo or --format=onnx.'
    )
  example = export_check.read_example(options.example, network)
  options.out.mkdir(parents=True, exist_ok=True)
  files: dict[str, list[str]] = {}
  for name in _formats(options):
    print(f'Writes {name} ...', flush=True)
    if name == 'stablehlo':
      files[name] = export_stablehlo.write(network, options.out)
    elif name == 'onnx':
      files[name] = export_onnx.write(network, options.out)
    else:
      details = Details(options.name or _name_of(options.run), options.author, options.license)
      probs = export_check.predicted(network, example)
      files[name] = export_bioimage.write(network, details, example, probs, options.out)
    difference = export_check.check(name, network, example, options.out, files[name])
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


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code."""
  options = _parser().parse_args(arguments)
  logging.set_verbosity(logging.FATAL)  # checkpointing warns that it may not write

  def export() -> int:
    _check(options)
    build.keep_compiled()
    parallel.check_devices()
    network, files = _write(options)
    _say(network, options.out, files)
    return 0

  return terminal.exit_code(export, 'delete --out and repeat the command')


if __name__ == '__main__':
  sys.exit(main())
