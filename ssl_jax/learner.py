"""How a network learns, written once: views -> terms -> one forward -> gradient -> average."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from ssl_jax import augment, parallel
from ssl_jax.types import Learner, LossTransform, TrainState, UserError, Variables


def ema_decay(step: jax.Array, decay: float) -> jax.Array:
  """min(1 - 1/(t+1), decay) at update t = 1, 2, ... (`step` counts the updates before it)."""
  return jnp.minimum(1 - 1 / (step + 2), decay)


class _Views(dict):
  """Views by name; a method that asks for one that the config does not make says so."""

  def __missing__(self, name):
    raise UserError(f'A method asks for the view {name!r}, but views has {", ".join(self)}.')


def make_learner(
  network: nn.Module,
  methods: Mapping[str, LossTransform],
  recipes: Mapping[str, Mapping],
  size: tuple[int, ...],
  optimizer: optax.GradientTransformation,
  *,
  teacher: str = 'student',
  decay: float = 0.0,
  standardize: Callable[[jax.Array], jax.Array] = lambda images: images,
) -> Learner:
  """A learner of `network` that sums the terms of `methods`.

  `recipes` say how views of `size` are made of the batch (`augment.make_views`); `teacher` is
  'student' or 'average', the student's moving average of the given decay (0: no average is kept).
  The average, where it teaches, is also what predicts.
  """

  def init(key, images):
    variables = network.init(key, standardize(images[:1]), train=False)
    student = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
    average = jax.tree.map(jnp.copy, student) if decay else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, student, average, optimizer.init(student['params']))

  def probabilities(variables, images):
    return jax.nn.softmax(network.apply(variables, standardize(images), train=False))

  def teaching(state) -> Variables:
    return state.average if teacher == 'average' else state.student

  def predict(state, images):
    return probabilities(teaching(state), images)

  def update(state, batch, key):
    key = jax.random.fold_in(key, state.step)
    view_key, method_key, dropout_key = jax.random.split(key, 3)
    views = _Views(augment.make_views(recipes, batch, size, view_key))
    terms, metrics = {}, {}
    for name, ask in methods.items():
      asked, said = ask(lambda x: predict(state, x), views, method_key, state.step)
      terms |= {f'{name}/{term}': value for term, value in asked.items()}
      metrics |= {f'{name}/{figure}': value for figure, value in said.items()}

    def loss_fn(params):
      outputs, changed = _forward(params, state, terms, dropout_key)
      losses = {name: term.loss(outputs[id(term.images)]) for name, term in terms.items()}
      total = sum(terms[name].weight * loss for name, loss in losses.items())
      return total, (changed, {f'loss/{name}': loss for name, loss in losses.items()})

    params = state.student['params']
    (total, (changed, losses)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    student = {**state.student, **changed, 'params': optax.apply_updates(params, updates)}
    average = state.average
    if average is not None:
      rate = 1 - ema_decay(state.step, decay)
      average = optax.incremental_update(student, average, rate)
    metrics |= losses | {'loss': total, 'grad_norm': optax.tree.norm(grads)}
    return TrainState(state.step + 1, student, average, opt_state), metrics

  def _forward(params, state, terms, key):
    """One pass of the student over the images of all terms; terms may share their images."""
    images = {id(term.images): term.images for term in terms.values()}
    joined, changed = network.apply(
      {**state.student, 'params': params},
      standardize(parallel.interleave(list(images.values()))),
      train=True,
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    answers = parallel.separate(joined, [len(x) for x in images.values()])
    return dict(zip(images, answers, strict=True)), changed

  return Learner(init, update, predict)


def first_fault(metrics: Mapping[str, float]) -> str | None:
  """The name of a figure that is not finite, a method's loss first; None if all are."""
  order = sorted(metrics, key=lambda name: (not name.startswith('loss/'), name))
  return next((name for name in order if not jnp.isfinite(metrics[name])), None)
