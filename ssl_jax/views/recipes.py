"""Recipes of views: which fields they have, what those may be, and in which order views are made.

It imports no JAX, because the settings of a run are checked before anything is computed.
"""

import math
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ssl_jax import registry
from ssl_jax.errors import UserError

Number = int | float
Recipe = Any  # the fields of a view: a dict or a ConfigDict (which is no Mapping)
Recipes = Any  # names of views -> recipes, likewise


class Rule(NamedTuple):
  """What the value of a field must be."""

  accepts: Callable[[Any], bool]
  words: str  # completes 'this value is not ...'


def _is_number(value: Any, low: Number, high: Number) -> bool:
  """Whether a value is a finite number in [low, high]."""
  # To Python True is the number 1.
  if not isinstance(value, numbers.Real) or isinstance(value, bool):
    return False
  return math.isfinite(value) and low <= float(value) <= high


def _is_pair(value: Any, low: Number, high: Number) -> bool:
  """Whether a value is two numbers in [low, high], the smaller first."""
  # A string is a sequence too.
  if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
    return False
  return all(_is_number(number, low, high) for number in value) and value[0] <= value[1]


def _number(low: Number, high: Number, words: str) -> Rule:
  return Rule(lambda value: _is_number(value, low, high), words)


def _pair(low: Number, high: Number, words: str) -> Rule:
  return Rule(lambda value: _is_pair(value, low, high), words)


def _is_whole(value: Any) -> bool:
  # To Python True is the number 1.
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _whole(high: Number, words: str) -> Rule:
  return Rule(lambda value: _is_whole(value) and 0 < value <= high, words)


def _whole_pair(low: Number, high: Number, words: str) -> Rule:
  return Rule(lambda value: _is_pair(value, low, high) and all(map(_is_whole, value)), words)


def _one_of(*choices: str) -> Rule:
  return Rule(lambda value: value in choices, f'one of {", ".join(choices)}')


_TINY = 1e-6  # stands for 'above 0', where a division by the value must stay finite
_INF = math.inf
_PROBABILITY = _number(0, 1, 'a probability in [0, 1]')
# A number d stands for the range [1 - d, 1 + d]; see photometric.jitter.
_FACTOR = Rule(
  lambda value: _is_number(value, 0, _INF) or _is_pair(value, 0, _INF),
  'a number >= 0 or a pair of factors 0 <= low <= high',
)
# The hue is a circle: half a turn leads to the opposite color, further ones come back.
_HUE = Rule(
  lambda value: _is_number(value, 0, 0.5) or _is_pair(value, -0.5, 0.5),
  'a number in [0, 0.5] or a pair -0.5 <= low <= high <= 0.5',
)
_BOX = {
  'p': _PROBABILITY,
  'area': _pair(0, 1, 'a pair of fractions of the view, 0 <= low <= high <= 1'),
  'ratio': _pair(_TINY, _INF, 'a pair of height / width, 0 < low <= high'),
}

GEOMETRIC = {
  'resize_long_side': _number(1, _INF, 'a number of pixels >= 1'),
  'scale': _pair(_TINY, _INF, 'a pair 0 < low <= high'),
  'rotate': _number(0, 180, 'a number of degrees in [0, 180] (180: every angle)'),
  'rotate_p': _PROBABILITY,
  'shear': _number(0, 1, 'a slope in [0, 1]'),
  'translate': _number(0, 1, 'a fraction of the view in [0, 1]'),
  'flip': _PROBABILITY,
  'flip_vertical': _PROBABILITY,
  'quarter_turns': _PROBABILITY,
}
"""Fields that move pixels; the arguments of affine.random_affine."""

CROP_CHOICE = {
  'prominence': {
    'min_fraction': _number(0, 1, 'a fraction of the pixels in [0, 1]'),
    'tries': _whole(64, 'a number of crops from 1 to 64'),
  }
}
"""Fields that choose one of several random crops."""

PHOTOMETRIC = {
  'jitter': {
    'p': _PROBABILITY,
    'brightness': _FACTOR,
    'contrast': _FACTOR,
    'saturation': _FACTOR,
    'hue': _HUE,
  },
  'grayscale': _PROBABILITY,
  'randaugment': {
    'n': _whole(_INF, 'a number of operations >= 1'),
    'p': _PROBABILITY,
    'magnitude': _whole_pair(1, 10, 'a pair of whole numbers 1 <= low <= high <= 10'),
    # The threshold over the magnitude: that of UDA's code, or that of the later RandAugment's.
    'solarize': _one_of('falling', 'rising'),
  },
  'blur': {
    'p': _PROBABILITY,
    'sigma': _pair(0, 100, 'a pair of pixels 0 <= low <= high'),
    'noise': _number(0, 1, 'a standard deviation in [0, 1]'),
  },
  'noise': {
    'p': _PROBABILITY,
    'mean': _pair(-1, 1, 'a pair of means -1 <= low <= high <= 1'),
    'std': _pair(0, 1, 'a pair of standard deviations 0 <= low <= high <= 1'),
  },
  'gamma': {
    'p': _PROBABILITY,
    'power': _pair(_TINY, 10, 'a pair of powers 0 < low <= high'),
  },
  'shift': {
    'p': _PROBABILITY,
    'offset': _pair(-1, 1, 'a pair -1 <= low <= high <= 1'),
  },
  'cutout': _BOX,
  'cutmix': _BOX,
}
"""Fields that change values of pixels; this is the order in which they are applied."""


