"""Two panels in napari: predict the open layer with a run, and save the corrected mask as a label.

napari makes the panels from the annotations below (napari.yaml lists the functions), so nothing of
napari is imported here.
"""

import functools
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tifffile
from jaxtyping import Integer, Num

from ssl_jax.data import dataset_stats
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference import instances, predict_folder
from ssl_jax.inference.images import predict_many
from ssl_jax.io import atomic, images
from ssl_jax.types import CELLS, PredictFn


def predict_layer(
  layer: 'napari.layers.Image',  # pyrefly: ignore[unknown-name]
  run: Annotated[Path, {'mode': 'd', 'label': 'run folder'}],
) -> 'napari.types.LayerDataTuple':  # pyrefly: ignore[unknown-name]
  """Returns the mask of an image layer as a layer of labels, to be corrected.

  Raises:
    UserError: if the run is not one of images with masks, or the image is of another kind.
  """
  predict_fn, stats = _network(str(run))
  ids = predicted_mask(pixels_of(layer), predict_fn, stats, layer.name)
  # napari edits whole numbers of any kind; 32 bits leave room for new objects.
  return ids.astype(np.int32), {'name': f'{layer.name} mask', 'scale': layer.scale}, 'labels'


def save_label(
  image: 'napari.layers.Image',  # pyrefly: ignore[unknown-name]
  mask: 'napari.layers.Labels',  # pyrefly: ignore[unknown-name]
  folder: Annotated[Path, {'mode': 'd', 'label': 'labeled folder'}],
) -> str:
  """Saves an image and its mask into images/ and masks/ of a folder; returns what was saved.

  Raises:
    UserError: if there is such a label already, or the mask is no mask of this image.
  """
  ids = np.asarray(mask.data)
  pixels = pixels_of(image)
  if ids.shape != pixels.shape[:2]:
    raise UserError(f'{mask.name} is not as large as {image.name}; choose the mask of this image.')
  source = Path(image.source.path) if image.source.path else None
  name = source.stem if source else image.name
  # PNG holds ids up to 255; of objects there may be more.
  mask_file = folder / 'masks' / f'{name}{".png" if ids.max() < 255 else ".tif"}'
  image_file = folder / 'images' / (source.name if source else f'{name}.tif')
  for path in (mask_file, image_file):
    # A copy of the image that suggest has put there is this image.
    if path.exists() and not (source and path == image_file and path.samefile(source)):
      raise UserError(f'{path} is there already and stays as it is; choose another folder.')
    path.parent.mkdir(parents=True, exist_ok=True)
  if not image_file.exists():
    with atomic.replacing(image_file) as temporary:
      if source:
        shutil.copy2(source, temporary)
      else:
        tifffile.imwrite(temporary, np.squeeze(pixels, -1) if pixels.shape[-1] == 1 else pixels)
  if mask_file.suffix == '.png':
    images.write_mask(mask_file, ids.astype(np.uint8))
  else:
    instances.write_labels(mask_file, ids)
  return f'saved {mask_file}'


def pixels_of(layer: Any) -> Num[np.ndarray, 'h w c']:
  """Returns the pixels of an image layer, without transparency.

  Raises:
    UserError: if it is no single image.
  """
  pixels = np.asarray(layer.data)
  if pixels.ndim != 2 + bool(layer.rgb):
    raise UserError(
      f'{layer.name} is a stack or a volume; open one image, or use ssl-jax predict for volumes.'
    )
  return pixels[..., :3] if layer.rgb else pixels[..., None]


def predicted_mask(
  pixels: Num[np.ndarray, 'h w c'], predict_fn: PredictFn, stats: DatasetStats, name: str
) -> Integer[np.ndarray, 'h w']:
  """Returns class ids, or ids of objects where the run learned these, as `predict` writes them.

  Raises:
    UserError: naming the image, if it is of another kind than those of the training.
  """
  prepared = dataset_stats.preprocess_image(pixels, stats, name)
  [(_, probs)] = predict_many(predict_fn, [prepared], batch=1)
  if probs.shape[:2] != pixels.shape[:2]:  # training saw its images at another scale
    probs = images.resize(probs, pixels.shape[:2], smooth=True)
  if stats.instances is not None:
    return instances.separate(probs, instances.native_min_size(stats))
  return probs.argmax(-1)


@functools.lru_cache(2)  # many images are predicted with one run
def _network(run: str) -> tuple[PredictFn, DatasetStats]:
  predict_fn, stats, _ = predict_folder.load(Path(run))
  if stats.task == CELLS or stats.preprocessing is not None:
    raise UserError(f'{run} is no run of images with masks; use ssl-jax predict for this one.')
  return predict_fn, stats
