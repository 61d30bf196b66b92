"""Streams of images become the views that methods ask about, on the device, inside the step.

A stream holds 'image' [B, *canvas, C] (uint8, uint16, or float32 in [0, 1]; smaller images lie at
the top-left), 'extent' [B, n] (native sizes) and perhaps 'label' [B, *canvas] (class ids).
A recipe names what a view is made `of`, a stream or another view, and its knobs; an absent, None
or 0 knob is off:

  views = dict(
    weak=dict(of='unlabeled', base=128, scale=(0.5, 2.0), flip=0.5),
    strong=dict(of='weak', jitter=dict(p=0.8, brightness=0.5), cutmix=dict(p=0.5, area=(0.1, 0.5))),
  )

The knobs of GEOMETRY are those of geometry.random_affine; those of PAINT follow in the order in
which they stand there. A view of a view shares its pixels, unless it has knobs of geometry: then
it is resampled, once, from the original images.
"""

import math
import numbers
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ssl_jax import geometry, photometric
from ssl_jax.types import IGNORE, Key, Mix, UserError, View

Stream = Mapping[str, Array]
Recipe = Any  # the knobs of a view: a dict or a ConfigDict (which is no Mapping)
Recipes = Any  # names of views -> recipes, likewise


def _number(value: Any, low: geometry.Number, high: geometry.Number) -> bool:
  real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return real and math.isfinite(value) and low <= value <= high


def _pair(value: Any, low: geometry.Number, high: geometry.Number) -> bool:
  if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
    return False
  return all(_number(v, low, high) for v in value) and value[0] <= value[1]


# What a knob must be, and how to say so.
_TINY, _INF = 1e-6, math.inf
_PROBABILITY = (lambda v: _number(v, 0, 1), 'a probability in [0, 1]')
_FACTOR = (
  lambda v: _number(v, 0, _INF) or _pair(v, 0, _INF),
  'a number >= 0 or a pair of factors 0 <= lo <= hi',
)
_SHIFT = (
  lambda v: _number(v, 0, 0.5) or _pair(v, -0.5, 0.5),
  'a number in [0, 0.5] or a pair -0.5 <= lo <= hi <= 0.5',
)
_PATCH = dict(
  p=_PROBABILITY,
  area=(lambda v: _pair(v, 0, 1), 'a pair of shares of the view, 0 <= lo <= hi <= 1'),
  ratio=(lambda v: _pair(v, _TINY, _INF), 'a pair of height / width, 0 < lo <= hi'),
)
GEOMETRY = dict(
  base=(lambda v: _number(v, 1, _INF), 'a number of pixels >= 1'),
  scale=(lambda v: _pair(v, _TINY, _INF), 'a pair 0 < lo <= hi'),
  rotate=(lambda v: _number(v, 0, 180), 'degrees in [0, 180] (180 is every angle)'),
  flip=_PROBABILITY,
  flip_vertical=_PROBABILITY,
)
PAINT = dict(
  jitter=dict(p=_PROBABILITY, brightness=_FACTOR, contrast=_FACTOR, saturation=_FACTOR, hue=_SHIFT),
  grayscale=_PROBABILITY,
  blur=dict(p=_PROBABILITY, sigma=(lambda v: _pair(v, 0, 100), 'a pair of pixels 0 <= lo <= hi')),
  cutout=_PATCH,
  cutmix=_PATCH,
)


def _check(where: str, knobs: Any, rules: Mapping[str, Any], off: tuple = (None,)) -> None:
  if not hasattr(knobs, 'items') or not knobs:
    raise UserError(f'{where} must be a dict of knobs ({", ".join(rules)}), not {knobs!r}.')
  for name, value in knobs.items():
    if name not in rules:
      raise UserError(f'{where} has no knob {name!r}; its knobs are {", ".join(rules)}.')
    if value in off:
      continue
    if isinstance(rules[name], Mapping):
      _check(f'{where}, {name},', value, rules[name])
    elif not rules[name][0](value):
      raise UserError(f'{where}: {name} must be {rules[name][1]}, not {value!r}.')


