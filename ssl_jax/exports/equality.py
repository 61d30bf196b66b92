"""Whether exported files say the same as `predict`: each is asked about one image."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax import export
from jaxtyping import Float, Num

from ssl_jax.data import dataset_stats
from ssl_jax.data.volume_preprocessing import VolumePreprocessing, scale_window
from ssl_jax.errors import UserError
from ssl_jax.exports import bioimage_package, onnx_file
from ssl_jax.exports.exported_network import Member, Network
from ssl_jax.inference.images import predict_many
from ssl_jax.inference.patches import predict_patches
from ssl_jax.io import images
from ssl_jax.types import CELLS

EXAMPLE = 256
"""Pixels of the longest side of an example; of larger images the middle is taken."""

TOLERANCE = 1e-3
"""Difference of probabilities beyond which an exported file is refused; rounding makes 1e-6."""


def read_example(path: Path | None, network: Network) -> Num[np.ndarray, '*space c']:
  """Returns an image as its file holds it, or at most the middle of it; without a file, noise.

  Raises:
    UserError: if it cannot be read, or is of another kind than the run learned from.
  """
  if path is None:
    return _noise(network)
  name, stats = str(path), network.stats
  pixels, header = images.decode_image_and_header(images.read_bytes(path), name)
  for change in dataset_stats.check_image(pixels, header, stats, name):
    print(f'Note: {path.name}: {change}.')
  pixels = images.to_channels(pixels, stats.channels, name)
  tops = [max(side - EXAMPLE, 0) // 2 for side in pixels.shape[:2]]
  return np.ascontiguousarray(pixels[tops[0] :, tops[1] :][:EXAMPLE, :EXAMPLE])


def _noise(network: Network) -> np.ndarray:
  """An image of the training's kind of numbers and brightness, with odd sides."""
  stats, dtype = network.stats, network.dtypes()[0]
  by_range = stats.intensity is not None and dtype != 'uint8'
  ranges = np.asarray(stats.intensity if by_range else (0, 255), np.float64)
  low, high = ranges.reshape(-1, 2).T
  if stats.preprocessing is not None:
    pairs = VolumePreprocessing(**stats.preprocessing).window_pairs() or [(0.0, 1.0)]
    low, high = np.asarray(pairs, np.float64).T
  # Odd sides, where any will do.
  size = *(network.window or (75, 61)), stats.channels
  return np.random.default_rng(0).uniform(low, high, size).astype(dtype)


def predicted(
  network: Network, pixels: Num[np.ndarray, '*space c']
) -> Float[np.ndarray, '*out classes']:
  """Returns the class probabilities of an image as `predict` computes them.

  Of volumes the image is a window of them; of cells a patch, whose probabilities are [classes].
  """
  answers = []
  for member in network.members:
    if network.window is not None or member.stats.preprocessing is not None:
      answers.append(_of_prepared(member, pixels))
      continue
    prepared = dataset_stats.preprocess_image(pixels, member.stats, 'the example')
    [(_, probs)] = predict_many(member.predict_fn, [prepared])
    if probs.shape[:2] != pixels.shape[:2]:  # training saw its images at another scale
      probs = images.resize(probs, pixels.shape[:2], smooth=True)
    answers.append(probs)
  return np.mean(answers, 0)


def _of_prepared(member: Member, pixels: np.ndarray) -> np.ndarray:
  """The class probabilities of a window, a slice, or a patch."""
  if member.stats.task == CELLS:
    prepared = dataset_stats.preprocess_image(pixels, member.stats, 'the example')
    probs, _ = predict_patches(member.predict_fn, prepared[None], 1)
    return np.asarray(probs[0])
  preprocessing = VolumePreprocessing(**(member.stats.preprocessing or {}))
  prepared = pixels
  if pairs := preprocessing.window_pairs():
    channels = []
    for number in range(pixels.shape[-1]):
      low, high = pairs[number % len(pairs)]
      channel = np.atleast_3d(pixels[..., number])
      scaled = scale_window(channel, low, high, preprocessing.clip)
      channels.append(scaled.reshape(pixels.shape[:-1]))
    prepared = np.stack(channels, -1)
  if prepared.ndim == 4:
    return np.asarray(member.predict_fn(prepared[None])[0])
  [(_, probs)] = predict_many(member.predict_fn, [prepared])
  return probs


def check(
  kind: str, network: Network, example: np.ndarray, out: Path, files: Sequence[str]
) -> float | None:
  """Returns how far probabilities of a file are from those of `predict`, at most.

  None where the package that runs ONNX is not installed.

  Args:
    kind: format of the files.
    network: that was exported.
    example: an image as its file holds it.
    out: folder of the files.
    files: their names.

  Raises:
    UserError: if they differ by more than TOLERANCE; then the files are deleted.
  """
  if kind == 'stablehlo':
    probs = _ask_stablehlo(network, out / files[0], example)
  elif kind == 'onnx':
    probs = ask_onnx((out / onnx_file.FILE).read_bytes(), example)
  else:
    with zipfile.ZipFile(out / bioimage_package.FILE) as package:
      probs = ask_onnx(package.read(bioimage_package.WEIGHTS), example)
  if probs is None:
    return None
  difference = float(np.abs(probs - predicted(network, example)).max())
  # `not <=`, so that NaN is refused as well.
  if not difference <= TOLERANCE:
    for name in files:
      (out / name).unlink()
    raise UserError(
      f'The {kind} files were deleted, because their probabilities are up to {difference:.2g} away '
      'from those of predict; please report this, with config.json of the run.'
    )
  return difference


def _ask_stablehlo(network: Network, path: Path, example: np.ndarray) -> np.ndarray:
  program = export.deserialize(bytearray(path.read_bytes()))
  probs, _ = jax.jit(program.call)(dict(network.weights), example[None])
  return np.asarray(probs[0])


def ask_onnx(
  model: bytes, pixels: Num[np.ndarray, '*space c']
) -> Float[np.ndarray, '*out classes'] | None:
  """Returns the class probabilities of a model of ONNX; None where nothing can run it."""
  try:
    import onnxruntime
  except ImportError:
    return None
  session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
  channels_first = np.moveaxis(pixels, -1, 0)[None].astype(np.float32)
  probs = session.run([onnx_file.OUTPUT], {onnx_file.INPUT: channels_first})[0]
  return np.moveaxis(probs[0], 0, -1)