def geometric_ops(recipe: Recipe) -> dict[str, Any]:
  """Returns the fields of a recipe that move pixels and are on, as arguments of random_affine."""
  # None and 0 both mean off.
  ops = {name: recipe[name] for name in GEOMETRIC if recipe.get(name)}
  # A scale of 1 moves nothing; without it the view can share the pixels of its source.
  if tuple(ops.get('scale', ())) == (1, 1):
    del ops['scale']
  # A rotation needs both an angle and a probability; rotate_p alone does nothing.
  if recipe.get('rotate_p') == 0 or not recipe.get('rotate'):
    ops.pop('rotate', None)
    ops.pop('rotate_p', None)
  return ops


def check_recipes(recipes: Recipes, streams: Collection[str]) -> list[str]:
  """Returns the names of the views in the order in which they are made.

  The order of `recipes` itself does not matter. A name that is both a view and a stream means the
  stream wherever it is a `source`.

  Args:
    recipes: names of views -> their recipes.
    streams: names of the streams that there are.

  Raises:
    UserError: with all that is wrong, one line a problem.
  """
  if problems := recipe_problems(recipes, streams):
    raise UserError('\n'.join(problems))
  order, _ = _order(recipes, streams)
  return order


def recipe_problems(recipes: Recipes, streams: Collection[str]) -> list[str]:
  """Returns all that is wrong with recipes, one sentence a problem.

  Fields are judged first; how views are made of each other only where all fields are right.
  """
  # Sources that exist; a name that is both a stream and a view is listed once.
  known = [*sorted(streams), *(name for name in recipes if name not in streams)]
  source = Rule(lambda value: value in known, ' or '.join(known))
  rules = {'source': source, **GEOMETRIC, **CROP_CHOICE, **PHOTOMETRIC}
  problems = []
  for name, recipe in recipes.items():
    where = f'views.{name}'
    field_problems = _field_problems(where, recipe, rules, off=(None, 0))
    problems += field_problems
    # A recipe that is no dict, or is empty, has been reported already.
    if hasattr(recipe, 'get') and recipe and not recipe.get('source'):
      problems.append(f'{where} has no source; name what it is made of: {" or ".join(known)}.')
  # The checks below read the fields without looking at their types.
  if problems:
    return problems

  order, stuck = _order(recipes, streams)
  if stuck:
    views = ', '.join(f'views.{name}' for name in stuck)
    problems.append(
      f'{views}: the sources lead in a circle; make one of them from a stream '
      f'({", ".join(sorted(streams))}).'
    )
  return problems + _composition_problems(recipes, streams, order)


def _field_problems(
  where: str, fields: Any, rules: Mapping[str, Any], off: tuple[Any, ...] = (None,)
) -> list[str]:
  """What is wrong with the fields of a recipe, or of one augmentation in it.

  Values in `off` switch a field off. Inside an augmentation that is None alone: blur's sigma may
  not be 0, for example.
  """
  # Not isinstance(fields, Mapping): a ConfigDict is none.
  if not hasattr(fields, 'items') or not fields:
    return [f'{where}={fields!r} is not a dict of fields; it may have {", ".join(rules)}.']
  problems = []
  for name, value in fields.items():
    rule = rules.get(name)
    if rule is None:
      guess = registry.nearest(name, rules)
      problems.append(f'{where}.{name} is no field{guess}; it may have {", ".join(rules)}.')
    elif value in off:
      continue
    # An augmentation with fields of its own, such as jitter.
    elif isinstance(rule, Mapping):
      problems += _field_problems(f'{where}.{name}', value, rule)
    elif not rule.accepts(value):
      problems.append(f'{where}.{name}={value!r} is not {rule.words}.')
  return problems


def _order(recipes: Recipes, streams: Collection[str]) -> tuple[list[str], list[str]]:
  """The views in an order in which each follows its source, and those that have no such place."""
  order: list[str] = []
  # Each turn adds the views whose source is made. Those that are left when nothing is added depend
  # on each other.
  while True:
    made = {*streams, *order}
    waiting = [name for name in recipes if name not in order]
    ready = [name for name in waiting if recipes[name]['source'] in made]
    if not ready:
      return order, waiting
    order += ready


def _composition_problems(
  recipes: Recipes, streams: Collection[str], order: Sequence[str]
) -> list[str]:
  """What is wrong with views that are made of other views."""
  problems = []
  # For each view the photometric fields of it and of all views that it is made of.
  photometric: dict[str, set[str]] = {}
  for name in order:
    recipe = recipes[name]
    source = recipe['source']
    inherited = set() if source in streams else photometric[source]
    added = {field for field in PHOTOMETRIC if recipe.get(field)}
    # The crop of a view of a view is that of its source: there is nothing to choose.
    if recipe.get('prominence') and source not in streams:
      problems.append(
        f'views.{name}.prominence chooses crops of a stream, and {source!r} is a view; '
        f'move it there.'
      )
    ops = geometric_ops(recipe)
    if inherited and ops:
      # Pixels are read once, from the original images: what was done to values would be lost.
      problems.append(
        f'views.{name}.{next(iter(ops))} would read the original images again and lose '
        f'{", ".join(sorted(inherited))} of {source!r}; make it of an earlier view.'
      )
    # A view records one partner and one pasted region, so a second paste could not be undone.
    if 'cutmix' in inherited & added:
      problems.append(
        f'views.{name}.cutmix: {source!r} is a CutMix already; leave one of them out.'
      )
    photometric[name] = inherited | added
  return problems
