"""How a network learns, written once: views -> terms -> one forward -> gradient -> average."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.training import collapse
from ssl_jax.types import NUMBERS, Learner, LossTransform, Outputs, TrainState, Variables
from ssl_jax.views import make_views


def ema_decay(step: jax.Array, decay: float) -> jax.Array:
  """min(1 - 1/(t+1), decay) at update t = 1, 2, ... (`step` counts the updates before it)."""
  return jnp.minimum(1 - 1 / (step + 2), decay)


class _Named(dict):
  """Views or heads by name; a method that asks for one that there is not says so."""

  def __init__(self, what: str, found: Mapping):
    super().__init__(found)
    self.what = what

  def __missing__(self, name):
    raise UserError(f'A method asks for the {self.what} {name!r}, but there is {", ".join(self)}.')


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
  heads: Mapping[str, int] | None = None,
  predicts: str | None = 'class',
  classes: Sequence[str] = (),
) -> Learner:
  """A learner of `network` that sums the terms of `methods`.

  `recipes` say how views of `size` are made of the batch (`augment.make_views`); `teacher` is
  'student' or 'average', the student's moving average of the given decay (0: no average is kept).
  The average, where it teaches, is also what predicts. `heads` (name -> outputs) share out the last
  channels of a network that has more than classes; the head `predicts` is what `predict` gives
  (None: all heads, as a dict).
  `classes` name the outputs of the head 'class', for the figures by which a collapse is seen.
  """

  def init(key, images):
    variables = network.init(key, standardize(images[:1]), train=False)
    student = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
    average = jax.tree.map(jnp.copy, student) if decay else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, student, average, optimizer.init(student['params']))

  def answer(variables, images, head):
    each = _by_head(network.apply(variables, standardize(images), train=False), heads)
    said = {name: x if name in NUMBERS else jax.nn.softmax(x) for name, x in each.items()}
    return said if head is None else said[head]

  def teaching(state) -> Variables:
    return state.average if teacher == 'average' else state.student

  def predict(state, images):
    return answer(teaching(state), images, predicts)

  def update(state, batch, key):
    key = jax.random.fold_in(key, state.step)
    view_key, method_key, dropout_key = jax.random.split(key, 3)
    views = _Named('view', make_views.make_views(recipes, batch, size, view_key))
    terms, metrics, taught = {}, {}, []

    def teach(images, head='class'):
      said = answer(teaching(state), images, head)
      if head in (None, 'class'):
        taught.append(said if head else said['class'])
      return said

    for name, ask in methods.items():
      asked, said = ask(teach, views, method_key, state.step)
      terms |= {f'{name}/{term}': value for term, value in asked.items()}
      metrics |= {f'{name}/{figure}': value for figure, value in said.items()}

    def loss_fn(params):
      outputs, changed = _forward(params, state, terms, dropout_key)
      losses = {name: term.loss(outputs[name]) for name, term in terms.items()}
      total = sum(terms[name].weight * loss for name, loss in losses.items())
      watched = taught or [jax.nn.softmax(x) for x in _of_unlabeled(outputs)]
      figures = {f'loss/{name}': loss for name, loss in losses.items()}
      return total, (
        changed,
        figures | (collapse.target_metrics(watched, classes) if watched else {}),
      )

    params = state.student['params']
    (total, (changed, figures)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    student = {**state.student, **changed, 'params': optax.apply_updates(params, updates)}
    average = state.average
    if average is not None:
      rate = 1 - ema_decay(state.step, decay)
      average = optax.incremental_update(student, average, rate)
    metrics |= figures | {'loss': total, 'grad_norm': optax.tree.norm(grads)}
    return TrainState(state.step + 1, student, average, opt_state), metrics

  def _forward(params, state, terms, key):
    """One pass of the student over the images of all terms; terms may share their images."""
    passes = {(id(term.images), term.drop): term.images for term in terms.values()}
    images = list(passes.values())
    shares = [jnp.full(len(x), drop) for x, (_, drop) in zip(images, passes, strict=True)]
    joined, changed = network.apply(
      {**state.student, 'params': params},
      standardize(parallel.interleave(images)),
      train=True,
      **(dict(drop=parallel.interleave(shares)) if any(drop for _, drop in passes) else {}),
      mutable=['batch_stats'],
      rngs={'dropout': key},
    )
    answers = parallel.separate(_by_head(joined, heads), [len(x) for x in images])
    answers = dict(zip(passes, answers, strict=True))

    def answer(term):
      each = _Named('head', answers[id(term.images), term.drop])
      return each if term.head is None else each[term.head]

    return {name: answer(term) for name, term in terms.items()}, changed

  return Learner(init, update, predict)


def _of_unlabeled(outputs: Mapping[str, Outputs]) -> list[jax.Array]:
  """The student's logits for unlabeled images, where a method asked for them."""
  found = [answer for name, answer in outputs.items() if name.endswith('/unlabeled')]
  return [answer['class'] if isinstance(answer, Mapping) else answer for answer in found]


def _by_head(outputs: Outputs, heads: Mapping[str, int] | None) -> Mapping[str, jax.Array]:
  """What a network says, by head: its own, or shares of its last channels, or 'class' alone."""
  if isinstance(outputs, Mapping):
    return outputs
  if not heads:
    return {'class': outputs}
  return dict(zip(heads, jnp.split(outputs, np.cumsum([*heads.values()])[:-1], -1), strict=True))


def first_nonfinite(metrics: Mapping[str, float]) -> str | None:
  """The name of a figure that is not finite, a method's loss first; None if all are."""
  order = sorted(metrics, key=lambda name: (not name.startswith('loss/'), name))
  return next((name for name in order if not jnp.isfinite(metrics[name])), None)
