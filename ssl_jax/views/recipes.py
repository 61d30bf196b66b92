"""Recipes of views: which knobs there are, what they may be, and which view is made of which."""

import math
import numbers
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.views.affine import Number

Recipe = Any  # the knobs of a view: a dict or a ConfigDict (which is no Mapping)
Recipes = Any  # names of views -> recipes, likewise


def _number(value: Any, low: Number, high: Number) -> bool:
  real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  return real and math.isfinite(value) and low <= value <= high


def _pair(value: Any, low: Number, high: Number) -> bool:
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
  rotate_p=_PROBABILITY,
  shear=(lambda v: _number(v, 0, 1), 'a slope in [0, 1]'),
  translate=(lambda v: _number(v, 0, 1), 'a share of the view in [0, 1]'),
  flip=_PROBABILITY,
  flip_vertical=_PROBABILITY,
)
CHOICE = dict(
  prominence=dict(
    least=(lambda v: _number(v, 0, 1), 'a share of the pixels in [0, 1]'),
    tries=(lambda v: isinstance(v, int) and 0 < v <= 64, 'a number of crops from 1 to 64'),
  )
)
PHOTOMETRIC = dict(
  jitter=dict(p=_PROBABILITY, brightness=_FACTOR, contrast=_FACTOR, saturation=_FACTOR, hue=_SHIFT),
  grayscale=_PROBABILITY,
  randaugment=dict(
    n=(lambda v: isinstance(v, int) and v > 0, 'a number of operations >= 1'),
    p=_PROBABILITY,
    magnitude=(lambda v: _pair(v, 1, 10), 'a pair of whole numbers 1 <= lo <= hi <= 10'),
  ),
  blur=dict(
    p=_PROBABILITY,
    sigma=(lambda v: _pair(v, 0, 100), 'a pair of pixels 0 <= lo <= hi'),
    noise=(lambda v: _number(v, 0, 1), 'a deviation in [0, 1]'),
  ),
  noise=dict(
    p=_PROBABILITY,
    mean=(lambda v: _pair(v, -1, 1), 'a pair of means -1 <= lo <= hi <= 1'),
    std=(lambda v: _pair(v, 0, 1), 'a pair of deviations 0 <= lo <= hi <= 1'),
  ),
  gamma=dict(
    p=_PROBABILITY, power=(lambda v: _pair(v, _TINY, 10), 'a pair of powers 0 < lo <= hi')
  ),
  shift=dict(p=_PROBABILITY, offset=(lambda v: _pair(v, -1, 1), 'a pair -1 <= lo <= hi <= 1')),
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


def geometric_ops(recipe: Recipe) -> dict[str, Any]:
  """The knobs of geometry that are on."""
  moves = {name: recipe[name] for name in GEOMETRY if recipe.get(name)}
  if tuple(moves.get('scale', ())) == (1, 1):
    del moves['scale']
  if recipe.get('rotate_p') == 0 or not recipe.get('rotate'):
    moves = {name: value for name, value in moves.items() if not name.startswith('rotate')}
  return moves


def check_recipes(recipes: Recipes, streams: Collection[str]) -> list[str]:
  """The names of the views in the order in which they are made; `streams` are names.

  The order in `recipes` does not matter. A name that is both a stream and a view means the
  stream. Raises UserError: one sentence that names the view and the knob.
  """
  known = [*sorted(streams), *(name for name in recipes if name not in streams)]
  for name, recipe in recipes.items():
    rules = dict(of=(lambda v: v in known, ' or '.join(known)), **GEOMETRY, **CHOICE, **PHOTOMETRIC)
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
    mine = {knob for knob in PHOTOMETRIC if recipe.get(knob)}
    if recipe.get('prominence') and parent not in streams:
      raise UserError(f'View {name!r}: prominence chooses crops of a stream, not of {parent!r}.')
    if before and geometric_ops(recipe):
      raise UserError(
        f'View {name!r}: {next(iter(geometric_ops(recipe)))} would resample the original images and '
        f'lose what {", ".join(sorted(before))} did to {parent!r}; make it of an earlier view.'
      )
    if 'cutmix' in before & mine:
      raise UserError(f'View {name!r}: cutmix of {parent!r}, which is already a CutMix.')
    painted[name] = before | mine
  return order
