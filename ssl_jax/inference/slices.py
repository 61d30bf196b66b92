"""Class ids of volumes from a network of two dimensions: slice by slice, stacked again."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Num, UInt8

from ssl_jax.data.volumes.slice_source import resize_ids, resize_image
from ssl_jax.inference.images import TILE_MULTIPLE, ImagePredictor, predict_many
from ssl_jax.io import images
from ssl_jax.types import PredictFn


def predict_volumes(
  predict_fn: PredictFn,
  volumes: Iterable[np.ndarray],
  size: Sequence[int] | None = None,
) -> Iterator[tuple[int, UInt8[np.ndarray, 'z y x'], Float[np.ndarray, 'z y x']]]:
  """Yields (index, class ids, probabilities of these classes) of volumes, not always in order.

  Both are decided at the size at which the network sees the slices, and brought back to the
  volume's own (nearest), so that no volume's probabilities of all classes are held in memory.

  Args:
    predict_fn: gives the class probabilities [B, y, x, classes] of slices.
    volumes: [z, y, x, C], in [0, 1].
    size: rows and columns that slices are resized to; None: as it is.
  """
  # Volumes of which slices are still waiting: index -> ids, probabilities, slices left.
  waiting: dict[int, tuple[np.ndarray, np.ndarray, list[int]]] = {}
  places: list[tuple[int, int]] = []

  def slices() -> Iterator[np.ndarray]:
    # Of all volumes in one go: slices of one shape fill their batches together.
    for index, volume in enumerate(volumes):
      shape = volume.shape[:3]
      waiting[index] = np.zeros(shape, np.uint8), np.zeros(shape, np.float32), [*range(shape[0])]
      for z, image in enumerate(volume):
        places.append((index, z))
        yield resize_image(image, size)

  for number, probs in predict_many(_of_few_shapes(predict_fn), slices()):
    index, z = places[number]
    ids, confidence, left = waiting[index]
    native = ids.shape[1:]
    ids[z] = resize_ids(probs.argmax(-1).astype(np.uint8), native)
    confidence[z] = _nearest(np.asarray(probs.max(-1), np.float32), native)
    left.remove(z)
    if not left:
      del waiting[index]
      yield index, ids, confidence


def predict_probabilities(
  predict_fn: PredictFn,
  volume: Num[np.ndarray, 'z y x c'],
  size: Sequence[int] | None = None,
  smooth: bool = True,
) -> Float[np.ndarray, 'z y x k']:
  """Returns the class probabilities of a volume, at its own size.

  Args:
    predict_fn: as `predict_volumes` has it.
    volume: in [0, 1].
    size: rows and columns that slices are resized to; None: as it is.
    smooth: whether they are brought back by linear interpolation; else as `predict_volumes` does.
  """
  planes: dict[int, np.ndarray] = {}
  inputs = (resize_image(image, size) for image in volume)
  for z, probs in predict_many(_of_few_shapes(predict_fn), inputs):
    resized = probs.shape[:2] != volume.shape[1:3]
    planes[z] = images.resize(probs, volume.shape[1:3], smooth) if resized else probs
  return np.stack([planes[z] for z in range(len(volume))])


def _nearest(plane: Float[np.ndarray, 'h w'], size: Sequence[int]) -> Float[np.ndarray, 'y x']:
  return plane if plane.shape == tuple(size) else images.resize(plane, size, smooth=False)


def _of_few_shapes(predict_fn: PredictFn) -> PredictFn:
  """The predict function, whose slices are padded to multiples of TILE_MULTIPLE if they may be."""
  # Volumes of a clinic have dozens of sizes, each of which would be compiled.
  if not isinstance(predict_fn, ImagePredictor) or predict_fn.multiple == 1:
    return predict_fn
  return predict_fn._replace(multiple=math.lcm(predict_fn.multiple, TILE_MULTIPLE))
