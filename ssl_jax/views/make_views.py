"""Makes the views that methods ask for, from streams of images, on the device inside the step.

A stream holds 'image' [B, *canvas, C] (uint8, uint16, or float32 in [0, 1]; smaller images lie at
the top-left), 'extent' [B, n] (native sizes) and perhaps 'label' [B, *canvas] (class ids). A
stream of patches may have one 'label' [B] for each patch, and the 'point' [B, n] of its cell.

A recipe names the `source` of a view, a stream or another view, and its augmentations; one that is
absent, None or 0 is off:

  views = dict(
    weak=dict(source='unlabeled', resize_long_side=128, scale=(0.5, 2.0), flip=0.5),
    strong=dict(
      source='weak',
      jitter=dict(p=0.8, brightness=0.5),
      cutmix=dict(p=0.5, area=(0.1, 0.5)),
    ),
  )

recipes.py lists them all. Geometric ones (GEOMETRIC, the arguments of affine.random_affine) say
which pixels are read; `prominence` chooses one of several random crops; photometric ones
(PHOTOMETRIC) follow, in the order in which they are listed there. A view of a view shares its
pixels. If it has geometric augmentations of its own, it is resampled, once, from the original
images.
"""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ssl_jax.errors import UserError
from ssl_jax.types import BACKGROUND, IGNORE, Key, Mix, View
from ssl_jax.views import affine, geometry, photometric
from ssl_jax.views.affine import Affine
from ssl_jax.views.randaugment import randaugment
from ssl_jax.views.recipes import (
  PHOTOMETRIC,
  Number,
  Recipe,
  Recipes,
  check_recipes,
  geometric_ops,
)

Stream = Mapping[str, Array]


def make_views(
  recipes: Recipes,
  streams: Mapping[str, Stream],
  size: int | Sequence[int],
  key: Key,
) -> dict[str, View]:
  """Makes all views that the recipes describe; a pure function, to be jitted.

  Each view, and each augmentation in it, draws from the key folded with its name: adding one
  leaves the others as they were.

  Args:
    recipes: names of views -> their recipes (see above).
    streams: names of streams -> their batches.
    size: size of the views in pixels; one number for all sides, or one for each.
    key: source of all random numbers.

  Returns:
    Names of views -> views.

  Raises:
    UserError: if a recipe is wrong, or asks for prominence where there are no masks.
  """
  views: dict[str, View] = {}
  # The stream whose images a stream or view shows.
  stream_of = {name: name for name in streams}
  for name in check_recipes(recipes, streams):
    recipe = recipes[name]
    source = recipe['source']
    stream = streams[stream_of[source]]
    n = stream['extent'].shape[-1]
    shape = (size,) * n if isinstance(size, int) else tuple(size)
    key_view = _fold(key, name)
    if source in streams:
      view = _view_of_stream(key_view, recipe, stream, shape)
    elif geometric_ops(recipe):
      view = _view_of_view(key_view, recipe, views[source], stream, shape)
    else:
      # It keeps the geometry object of its source too, so that geometry.warp need not resample.
      view = views[source]
    if name not in stream_of:  # a name that is both a view and a stream means the stream
      stream_of[name] = stream_of[source]
    views[name] = apply_photometric(key_view, view, recipe)
  return views


def _view_of_stream(key: Key, recipe: Recipe, stream: Stream, size: tuple[int, ...]) -> View:
  """Crops the images of a stream at random."""
  draw = functools.partial(
    affine.random_affine, extent=stream['extent'], size=size, **geometric_ops(recipe)
  )
  key_geometry = _fold(key, 'geometry')
  if not recipe.get('prominence'):
    return _resample(stream, draw(key_geometry), size)
  kwargs = _set_fields(recipe['prominence'])
  crop, passed = _prominent_crop(key_geometry, draw, stream, size, **kwargs)
  view = _resample(stream, crop, size)
  assert view.label is not None  # _prominent_crop has refused streams without masks
  lift = (slice(None),) + (None,) * len(size)
  # A crop that shows too little must not be learned from.
  return view.replace(label=jnp.where(passed[lift], view.label, IGNORE))


