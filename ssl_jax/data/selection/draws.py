"""Which labeled and test images a repetition of an experiment draws."""

from collections.abc import Sequence

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.types import Draw


def draw_order(count: int, seed: int, draw: int = 0) -> list[int]:
  """Returns the numbers below `count` in the order of a draw; of draw 0 it follows from `seed`."""
  # 3 keeps these numbers apart from others that loaders draw from the same seed.
  rng = np.random.default_rng([seed, 3, draw] if draw else seed)
  return rng.permutation(count).tolist()


def fold_of_draw(count: int, fraction: float, seed: int, draw: int = 0) -> list[int]:
  """Returns which of `count` units a draw sets aside for the test: repeated cross-validation.

  The draws 0 to k - 1 of the nearest k = 1 / fraction take each unit once, the next k draws do so
  in another order. A fraction that is no 1 / k is drawn anew each time.

  Args:
    count: at least 2.
    fraction: above 0 and below 1.
    seed: of the order.
    draw: number of the repetition.
  """
  folds = min(round(1 / fraction), count)
  # A fraction of less than one unit holds out one.
  divides = abs(1 / fraction - folds) <= 0.05 * folds or folds == count
  if folds < 2 or not divides:
    order = draw_order(count, seed, draw)
    return order[: min(max(1, round(fraction * count)), count - 1)]
  repeat, fold = divmod(draw, folds)
  order = draw_order(count, seed, repeat)
  # Folds differ by one unit where they do not divide the count.
  bounds = [round(count * k / folds) for k in range(folds + 1)]
  return order[bounds[fold] : bounds[fold + 1]]


def labeled_count(asked: float | int | None, pool: int, units: str) -> int:
  """Returns how many of `pool` units are learned from with their labels.

  Args:
    asked: a number, below 1 a fraction of the pool; None: all.
    pool: units that there are.
    units: what they are, for the message.

  Raises:
    UserError: if there are not so many.
  """
  if asked is None:
    return pool
  count = max(round(asked * pool), 1) if 0 < asked < 1 else asked
  if not 0 < count <= pool or count != int(count):
    raise UserError(
      f'data.num_labeled={asked:g} is not in 1..{pool}, the {units} with masks to learn from.'
    )
  return int(count)


def pool_overlap(drawn: int, pool: int) -> float | None:
  """Returns the part of a variance by which repetitions depend that draw from one pool.

  A mean over draws of n from N images still varies with the N: n / (N - n) of the variance between
  draws (delete-d jackknife: Shao and Wu 1989). None: all are drawn, always the same.
  """
  return drawn / (pool - drawn) if drawn < pool else None


def folds_draw(groups: Sequence[str], test: Sequence[str], names: Sequence[str]) -> Draw:
  """Returns the Draw of a cross-validation of images with these names, in these groups.

  Args:
    groups: of all images that were drawn from.
    test: groups of the test images.
    names: of the test images.
  """
  held_out = len(set(test))
  # n_test / n_train: Nadeau and Bengio 2003, Inference for the generalization error.
  overlap = held_out / (len(set(groups)) - held_out)
  return Draw(overlap, own_test=True, groups=dict(zip(names, test, strict=True)))
