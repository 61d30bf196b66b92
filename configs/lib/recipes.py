"""Named recipes: the method that uses unlabeled images, what it is shown, and how it begins.

configs/recipe_search.py compares them; other pages take one by its name (--config=PAGE:RECIPE).
"""

from typing import Any, NamedTuple

from ssl_jax.errors import UserError


class Recipe(NamedTuple):
  """A way to use unlabeled images; what a page decides itself (views, times) is left out."""

  method: str
  arguments: dict[str, Any]
  strong_views: int = 1
  cutmix: bool = True
  # 'ramp': the weight rises from the first step; 'late': labels alone come first; 'rising': the
  # weight rises until the last step; 'pretraining': the method has first steps of its own.
  begins: str = 'late'
  # Self-training after it: its network labels the images, from which a new one learns.
  rounds: int = 0


RECIPES = {
  'fixmatch': Recipe('fixmatch', {}, begins='ramp'),
  'fixmatch-dice': Recipe('fixmatch', dict(dice=1.0)),
  'fixmatch-held': Recipe('fixmatch', dict(dice=1.0, hold_back=True)),
  'fixmatch-soft': Recipe('fixmatch', dict(dice=1.0, weighting='soft')),
  'fixmatch-aligned': Recipe('fixmatch', dict(dice=1.0, align_classes=True)),
  'mean-teacher': Recipe('mean_teacher', dict(weight=1.0), cutmix=False, begins='rising'),
  'mean-teacher-10': Recipe('mean_teacher', dict(weight=10.0), cutmix=False, begins='ramp'),
  'mean-teacher-cutmix': Recipe('mean_teacher', dict(weight=3.0)),
  'unimatch': Recipe('unimatch', dict(dice=1.0), strong_views=2),
  'unimatch-aligned': Recipe('unimatch', dict(dice=1.0, align_classes=True), strong_views=2),
  'unimatch-v2': Recipe('unimatch_v2', dict(dice=1.0), strong_views=2),
  # Images of microscopy show many objects, of which the largest alone would be left.
  'bcp': Recipe(
    'bcp', dict(weight=0.5, largest_component=False), strong_views=0, begins='pretraining'
  ),
  'fixmatch-dice-again': Recipe('fixmatch', dict(dice=1.0), rounds=1),
}

DEFAULTS = {'images': 'fixmatch-aligned', 'volumes': 'mean-teacher-10'}
"""By kind of page, the recipe that it has without a name, or with the name 'default'."""

# Written out on pages, so that the shell can set them.
CONFIDENT = dict(threshold=0.95, weight=1.0)
SHOWN = dict(fixmatch=CONFIDENT, unimatch=CONFIDENT, unimatch_v2=CONFIDENT, mean_teacher={})

STRONG_VIEWS = ('strong', 'strong2')

FEWER_LABELS = (
  {'name': 'labels-25', 'data.num_labeled': 0.25},
  {'name': 'labels-50', 'data.num_labeled': 0.5},
)
"""Stages that learn from a quarter and from half of the labels, for a learning curve."""


def named(name: str) -> Recipe:
  """Returns the recipe of a name.

  Raises:
    UserError: if there is none.
  """
  if name not in RECIPES:
    raise UserError(f'{name!r} is no recipe; there is {", ".join(RECIPES)}.')
  return RECIPES[name]


def of_page(name: str, kind: str) -> Recipe:
  """Returns the recipe of a name for a page of 'images' or 'volumes'.

  Raises:
    UserError: if a page can have no recipe of this name.
  """
  # BCP needs as many labeled as unlabeled images in a step; rounds are stages of their own.
  fitting = [key for key, one in RECIPES.items() if one.method in SHOWN and not one.rounds]
  chosen = DEFAULTS[kind] if name in ('', 'default') else name
  if chosen not in fitting:
    raise UserError(
      f'{name!r} is no recipe of this page; after the colon it takes default, {", ".join(fitting)}.'
    )
  return RECIPES[chosen]


def stage_name(recipe: Recipe) -> str:
  """Returns the name of the stage that trains by a recipe: that of its method."""
  return recipe.method.replace('_', '-')


def fields(
  recipe: Recipe, steps: int, first_steps: int, plain: dict[str, Any], cutmix: dict[str, Any]
) -> dict[str, Any]:
  """Returns the fields that a recipe adds to a stage.

  Args:
    recipe: which one.
    steps: of the training.
    first_steps: those in which the weight rises, or which are on labels alone.
    plain: strong view without CutMix.
    cutmix: strong view with it.
  """
  if recipe.begins == 'pretraining':
    # It has a loss on labels of its own, and so is the only method.
    own = {**recipe.arguments, 'pretraining_steps': steps // 3}
    return {'methods': {recipe.method: own}}
  arguments = dict(recipe.arguments)
  if recipe.begins == 'ramp':
    arguments['ramp_up_steps'] = first_steps
  if recipe.begins == 'rising':
    arguments['ramp_up_steps'] = steps
  result: dict[str, Any] = {f'methods.{recipe.method}': arguments}
  for view in STRONG_VIEWS[: recipe.strong_views]:
    result[f'views.{view}'] = cutmix if recipe.cutmix else plain
  if recipe.begins == 'late':
    result['labels_first'] = first_steps
  return result


def put(
  config: Any,
  recipe: Recipe,
  plain: dict[str, Any],
  cutmix: dict[str, Any],
  first_steps: int | None = None,
) -> tuple[str, ...]:
  """Puts the method and the strong views of a recipe into a page.

  Args:
    config: the page, with its other views and methods.
    recipe: which one.
    plain: strong view without CutMix.
    cutmix: strong view with it.
    first_steps: those in which the weight rises, or which are on labels alone; None: a page whose
      length is open, in which they are a quarter of the steps, also where the weight would rise
      until the end.

  Returns:
    The fields that such a page has to leave open.
  """
  shown = dict(SHOWN[recipe.method])
  length = first_steps or 0
  for key, value in fields(recipe, config.steps, length, plain, cutmix).items():
    section, _, name = key.rpartition('.')
    if section == 'methods':
      value = shown | value
      if first_steps is None:
        value.pop('ramp_up_steps', None)
    if section:
      config[section][name] = value
    else:
      config[key] = value
  if first_steps is not None:
    return ()
  if recipe.begins == 'late':
    return ('labels_first',)
  return (f'methods.{recipe.method}.ramp_up_steps',)