def _view_of_view(
  key: Key, recipe: Recipe, view: View, stream: Stream, size: tuple[int, ...]
) -> View:
  """Moves the pixels of a view, by reading the original images through the composed map."""
  b, n = stream['extent'].shape
  # The map is drawn as if the view were an image, and then followed by the view's own map.
  extent = jnp.broadcast_to(jnp.asarray(size, jnp.int32), (b, n))
  key_geometry = _fold(key, 'geometry')
  drawn = affine.random_affine(key_geometry, extent, size, **geometric_ops(recipe))
  return _resample(stream, affine.compose(view.geometry, drawn), size)


def _resample(stream: Stream, to_image: Affine, size: tuple[int, ...]) -> View:
  """Reads image, label and validity of a stream through an affine map: the one resampling."""
  image, extent, label = stream['image'], stream['extent'], stream.get('label')
  points = geometry.locate(to_image, size)
  valid = geometry.inside(points, extent)
  pixels = geometry.sample(image, points, extent, nearest=False)
  if jnp.issubdtype(image.dtype, jnp.integer):
    # Floats are in [0, 1] already.
    pixels = pixels / jnp.iinfo(image.dtype).max
  # A label per pixel; one per patch has no place, and stays as it is.
  if label is not None and label.ndim > 1:
    label = geometry.sample(label, points, extent, nearest=True).astype(jnp.int32)
    label = jnp.where(valid, label, IGNORE)
  # Sampling repeats the border beyond the image; padding is 0 instead.
  image = jnp.where(valid[..., None], pixels, 0)
  point = stream.get('point')
  if point is not None:
    # The map goes from the view to the image, and the point the other way.
    point = affine.apply(affine.invert(to_image), point)
  return View(image=image, valid=valid, geometry=to_image, label=label, point=point)


def _prominent_crop(
  key: Key,
  draw: Callable[[Key], Affine],
  stream: Stream,
  size: tuple[int, ...],
  min_fraction: Number = 0.0,
  tries: int = 1,
) -> tuple[Affine, Bool[Array, ' b']]:
  """Chooses for each example the first of several random crops that shows enough labeled pixels.

  Enough is a fraction of at least `min_fraction` of the crop's pixels (Hann's cell prominence).

  Returns:
    The maps of the chosen crops, and whether they show enough. Where none does it is the last one,
    which must not be learned from.

  Raises:
    UserError: if the stream has no masks.
  """
  if 'label' not in stream or stream['label'].ndim == 1:
    raise UserError('prominence looks at masks, and this stream has none; remove it from the view.')

  def labeled_fraction(crop: Affine) -> Array:
    points = geometry.locate(crop, size)
    label = geometry.sample(stream['label'], points, stream['extent'], nearest=True)
    # Padding counts as unmarked, so crops that lie mostly beyond the image fail.
    marked = (label != BACKGROUND) & (label != IGNORE) & geometry.inside(points, stream['extent'])
    return marked.mean(tuple(range(1, marked.ndim)))

  # The first try draws from the key itself: it is the crop that a view without prominence has.
  crops = [draw(jax.random.fold_in(key, i) if i else key) for i in range(tries)]
  passed = jnp.stack([labeled_fraction(crop) >= min_fraction for crop in crops])
  # argmax of flags is the first True.
  chosen = jnp.where(passed.any(0), passed.argmax(0), tries - 1)
  # [tries, B, n, n+1] -> [B, n, n+1].
  crop = jnp.take_along_axis(jnp.stack(crops), chosen[None, :, None, None], 0)[0]
  return crop, passed.any(0)


