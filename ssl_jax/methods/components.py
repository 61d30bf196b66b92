"""Connected components of masks on the device, where no library finds them."""

import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from ssl_jax.types import BACKGROUND


def keep_largest(classes: Int[Array, 'b *space'], num_classes: int) -> Int[Array, 'b *space']:
  """Returns masks in which each class but the background keeps its largest connected component.

  Neighbors touch at a side or a corner. Of components of one size the one that comes last stays.
  It takes as many passes over the pixels as the longest way through a component.
  """
  b, space = classes.shape[0], classes.shape[1:]
  foreground = classes != BACKGROUND
  flat = jnp.arange(1, 1 + classes[0].size, dtype=jnp.int32).reshape(space)
  # Each pixel begins with a number of its own; 0 is background.
  numbers = jnp.where(foreground, flat, 0)

  def spread(numbers: Array) -> Array:
    """The largest number among a pixel and its neighbors of the same class."""
    found = numbers
    for shift in itertools.product((-1, 0, 1), repeat=len(space)):
      same = _shifted(classes, shift) == classes
      # `found` is used once: the compiler may write out an expression again wherever it is used.
      found = jnp.maximum(found, jnp.where(same, _shifted(numbers, shift), 0))
    return jnp.where(foreground, found, 0)

  def body(state: tuple[Array, Array]) -> tuple[Array, Array]:
    numbers, _ = state
    after = spread(numbers)
    return after, (after != numbers).any()

  # All pixels of a component end with its largest number.
  numbers, _ = lax.while_loop(lambda state: state[1], body, (numbers, jnp.bool_(True)))
  rows = jnp.arange(b).reshape(b, *(1 for _ in space))
  sizes = jnp.zeros((b, classes[0].size + 1), jnp.int32).at[rows, numbers].add(foreground)
  size = sizes[rows, numbers]
  axes = tuple(range(1, classes.ndim))
  kept = jnp.zeros_like(foreground)
  for number in range(num_classes):
    if number == BACKGROUND:
      continue
    of_class = jnp.where(classes == number, size, 0)
    largest = (of_class > 0) & (of_class == of_class.max(axes, keepdims=True))
    # Of several that are as large, one.
    last = jnp.where(largest, numbers, 0).max(axes, keepdims=True)
    kept = kept | (largest & (numbers == last))
  return jnp.where(kept, classes, BACKGROUND)


def _shifted(x: Array, shift: tuple[int, ...]) -> Array:
  """Moves the pixels of images; what comes in from outside is -1, which is no class."""
  for axis, by in enumerate(shift, start=1):
    if not by:
      continue
    length = x.shape[axis]
    pad = [(0, 0)] * x.ndim
    pad[axis] = (1, 0) if by > 0 else (0, 1)
    start = 0 if by > 0 else 1
    x = lax.slice_in_dim(jnp.pad(x, pad, constant_values=-1), start, start + length, axis=axis)
  return x
