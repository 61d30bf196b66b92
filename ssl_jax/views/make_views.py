"""Streams of images become the views that methods ask about, on the device, inside the step.

A stream holds 'image' [B, *canvas, C] (uint8, uint16, or float32 in [0, 1]; smaller images lie at
the top-left), 'extent' [B, n] (native sizes) and perhaps 'label' [B, *canvas] (class ids). A
stream of patches may have a 'label' [B] of each as a whole, and the 'point' [B, n] of its cell.
A recipe names what a view is made `of`, a stream or another view, and its knobs; an absent, None
or 0 knob is off:

  views = dict(
    weak=dict(of='unlabeled', base=128, scale=(0.5, 2.0), flip=0.5),
    strong=dict(of='weak', jitter=dict(p=0.8, brightness=0.5), cutmix=dict(p=0.5, area=(0.1, 0.5))),
  )

The knobs are those of recipes.py: GEOMETRY's are affine.random_affine's; CHOICE's choose among
several such maps; PHOTOMETRIC's follow in the order in which they stand there. A view of a view shares
its pixels, unless it has knobs of geometry: then it is resampled, once, from the original images.
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
from ssl_jax.views.affine import Affine, Number, apply, invert
from ssl_jax.views.randaugment import randaugment
from ssl_jax.views.recipes import PHOTOMETRIC, Recipe, Recipes, check_recipes, geometric_ops

Stream = Mapping[str, Array]


def cutout(key: Key, view: View, **knobs: Any) -> View:
  """Fills a rectangle with uniform noise; it is no longer valid and its label is IGNORE."""
  key_box, key_noise = jax.random.split(key)
  box = geometry.random_boxes(key_box, view.valid.shape[0], view.valid.shape[1:], **knobs)
  # 256 levels, four channels from each random word: generating the words is the expensive part.
  channels = view.image.shape[-1]
  words = jax.random.bits(key_noise, (*view.valid.shape, -(-channels // 4)), jnp.uint32)
  levels = [(words[..., c // 4] >> (8 * (c % 4))) & 255 for c in range(channels)]
  noise = jnp.stack(levels, -1).astype(jnp.float32) / 255
  return view.replace(
    image=jnp.where(box[..., None], noise, view.image),
    valid=view.valid & ~box,
    label=jnp.where(box, IGNORE, view.label) if _of_pixels(view) else view.label,
  )


def _of_pixels(view: View) -> bool:
  return view.label is not None and view.label.ndim > 1


def cutmix(key: Key, view: View, **knobs: Any) -> View:
  """Pastes a rectangle of another example: image, label and valid; `mix` records it.

  The partner is the example a random number of places on (the same number for the batch), so
  nobody is its own partner. A batch of one is left as it is.
  """
  key_box, key_partner = jax.random.split(key)
  b = view.valid.shape[0]
  box = geometry.random_boxes(key_box, b, view.valid.shape[1:], **knobs) & (b > 1)
  shift = jax.random.randint(key_partner, (), 1, max(b, 2))

  partner = (jnp.arange(b) + shift) % b
  chosen = jax.nn.one_hot(partner, b)

  def of_partner(dense: Array) -> Array:
    # dense[partner], as an exact product. A gather, a roll or a slice would be fused with all
    # that made the image, and make it again: 2.5 times, or 1.5, the cost of the whole view.
    flat = dense.reshape(b, -1).astype(jnp.float32)
    return jnp.matmul(chosen, flat, precision='highest').reshape(dense.shape).astype(dense.dtype)

  label = view.label
  return view.replace(
    image=jnp.where(box[..., None], of_partner(view.image), view.image),
    valid=jnp.where(box, of_partner(view.valid), view.valid),
    label=None if label is None else jnp.where(box, of_partner(label), label),
    mix=Mix(partner=partner, pasted=box),
  )


def _resample(stream: Stream, affine: Affine, size: tuple[int, ...]) -> View:
  """Reads image, label and validity of a stream through an affine map: the one resampling."""
  image, extent, label = stream['image'], stream['extent'], stream.get('label')
  points = geometry.locate(affine, size)
  valid = geometry.inside(points, extent)
  pixels = geometry.sample(image, points, extent, nearest=False)
  if jnp.issubdtype(image.dtype, jnp.integer):
    pixels = pixels / jnp.iinfo(image.dtype).max
  if label is not None and label.ndim > 1:
    label = geometry.sample(label, points, extent, nearest=True).astype(jnp.int32)
    label = jnp.where(valid, label, IGNORE)
  image = jnp.where(valid[..., None], pixels, 0)
  point = stream.get('point')
  if point is not None:
    point = apply(invert(affine), point)
  return View(image=image, valid=valid, geometry=affine, label=label, point=point)


def _prominent(
  key: Key,
  draw: Callable[[Key], Affine],
  stream: Stream,
  size: tuple[int, ...],
  least: Number = 0.0,
  tries: int = 1,
) -> tuple[Affine, Bool[Array, ' b']]:
  """For each example the first of several drawn maps whose crop shows enough of what is labelled.

  Enough is a share of at least `least` of the crop's pixels (Hann's cell prominence). Where no crop
  has it the last is given, and False: it does not count.
  """
  if 'label' not in stream or stream['label'].ndim == 1:
    raise UserError('prominence looks at masks, and this stream has none; take it away.')

  def shown(moved: Affine) -> Array:
    points = geometry.locate(moved, size)
    label = geometry.sample(stream['label'], points, stream['extent'], nearest=True)
    marked = (label != BACKGROUND) & (label != IGNORE) & geometry.inside(points, stream['extent'])
    return marked.mean(tuple(range(1, marked.ndim)))

  drawn = [draw(jax.random.fold_in(key, i) if i else key) for i in range(tries)]
  passed = jnp.stack([shown(moved) >= least for moved in drawn])
  first = jnp.where(passed.any(0), passed.argmax(0), tries - 1)
  moved = jnp.take_along_axis(jnp.stack(drawn), first[None, :, None, None], 0)[0]
  return moved, passed.any(0)


def _apply_photometric(key: Key, view: View, recipe: Recipe) -> View:
  for name in PHOTOMETRIC:
    if not recipe.get(name):
      continue
    knobs = dict(p=recipe[name]) if name == 'grayscale' else dict(recipe[name].items())
    knobs = {knob: value for knob, value in knobs.items() if value is not None}
    key_paint = _fold(key, name)
    if name in ('cutout', 'cutmix'):
      view = (cutout if name == 'cutout' else cutmix)(key_paint, view, **knobs)
    else:
      paint = randaugment if name == 'randaugment' else getattr(photometric, name)
      image = paint(key_paint, view.image, view.valid, **knobs)
      view = view.replace(image=jnp.where(view.valid[..., None], image, view.image))
  return view


def _fold(key: Key, name: str) -> Key:
  return jax.random.fold_in(key, zlib.crc32(name.encode()))  # hash() differs between processes


def make_views(
  recipes: Recipes,
  streams: Mapping[str, Stream],
  size: int | Sequence[int],
  key: Key,
) -> dict[str, View]:
  """Makes all views of `size` pixels that the recipes describe; a pure function, to be jitted.

  Each view, and each knob of it, draws from the key folded with its name: adding one leaves the
  others as they were. Raises UserError for a recipe that cannot be (see check_recipes).
  """
  views: dict[str, View] = {}
  origin = {name: name for name in streams}
  for name in check_recipes(recipes, streams):
    recipe, parent = recipes[name], recipes[name]['of']
    moves, key_view = geometric_ops(recipe), _fold(key, name)
    stream = streams[origin[parent]]
    b, n = stream['extent'].shape
    shape = (size,) * n if isinstance(size, int) else tuple(size)
    if parent not in streams and not moves:
      view = views[parent]
    else:
      extent = stream['extent']
      if parent not in streams:
        extent = jnp.broadcast_to(jnp.asarray(shape, jnp.int32), (b, n))
      draw = functools.partial(affine.random_affine, extent=extent, size=shape, **moves)
      key_moves, counts = _fold(key_view, 'geometry'), None
      if recipe.get('prominence'):
        moved, counts = _prominent(key_moves, draw, stream, shape, **recipe['prominence'])
      else:
        moved = draw(key_moves)
      if parent not in streams:
        moved = affine.compose(views[parent].geometry, moved)
      view = _resample(stream, moved, shape)
      if counts is not None:
        lift = (slice(None),) + (None,) * n
        view = view.replace(label=jnp.where(counts[lift], view.label, IGNORE))
    if name not in origin:
      origin[name] = origin[parent]
    views[name] = _apply_photometric(key_view, view, recipe)
  return views
