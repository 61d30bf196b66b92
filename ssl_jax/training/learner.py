"""How a network learns: views -> terms -> one forward pass -> gradient -> moving average."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.training import collapse
from ssl_jax.types import (
  AS_IS,
  NUMBERS,
  FeatureDropout,
  Key,
  Learner,
  LossTransform,
  Metrics,
  Normalization,
  Outputs,
  Step,
  Term,
  TrainState,
  Variables,
)
from ssl_jax.views import make_views

ByHead = Mapping[str, jax.Array]
"""The outputs of a network for a batch: head -> [B, *space, channels], or [B] for NUMBERS."""


def warmed_up_decay(step: Step, decay: float) -> jax.Array:
  """Returns the decay of the moving average at the update after `step` others.

  It is min(1 - 1 / (t + 1), decay) at update t = 1, 2, ..., so that the average does not stay at
  the random initial weights (Tarvainen & Valpola 2017).
  """
  # `step` counts from 0 and t from 1.
  return jnp.minimum(1 - 1 / (step + 2), decay)


def size_multiple(network: nn.Module) -> int:
  """Returns what the sides of images are multiples of inside a network; 1 if it takes any.

  A network with levels pads its images by itself, and says to which size in a method
  `size_multiple()`.
  """
  method = getattr(network, 'size_multiple', None)
  return method() if method else 1


class _ByName(dict):
  """Views or heads by name; looking up one that does not exist tells the user which do."""

  def __init__(self, kind: str, items: Mapping[str, Any]):
    super().__init__(items)
    self.kind = kind

  def __missing__(self, name: str) -> NoReturn:
    raise UserError(f'A method asks for the {self.kind} {name!r}, but there is {", ".join(self)}.')


def make_learner(
  network: nn.Module,
  methods: Mapping[str, LossTransform],
  recipes: Mapping[str, Mapping],
  size: tuple[int, ...],
  optimizer: optax.GradientTransformation,
  *,
  teacher: str = 'student',
  teacher_mode: str = 'eval',
  ema_decay: float = 0.0,
  ema_batch_stats: bool = True,
  labels_first: int = 0,
  normalization: Normalization = AS_IS,
  heads: Mapping[str, int] | None = None,
  predicts: str | None = 'class',
  classes: Sequence[str] = (),
  remat: bool = False,
) -> Learner:
  """Returns a learner that trains `network` on the weighted sum of the terms of `methods`.

  Args:
    network: images [B, *space, C] -> logits, or a dict of heads.
    methods: name -> method; its terms are logged as `loss/<name>/<term>`.
    recipes: how views are made of a batch, see `make_views`.
    size: sides of the views in pixels.
    optimizer: what turns gradients into updates.
    teacher: 'student', or 'ema' for its moving average, which then predicts as well.
    teacher_mode: how the teacher makes targets: 'eval' as in prediction, with running statistics
      and without dropout; 'train' with the statistics of its batch and with dropout.
    ema_decay: decay of that moving average; 0 keeps none.
    ema_batch_stats: whether batch statistics are averaged with the parameters; otherwise the
      average has the student's.
    labels_first: first steps in which terms of unlabeled images weigh nothing; methods count their
      steps from then on.
    normalization: what images in [0, 1] are standardized by for the network.
    heads: name -> channels, for a network whose last channels are shared out among several heads.
    predicts: the head that `predict` returns; None returns all, as a dict.
    classes: names of the outputs of the head 'class', under which the targets are logged; without
      names they are numbered.
    remat: whether the backward pass computes anew what lies between convolutions (Chen et al. 2016,
      arXiv:1604.06174).

  Raises:
    UserError: when tracing, if a method needs a view or a head that does not exist.
    ValueError: if `teacher` or `teacher_mode` is neither of the two, or the teacher is a moving
      average that is not kept.
  """
  if teacher not in ('student', 'ema') or (teacher == 'ema' and not ema_decay):
    raise ValueError(f'make_learner: teacher={teacher!r} with ema_decay={ema_decay}')
  if teacher_mode not in ('eval', 'train'):
    raise ValueError(f'make_learner: teacher_mode={teacher_mode!r}')

  def init(key: Key, images: jax.Array, normalization: Normalization) -> TrainState:
    variables = network.init(key, normalization.standardize(images[:1]), train=False)
    # Networks without batch normalization have no 'batch_stats'.
    student = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
    # A copy: an update donates all buffers of the state, so none may be in it twice.
    ema = jax.tree.map(jnp.copy, student) if ema_decay else None
    step = jnp.zeros((), jnp.int32)
    return TrainState(step, student, ema, optimizer.init(student['params']), normalization)

  def probabilities(
    state: TrainState, images: jax.Array, head: str | None, dropout_key: Key | None = None
  ) -> Outputs:
    # `state.ema` may exist and yet not teach: then it is only kept.
    averaged = teacher == 'ema' and state.ema is not None
    variables = state.ema if averaged else state.student
    shown = state.normalization.standardize(images)
    if dropout_key is None:
      # Without dropout and with running statistics, as in prediction.
      outputs = network.apply(variables, shown, train=False)
    else:
      # The statistics that follow from these images are not kept.
      outputs, _ = network.apply(
        variables, shown, train=True, mutable=['batch_stats'], rngs={'dropout': dropout_key}
      )
    outputs = _by_head(outputs, heads)
    probs = {name: x if name in NUMBERS else jax.nn.softmax(x) for name, x in outputs.items()}
    return probs if head is None else probs[head]

  def predict(state: TrainState, images: jax.Array) -> Outputs:
    return probabilities(state, images, predicts)

  def update(state: TrainState, batch: Any, key: Key) -> tuple[TrainState, Metrics]:
    # Keys follow from the step: a resumed run draws what the uninterrupted one would have drawn.
    key = jax.random.fold_in(key, state.step)
    view_key, method_key, dropout_key = jax.random.split(key, 3)
    views = _ByName('view', make_views.make_views(recipes, batch, size, view_key))
    teacher_key = jax.random.fold_in(dropout_key, 2) if teacher_mode == 'train' else None
    targets = []  # the teacher's class probabilities, watched for a collapse

    # What methods call; it notes down the targets on the way, so that no method has to.
    def teach(images: jax.Array, head: str | None = 'class') -> Outputs:
      probs = probabilities(state, images, head, teacher_key)
      if head is None:
        targets.append(probs['class'])
      elif head == 'class':
        targets.append(probs)
      return probs

    since = state.step
    if labels_first:
      since = jnp.maximum(state.step - labels_first, 0)
    terms: dict[str, Term] = {}
    metrics: dict[str, jax.Array] = {}
    for name, method in methods.items():
      # Nothing is trained yet: a method only says which images to show, and their loss.
      terms_of_method, figures_of_method = method(teach, views, method_key, since)
      terms |= {f'{name}/{term}': value for term, value in terms_of_method.items()}
      metrics |= {f'{name}/{figure}': value for figure, value in figures_of_method.items()}
    if labels_first:
      started = (state.step >= labels_first).astype(jnp.float32)
      terms |= {
        name: term._replace(weight=started * term.weight)
        for name, term in terms.items()
        if term.unlabeled
      }

    def loss_fn(params: Variables) -> tuple[jax.Array, tuple[Variables, Metrics]]:
      outputs, batch_stats = forward(params, state, terms, dropout_key)
      # Logged without their weights, so that runs of different weights can be compared.
      losses = {name: term.loss(outputs[name]) for name, term in terms.items()}
      total: Any = sum(terms[name].weight * loss for name, loss in losses.items())
      # Without a teacher the student's own outputs for unlabeled images stand for the targets.
      watched = targets or [
        jax.nn.softmax(_class_logits(outputs[name]))
        for name, term in terms.items()
        if term.unlabeled
      ]
      figures = {f'loss/{name}': loss for name, loss in losses.items()}
      if watched:
        figures |= collapse.target_metrics(watched)
      else:
        # Labels alone: there are no targets, but the network may still see one class everywhere.
        logits = [_class_logits(outputs[name]) for name, term in terms.items() if _of_classes(term)]
        if logits:
          figures |= collapse.predicted_metrics(logits)
      return total, (batch_stats, figures)

    # Only loss_fn is differentiated: whatever the teacher said is a constant in it.
    params = state.student['params']
    (total, (batch_stats, figures)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, state.opt_state, params)
    # `batch_stats` is empty in networks that have none; then the old entry stays.
    student = {**state.student, **batch_stats, 'params': optax.apply_updates(params, updates)}
    ema = state.ema
    if ema is not None:
      # ema = (1 - rate) * ema + rate * student.
      rate = 1 - warmed_up_decay(state.step, ema_decay)
      moved: Any = optax.incremental_update(student, ema, rate)
      # Tarvainen & Valpola average parameters alone, but their teacher predicts in training mode,
      # with the statistics of its own batch. Ours uses running statistics; the student's do not fit
      # averaged parameters while these still change fast (docs/results.md has the figures).
      ema = moved if ema_batch_stats else {**moved, 'batch_stats': student['batch_stats']}
    # The norm is that of the raw gradient, before the optimizer may clip it.
    metrics |= figures | {'loss': total, 'grad_norm': optax.tree.norm(grads)}
    after = state.replace(step=state.step + 1, student=student, ema=ema, opt_state=opt_state)
    return after, metrics

  def forward(
    params: Variables, state: TrainState, terms: Mapping[str, Term], key: Key
  ) -> tuple[dict[str, Outputs], Variables]:
    """Shows the student the images of all terms; returns outputs by term, and new statistics.

    All images are one batch, so that batch normalization sees labeled and unlabeled ones together;
    those that shall have statistics of their own are a second, whose statistics are not kept.
    """
    # The first term of each pass stands for all of it: their images and dropout are the same.
    passes: dict[tuple, Term] = {}
    for name, term in terms.items():
      passes.setdefault(_pass_of(name, term), term)
    # Without batch statistics (other norms look at one image alone) all are one batch.
    apart = {name for name, term in passes.items() if term.own_statistics and _has_stats(state)}
    together = {name: term for name, term in passes.items() if name not in apart}
    outputs_of_pass, batch_stats = run(params, state, together, key)
    if apart:
      others = {name: passes[name] for name in passes if name in apart}
      own, _ = run(params, state, others, jax.random.fold_in(key, 1))
      outputs_of_pass |= own
    outputs = {}
    for name, term in terms.items():
      # Terms of one pass may look at different heads of it.
      by_head = _ByName('head', outputs_of_pass[_pass_of(name, term)])
      outputs[name] = by_head if term.head is None else by_head[term.head]
    return outputs, batch_stats

  def run(
    params: Variables, state: TrainState, passes: Mapping[tuple, Term], key: Key
  ) -> tuple[dict[tuple, ByHead], Variables]:
    """Runs the student once over the images of some passes; returns outputs, new statistics."""
    images = [term.images for term in passes.values()]
    kwargs: dict[str, Any] = {}
    if dropout := _feature_dropout([*passes.values()]):
      kwargs['feature_dropout'] = dropout

    def apply(params: Variables, shown: jax.Array) -> tuple[Any, Any]:
      # `params` is what is differentiated; the batch statistics are those of the state.
      variables = {**state.student, 'params': params}
      # Makes Flax return the updated running statistics beside the outputs.
      mutable = ['batch_stats']
      return network.apply(
        variables, shown, train=True, **kwargs, mutable=mutable, rngs={'dropout': key}
      )

    if remat:
      apply = jax.checkpoint(apply, policy=_is_kept)
    shown = state.normalization.standardize(parallel.interleave(images))
    joined, batch_stats = apply(params, shown)
    parts = parallel.separate(_by_head(joined, heads), [len(x) for x in images])
    return dict(zip(passes, parts, strict=True)), batch_stats

  names = collapse.metric_names(classes, methods) | collapse.prediction_names(classes)
  return Learner(init, update, predict, size_multiple(network), normalization, names)


def _is_kept(primitive: Any, *_: Any, **__: Any) -> bool:
  """Whether the results of an operation are kept for the backward pass where memory is spared.

  Those of convolutions and products are, because these take nearly all of the time.
  """
  return primitive.name in ('conv_general_dilated', 'dot_general')


def _pass_of(name: str, term: Term) -> tuple:
  """Returns what the terms of one forward pass have in common: their view and their dropout."""
  if term.view is None:
    # The term's name makes the pass unique, so that it is shared with no other term.
    return 'term', name
  return 'view', term.view, term.feature_dropout, term.feature_mask


def _feature_dropout(terms: Sequence[Term]) -> FeatureDropout | None:
  """Returns which channels the images of some terms drop, joined as the images are; None: none."""
  rates = None
  if any(term.feature_dropout for term in terms):
    # [B] for each pass: a rate for every example, 0 where a term wants no dropout.
    rates = parallel.interleave(
      [jnp.full(len(term.images), term.feature_dropout) for term in terms]
    )
  if not any(term.feature_mask for term in terms):
    return None if rates is None else FeatureDropout(rates)

  def mask(channels: int) -> jax.Array:
    factors = []
    for term in terms:
      if term.feature_mask:
        factors.append(term.feature_mask(channels))
      else:
        factors.append(jnp.ones((len(term.images), channels)))
    return parallel.interleave(factors)

  return FeatureDropout(rates, mask)


def _has_stats(state: TrainState) -> bool:
  """Whether the network has batch normalization."""
  return bool(state.student['batch_stats'])


def _class_logits(outputs: Outputs) -> jax.Array:
  return outputs['class'] if isinstance(outputs, Mapping) else outputs


def _of_classes(term: Term) -> bool:
  """Whether a term's loss gets the outputs of the classes."""
  return term.head in ('class', None)


def _by_head(outputs: Outputs, heads: Mapping[str, int] | None) -> ByHead:
  """Splits what a network returns into a dict of heads, by its last channels if `heads` say so."""
  if isinstance(outputs, Mapping):
    return outputs
  if not heads:
    return {'class': outputs}
  # jnp.split wants the channels at which to cut, which are one fewer than the heads.
  ends = np.cumsum([*heads.values()])[:-1]
  return dict(zip(heads, jnp.split(outputs, ends, -1), strict=True))


def first_nonfinite(metrics: Mapping[str, Any]) -> str | None:
  """Returns the name of a figure that is infinite or NaN, a method's loss first, or None."""
  # A method's loss tells more than the total and the gradient norm, which follow from it.
  order = sorted(metrics, key=lambda name: (not name.startswith('loss/'), name))
  return next((name for name in order if not jnp.isfinite(metrics[name])), None)