def apply_photometric(key: Key, view: View, recipe: Recipe) -> View:
  """Applies the photometric augmentations of a recipe, in the order of recipes.PHOTOMETRIC.

  Pixels that are not valid keep their values.
  """
  for name in PHOTOMETRIC:
    if not recipe.get(name):
      continue
    # grayscale is a probability alone; the others are dicts.
    kwargs = {'p': recipe[name]} if name == 'grayscale' else _set_fields(recipe[name])
    key_op = _fold(key, name)
    if name == 'cutout':
      view = cutout(key_op, view, **kwargs)
    elif name == 'cutmix':
      view = cutmix(key_op, view, **kwargs)
    else:
      op = randaugment if name == 'randaugment' else getattr(photometric, name)
      image = op(key_op, view.image, view.valid, **kwargs)
      view = view.replace(image=jnp.where(view.valid[..., None], image, view.image))
  return view


def cutout(key: Key, view: View, **kwargs: Any) -> View:
  """Fills a rectangle with uniform noise; it is no longer valid and its label is IGNORE.

  `kwargs` are those of geometry.random_boxes: p, area, ratio.
  """
  key_box, key_noise = jax.random.split(key)
  box = geometry.random_boxes(key_box, view.valid.shape[0], view.valid.shape[1:], **kwargs)
  # 256 levels, four channels from each random word: generating the words is the expensive part.
  channels = view.image.shape[-1]
  words = jax.random.bits(key_noise, (*view.valid.shape, -(-channels // 4)), jnp.uint32)
  levels = [(words[..., c // 4] >> (8 * (c % 4))) & 255 for c in range(channels)]
  noise = jnp.stack(levels, -1).astype(jnp.float32) / 255
  # What was removed is neither learned from nor compared.
  image = jnp.where(box[..., None], noise, view.image)
  valid = view.valid & ~box
  label = view.label
  if label is not None and label.ndim > 1:  # a label per pixel; that of a whole patch stays
    label = jnp.where(box, IGNORE, label)
  return view.replace(image=image, valid=valid, label=label, cut=box)


def cutmix(key: Key, view: View, **kwargs: Any) -> View:
  """Pastes a rectangle of another example: image, label and valid; `mix` records it.

  The partner is the example a random number of places on (the same number for the whole batch), so
  no example is its own partner. A batch of one is left as it is. `kwargs` are those of
  geometry.random_boxes: p, area, ratio. Yun et al. 2019, "CutMix".
  """
  key_box, key_partner = jax.random.split(key)
  b = view.valid.shape[0]
  # A batch of one has no partner: its box stays empty.
  box = geometry.random_boxes(key_box, b, view.valid.shape[1:], **kwargs) & (b > 1)
  shift = jax.random.randint(key_partner, (), 1, max(b, 2))

  # 1 to b - 1 places on, which never comes back to the example itself.
  partner = (jnp.arange(b) + shift) % b
  # [B, B], with a 1 in row i at the partner of i.
  selection = jax.nn.one_hot(partner, b)

  def of_partner(dense: Array) -> Array:
    # dense[partner], as an exact product. A gather, a roll or a slice would be fused with all
    # that made the image, and make it again: 2.5 times, or 1.5, the cost of the whole view.
    # Ids and flags are exact in float32.
    flat = dense.reshape(b, -1).astype(jnp.float32)
    product = jnp.matmul(selection, flat, precision='highest')
    return product.reshape(dense.shape).astype(dense.dtype)

  label = view.label
  return view.replace(
    image=jnp.where(box[..., None], of_partner(view.image), view.image),
    valid=jnp.where(box, of_partner(view.valid), view.valid),
    label=None if label is None else jnp.where(box, of_partner(label), label),
    cut=None if view.cut is None else jnp.where(box, of_partner(view.cut), view.cut),
    mix=Mix(partner=partner, pasted=box),
  )


def _set_fields(fields: Recipe) -> dict[str, Any]:
  """The fields of an augmentation that are set; None means its default."""
  return {name: value for name, value in fields.items() if value is not None}


def _fold(key: Key, name: str) -> Key:
  """A key that depends on a name."""
  return jax.random.fold_in(key, zlib.crc32(name.encode()))  # hash() differs between processes
