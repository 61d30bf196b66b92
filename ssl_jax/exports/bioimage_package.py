"""Export as a package of the BioImage Model Zoo, which ilastik, deepImageJ and QuPath open."""

import ast
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Num
from PIL import Image

from ssl_jax import registry
from ssl_jax.errors import UserError
from ssl_jax.exports import needed_packages, onnx_file
from ssl_jax.exports.exported_network import Network
from ssl_jax.exports.onnx_file import INPUT, OUTPUT
from ssl_jax.exports.onnx_graph import OPSET
from ssl_jax.io import atomic, images

FILE = 'bioimage.zip'

WEIGHTS = 'weights.onnx'
"""In the package."""

SMALLEST = 64
"""Pixels of the shortest side that other programs should give it; there is no largest."""

COVER = 512
"""Pixels of the longest side of the picture of a package."""


class Details(NamedTuple):
  """What a package must say that no run knows."""

  name: str
  authors: Sequence[str]
  license: str  # by its SPDX identifier


def write(
  network: Network,
  details: Details,
  example: Num[np.ndarray, 'h w c'],
  probs: Float[np.ndarray, 'h w classes'],
  out: Path,
) -> list[str]:
  """Writes the package with the network as ONNX; returns the name of the file.

  Args:
    network: to export.
    details: that the package says.
    example: an image as its file holds it, which is the package's test.
    probs: its prediction.
    out: folder to write to.

  Raises:
    UserError: if a package is missing, or the details are not as the zoo wants them.
  """
  needed_packages.check('bioimage')
  from bioimageio import spec
  from pydantic import ValidationError

  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    model = onnx_file.to_model(network, with_mask=False)
    (folder / WEIGHTS).write_bytes(model.SerializeToString())
    # Channels first, as other programs have them: [1, C, H, W].
    np.save(folder / 'test_input.npy', np.moveaxis(example, -1, 0)[None].astype(np.float32))
    np.save(folder / 'test_output.npy', np.moveaxis(probs, -1, 0)[None].astype(np.float32))
    _write_cover(folder / 'cover.png', example, probs)
    (folder / 'documentation.md').write_text(_documentation(network, details))
    try:
      description = _description(network, details, folder)
    except ValidationError as error:
      first = error.errors()[0]
      where = '.'.join(map(str, first['loc']))
      raise UserError(
        f'The BioImage Model Zoo refuses {where}={first["input"]!r}: {first["msg"]}.'
      ) from error
    with atomic.replacing(out / FILE) as temporary:
      spec.save_bioimageio_package(description, output_path=temporary)
  return [FILE]


def _description(network: Network, details: Details, folder: Path) -> Any:
  from bioimageio.spec.model import v0_5 as zoo

  def file(name: str) -> Any:
    return zoo.FileDescr(source=folder / name)

  def named(names: Sequence[str]) -> Any:
    return zoo.ChannelAxis(channel_names=[zoo.Identifier(name) for name in names])

  stats = network.stats
  size = zoo.ParameterizedSize(min=SMALLEST, step=1)
  pixels = zoo.InputTensorDescr(
    id=zoo.TensorId(INPUT),
    description='Pixels as image files hold them; brightness is normalized inside the network.',
    axes=[
      zoo.BatchAxis(),
      named([f'channel{number}' for number in range(stats.channels)]),
      *(zoo.SpaceInputAxis(id=zoo.AxisId(axis), size=size) for axis in 'yx'),
    ],
    test_tensor=file('test_input.npy'),
  )

  def same_as_input(axis: str) -> Any:
    size = zoo.SizeReference(tensor_id=zoo.TensorId(INPUT), axis_id=zoo.AxisId(axis))
    return zoo.SpaceOutputAxis(id=zoo.AxisId(axis), size=size)

  classes = zoo.OutputTensorDescr(
    id=zoo.TensorId(OUTPUT),
    description='Probability of each class.',
    axes=[
      zoo.BatchAxis(),
      named([_identifier(name, number) for number, name in enumerate(stats.classes)]),
      *map(same_as_input, 'yx'),
    ],
    test_tensor=file('test_output.npy'),
  )
  weights = zoo.OnnxWeightsDescr(source=folder / WEIGHTS, opset_version=OPSET)
  return zoo.ModelDescr(
    name=details.name,
    description=f'Segmentation into {", ".join(stats.classes)}.',
    authors=[zoo.Author(name=author) for author in details.authors],
    license=details.license,
    cite=[
      zoo.CiteEntry(text=text, url=f'https://arxiv.org/abs/{number}')
      for text, number in _papers(network)
      if number
    ],
    covers=[file('cover.png')],
    documentation=file('documentation.md'),
    tags=['semantic-segmentation', 'segmentation', '2d', 'semi-supervised', 'ssl_jax', 'jax'],
    inputs=[pixels],
    outputs=[classes],
    weights=zoo.WeightsDescr(onnx=weights),
  )


def _identifier(name: str, number: int) -> str:
  """The name of a class as an identifier: letters, digits and underscores."""
  plain = re.sub(r'\W+', '_', name, flags=re.ASCII).strip('_').lower()
  return plain if plain.isidentifier() else f'class{number}'


def _papers(network: Network) -> list[tuple[str, str]]:
  """What the files of methods and network say of their papers, and the number at arXiv or ''."""
  settings = network.settings
  parts = [('models', settings.model.name), *(('methods', name) for name in settings.methods)]
  papers = []
  for kind, part in parts:
    try:
      docstring = ast.get_docstring(ast.parse(registry.path(kind, part).read_text())) or ''
    except UserError:
      # A plug-in of the user's that does not lie here.
      continue
    text = ' '.join(docstring.split('\n\n')[0].split() + docstring.split('\n\n')[1:2])
    number = re.search(r'arXiv:(\d+\.\d+)', text)
    papers.append((' '.join(text.split()), number.group(1) if number else ''))
  return papers


def _write_cover(path: Path, example: np.ndarray, probs: np.ndarray) -> None:
  """The image, and beside it the image with its mask."""
  mask = probs.argmax(-1).astype(np.uint8)
  both = np.concatenate([images.to_rgb(example), images.overlay(example, mask)], 1)
  picture = Image.fromarray(both)
  picture.thumbnail((2 * COVER, COVER))
  picture.save(path)


def _documentation(network: Network, details: Details) -> str:
  stats = network.stats
  classes = '\n'.join(f'- channel {number}: {name}' for number, name in enumerate(stats.classes))
  counts = ', '.join(f'{count} {split}' for split, count in stats.counts.items())
  papers = '\n'.join(f'- {text}' for text, _ in _papers(network))
  kinds = ' or '.join(network.dtypes())
  return f"""# {details.name}

A network for the segmentation of images with {stats.channels} channel(s), trained with ssl_jax on
labeled and unlabeled images ({counts}).

## Input

Pixels as the files hold them ({kinds}), as float32, of any size. Do not normalize them: brightness,
padding{', scaling' if stats.scale != 1 else ''} and standardization are inside the network.

## Output

The probability of each class; the class of a pixel is the channel with the largest one.

{classes}

## Validation

Compare the masks with some that you have drawn yourself before you rely on them: images from
another microscope, stain or tissue than those of the training may need a training of their own.

## Papers

{papers}

The network is licensed under {details.license}.
"""