def _moves(recipe: Recipe) -> dict[str, Any]:
  """The knobs of geometry that are on."""
  moves = {name: recipe[name] for name in GEOMETRY if recipe.get(name)}
  if tuple(moves.get('scale', ())) == (1, 1):
    del moves['scale']
  return moves


def check_recipes(recipes: Recipes, streams: Collection[str]) -> list[str]:
  """The names of the views in the order in which they are made; `streams` are names.

  The order in `recipes` does not matter. A name that is both a stream and a view means the
  stream. Raises UserError: one sentence that names the view and the knob.
  """
  known = [*sorted(streams), *(name for name in recipes if name not in streams)]
  for name, recipe in recipes.items():
    rules = dict(of=(lambda v: v in known, ' or '.join(known)), **GEOMETRY, **PAINT)
    _check(f'View {name!r}', recipe, rules, off=(None, 0))
    if not recipe.get('of'):
      raise UserError(f'View {name!r} needs `of`, what it is made of: {" or ".join(known)}.')
  order: list[str] = []
  painted: dict[str, set[str]] = {name: set() for name in streams}
  while len(order) < len(recipes):
    made = {*streams, *order}
    ready = [n for n, r in recipes.items() if n not in order and r['of'] in made]
    if not ready:
      stuck = ', '.join(repr(n) for n in recipes if n not in order)
      raise UserError(f'Views {stuck} are made `of` each other; one must be of a stream.')
    order += ready
  for name in order:
    recipe, parent = recipes[name], recipes[name]['of']
    before = set() if parent in streams else painted[parent]
    mine = {knob for knob in PAINT if recipe.get(knob)}
    if before and _moves(recipe):
      raise UserError(
        f'View {name!r}: {next(iter(_moves(recipe)))} would resample the original images and '
        f'lose what {", ".join(sorted(before))} did to {parent!r}; make it of an earlier view.'
      )
    if 'cutmix' in before & mine:
      raise UserError(f'View {name!r}: cutmix of {parent!r}, which is already a CutMix.')
    painted[name] = before | mine
  return order


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
    label=None if view.label is None else jnp.where(box, IGNORE, view.label),
  )


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


def _look(stream: Stream, affine: geometry.Affine, size: tuple[int, ...]) -> View:
  """Reads image, label and validity of a stream through an affine map: the one resampling."""
  image, extent, label = stream['image'], stream['extent'], stream.get('label')
  points = geometry.locate(affine, size)
  valid = geometry.inside(points, extent)
  pixels = geometry.sample(image, points, extent, nearest=False)
  if jnp.issubdtype(image.dtype, jnp.integer):
    pixels = pixels / jnp.iinfo(image.dtype).max
  if label is not None:
    label = geometry.sample(label, points, extent, nearest=True).astype(jnp.int32)
    label = jnp.where(valid, label, IGNORE)
  image = jnp.where(valid[..., None], pixels, 0)
  return View(image=image, valid=valid, geometry=affine, label=label)


def _paint(key: Key, view: View, recipe: Recipe) -> View:
  for name in PAINT:
    if not recipe.get(name):
      continue
    knobs = dict(p=recipe[name]) if name == 'grayscale' else dict(recipe[name].items())
    knobs = {knob: value for knob, value in knobs.items() if value is not None}
    key_paint = _fold(key, name)
    if name in ('cutout', 'cutmix'):
      view = (cutout if name == 'cutout' else cutmix)(key_paint, view, **knobs)
    else:
      image = getattr(photometric, name)(key_paint, view.image, view.valid, **knobs)
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
    moves, key_view = _moves(recipe), _fold(key, name)
    stream = streams[origin[parent]]
    b, n = stream['extent'].shape
    shape = (size,) * n if isinstance(size, int) else tuple(size)
    if parent not in streams and not moves:
      view = views[parent]
    else:
      extent = stream['extent']
      if parent not in streams:
        extent = jnp.broadcast_to(jnp.asarray(shape, jnp.int32), (b, n))
      affine = geometry.random_affine(_fold(key_view, 'geometry'), extent, shape, **moves)
      if parent not in streams:
        affine = geometry.compose(views[parent].geometry, affine)
      view = _look(stream, affine, shape)
    if name not in origin:
      origin[name] = origin[parent]
    views[name] = _paint(key_view, view, recipe)
  return views
