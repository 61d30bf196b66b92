"""Files of instance masks: read as ids, and looked through once before a training begins."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from jaxtyping import Integer, UInt8
from skimage import measure

from ssl_jax.data import image_source
from ssl_jax.data.image_mask_pairs import ImageFile
from ssl_jax.data.image_source import ReadIds, Roles
from ssl_jax.data.masks import instances
from ssl_jax.errors import UserError
from ssl_jax.io import images, masks
from ssl_jax.io.formats import nifti_geometry, tiff_decoding
from ssl_jax.types import IGNORE, Draw, Source, Splits

ONE_PLANE = (
  'an instance mask has one plane, in which each pixel belongs to one object; objects that overlap '
  'cannot be learned with data.instances=True.'
)


class InstanceMasks(NamedTuple):
  """How the masks of a data set are read, and what the user should know of them."""

  read: ReadIds
  notes: list[str]
  regions: bool = False  # whether each connected region is an instance, whatever its id
  classes: tuple[str, ...] = instances.CLASSES


def read_ids(path: Path) -> Integer[np.ndarray, 'h w']:
  """Reads the ids of a mask image as its file holds them.

  Raises:
    UserError: if it cannot be read, has several planes, or holds negative ids.
  """
  try:
    ids = masks.read_mask(path)
  except UserError as error:
    if planes := _planes(path):
      raise UserError(f'{path} holds {planes}: {ONE_PLANE}') from error
    raise
  return _whole(ids, path)


def _planes(path: Path) -> str:
  """What a mask file holds beside its first plane; empty where nothing, or where it is unclear."""
  try:
    with tifffile.TiffFile(path) as tif:
      shape = tiff_decoding.find_series(tif, str(path)).shape
      return f'{len(shape)} axes {shape}' if len(shape) > 2 else ''
  except Exception:  # no TIFF, or a broken one, of which the first message tells
    pass
  try:
    colors = images.read_image(path).shape[-1]
  except UserError:
    return ''
  # A JPEG was refused because it is one.
  is_jpeg = path.suffix.lower() in ('.jpg', '.jpeg')
  return f'{colors} channels that differ' if colors > 1 and not is_jpeg else ''


def _whole(ids: np.ndarray, path: Path) -> Integer[np.ndarray, '*space']:
  if ids.min(initial=0) < 0:
    raise UserError(f'{path} holds the negative id {ids.min()}; number instances from 1, 0 = none.')
  return ids


def read_volume_ids(path: Path) -> Integer[np.ndarray, 'x y z']:
  """Reads the ids of a NIfTI mask in RAS+ as its file holds them.

  Raises:
    UserError: if it cannot be read, has a fourth axis, or holds anything but whole numbers from 0.
  """
  shape = nifti_geometry.load_header(path).shape
  if len(shape) > 3 and max(shape[3:]) > 1:
    raise UserError(f'{path} has the shape {shape}: {ONE_PLANE.replace("pixel", "voxel")}')
  return _whole(masks.read_mask(path), path)


class _Looked(NamedTuple):
  """What a look at all masks found."""

  count: int  # instances
  values: int  # the most different ids of a mask
  pieces: int  # connected pieces of them
  with_ignore: Path | None  # a mask in which 255 stands apart from all other ids


def _look(paths: Sequence[Path], masks: Iterable[np.ndarray]) -> _Looked:
  count = values = pieces = 0
  with_ignore = None
  for path, ids in zip(paths, masks, strict=True):
    present = np.unique(ids[ids > 0])
    count += len(present)
    values = max(values, len(present))
    pieces += int(measure.label(ids, background=0, connectivity=ids.ndim).max())
    if len(present) > 1 and present[-1] == IGNORE and present[-2] < IGNORE - 1:
      with_ignore = path
  return _Looked(count, values, pieces, with_ignore)


def look_through(
  paths: Sequence[Path],
  read: ReadIds,
  classes: int | Sequence[str] | None = None,
  values: Any = None,
) -> InstanceMasks:
  """Looks at all masks of a data set once, and says how they are read from then on.

  Args:
    paths: of the masks of all splits.
    read: reads a mask as its file holds it.
    classes: `data.classes`, which instances leave no room for.
    values: `data.values`, for which the same is true.

  Raises:
    UserError: if there is no instance at all, or the user names classes or values.
  """
  if values:
    raise UserError(
      'data.values says what values of masks of classes mean, and with data.instances=True each is '
      'an object; leave one of the two out.'
    )
  if classes is not None and (isinstance(classes, int) or len(classes)):
    raise UserError(
      f'data.classes={classes!r} cannot be with data.instances=True, whose classes are '
      f'{", ".join(instances.CLASSES)}; leave one of the two out.'
    )
  looked = _look(paths, map(read, paths))
  if not looked.count:
    raise UserError(
      f'No mask holds an instance (such as {paths[0]}), which leaves nothing to learn; check that '
      'they are the right files.'
    )
  if looked.values == 1:
    # Masks that tell objects from the background alone.

    def read_regions(path: Path) -> Integer[np.ndarray, '*space']:
      ids = read(path)
      return instances.compact(measure.label(ids > 0, connectivity=ids.ndim))

    note = (
      f'no mask holds more than one id: each of {looked.pieces} connected regions is taken for an '
      'instance, objects that touch for one'
    )
    return InstanceMasks(read_regions, [note], regions=True)
  notes = [
    f'masks hold {looked.count} instances; the network learns background, body and border (the rim '
    'of each)'
  ]
  if looked.pieces > looked.count:
    notes.append(
      f'{looked.count} ids are in {looked.pieces} connected pieces, and each piece will be found '
      'as an instance of its own; if these are classes, leave data.instances out'
    )
  if looked.with_ignore is not None:
    notes.append(
      f'{looked.with_ignore} holds {IGNORE}, which is taken for an id like any other and is not '
      'ignored'
    )
  return InstanceMasks(lambda path: instances.compact(read(path)), notes)


def look_through_images(
  files: Iterable[ImageFile],
  classes: int | Sequence[str] | None = None,
  read: ReadIds = read_ids,
  values: Any = None,
) -> InstanceMasks:
  """As `look_through`, of images, whose masks must have their size.

  Raises:
    UserError: as `look_through` does, or if a mask has another size than its image.
  """
  with_masks = [file for file in files if file.mask is not None]
  file_of = {file.mask: file for file in with_masks}

  def checked(path: Path) -> Integer[np.ndarray, 'h w']:
    ids = read(path)
    header = file_of[path].header
    height, width = header.height, header.width
    if file_of[path].upright_shape(ids.shape) != (height, width):
      raise UserError(
        f'{path} is {ids.shape[0]} x {ids.shape[1]} pixels but its image is {height} x {width}; '
        'make the sizes equal.'
      )
    return ids

  return look_through([path for path in file_of if path], checked, classes, values)


def make_splits(
  files: Roles,
  masks: InstanceMasks,
  percentiles: Sequence[float | int],
  notes: Sequence[str],
  min_size: int | None,
  draw: Draw,
) -> Splits:
  """Makes a data set of images with instance masks.

  Args:
    files: of 'labeled', 'unlabeled', 'val' and 'test'.
    masks: how they are read.
    percentiles: of the raw values of training images; they become 0 and 1.
    notes: what the user should know.
    min_size: pixels of the smallest instance; None: instances.least_size of the labeled images.
    draw: how labeled and test images were drawn.

  Raises:
    UserError: if images cannot be of one data set, or min_size is below 1.
  """
  sources = image_source.make_sources(files, _no_classes, percentiles, masks.read)
  splits = image_source.make_splits(sources, instances.CLASSES, notes)
  return mark(splits._replace(draw=draw), min_size)


def _no_classes(path: Path) -> UInt8[np.ndarray, 'h w']:
  raise ValueError(f'{path} is read as instances')  # an error of the program


def look_through_volumes(
  paths: Sequence[Path | None], classes: int | Sequence[str] | None = None, values: Any = None
) -> InstanceMasks:
  """As `look_through`, of NIfTI masks.

  Raises:
    UserError: as `look_through` does.
  """
  known = [path for path in paths if path is not None]
  return look_through(known, read_volume_ids, classes, values)


def mark(splits: Splits, min_size: int | None, labeled: Source | None = None) -> Splits:
  """Returns a data set whose records have 'instances', marked as one of instances.

  Args:
    splits: its classes are instances.CLASSES.
    min_size: pixels or voxels; None: instances.least_size of the labeled images.
    labeled: whole volumes, where `splits.labeled` are slices of them.

  Raises:
    UserError: if min_size is below 1.
  """
  notes = splits.notes
  if min_size is None:
    # Of the labeled images alone: those of val and test must not influence a prediction.
    whole = labeled or splits.labeled
    found = [instances.sizes(whole[i]['instances']) for i in range(len(whole))]
    min_size = instances.least_size(np.concatenate(found))
    notes = (*notes, f'predicted instances of fewer than {min_size} pixels or voxels are dropped')
  if min_size < 1:
    raise UserError(f'data.min_size={min_size} is not at least 1.')
  return splits._replace(
    instances={'min_size': float(min_size)},
    notes=notes,
    digest=f'{splits.digest} instances',
  )
