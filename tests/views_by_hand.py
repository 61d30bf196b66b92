"""Views, a teacher and a student that were made by hand, and the terms that a method asks."""

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import registry
from ssl_jax.types import IGNORE, View

GRID = jnp.broadcast_to(jnp.eye(2, 3), (2, 2, 3))
KEY = jax.random.key(0)


def view_of(valid=None, label=None, mix=None, value=0.0):
  """A view of two images of two pixels, whose values are all `value`."""
  valid = np.ones((2, 1, 2), bool) if valid is None else np.array(valid)
  image = jnp.full((2, 1, 2, 3), value)
  return View(image, jnp.asarray(valid), GRID, label, mix)


def views_of(**strong):
  """Views of two images of two pixels; `strong` are fields of the strong one."""
  return {
    'labeled': view_of(label=jnp.array([[[0, 1]], [[1, IGNORE]]])),
    'weak': view_of(value=0.1),
    'strong': view_of(value=0.9, **strong),
  }


# What the teacher says of the weak view, [2 images, 1 row, 2 columns, 2 classes].
TEACHER = jnp.array([[[[0.97, 0.03], [0.4, 0.6]]], [[[0.05, 0.95], [0.9, 0.1]]]])
STUDENT = jnp.log(jnp.array([[[[0.5, 0.5], [0.9, 0.1]]], [[[0.8, 0.2], [0.3, 0.7]]]]))


def ask(name, views, step=0, **kwargs):
  """The terms and metrics of a method, and the images that it asked the teacher about."""
  asked = []

  def teacher(images):
    asked.append(images)
    return TEACHER

  terms, metrics = registry.build('methods', name, kwargs)(teacher, views, KEY, step)
  return terms, metrics, asked
