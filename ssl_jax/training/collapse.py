"""Detects a network that learns nonsense: classes lost from its targets, merged clusters.

What is watched are the targets for unlabeled images: the teacher's probabilities, or, with methods
that have no teacher, the student's own. Of a network that learns from labels alone it is which
class it takes each pixel of its labeled images for.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.types import Metrics

CLASS_FRACTION, ENTROPY, MASK_RATE = 'targets/', 'targets/entropy', '/mask_rate'
"""Metrics that are watched: 'targets/<class>', 'targets/entropy', '<method>/mask_rate' and
'<method>/mask_rate/<class>'."""

MIN_CLASS_FRACTION = 0.1
"""A class is lost if the targets hold less than this part of its fraction among the labels."""

MIN_MARGINAL_ENTROPY = 0.1
"""Clusters have merged if the entropy of their sizes is below this part of the largest possible."""

MIN_MASK_RATE = 0.01
"""A method whose confident pixels are fewer learns nothing."""

PREDICTED = 'predictions/'
"""Metrics 'predictions/<class>' of a supervised network: the fraction of pixels taken for a class.

Mean probabilities would not do: they are near the fractions of the labels in a network that has
learned nothing else, and takes every pixel for background.
"""

SUPERVISED = 'loss/supervised/'
"""The losses on labels, one for each view of them."""

STARVED = 1.5
"""A method has kept the network from its labels if their loss is so many times the control's..."""

STARVED_BY = 0.05
"""...and by so much higher: of two losses near 0 the larger one fits its labels, too."""

SETTLED = 0.2
"""The part of the steps after which a collapse is watched for; the last such part judges the end.

It is reported once it has lasted so long again: a network that is still unsure recovers.
"""


class Watch:
  """Notices when a training looks collapsed for long, and then says so once.

  Early on every network predicts nonsense, and many recover.
  """

  def __init__(self, steps: int):
    self._part = SETTLED * steps
    self._since: int | None = None
    self._told = False

  def lasting_since(self, step: int, faulty: bool) -> int | None:
    """Returns the step since which all windows of steps were faulty, at the one time to tell it."""
    if step <= self._part or not faulty:
      self._since = None
      return None
    if self._since is None:
      self._since = step
    if self._told or step - self._since < self._part:
      return None
    self._told = True
    return self._since


def target_metrics(targets: Sequence[Float[Array, 'b *space k']]) -> Metrics:
  """Returns each class's mean probability, by its number, and the mean entropy of a pixel.

  The entropy is a part of the largest possible: 1 knows nothing, 0 is certain.
  """
  # [pixels of all targets, classes]
  flat = jnp.concatenate([probs.reshape(-1, probs.shape[-1]) for probs in targets])
  # p log p is 0 where p is; both branches of `where` must be finite.
  negative = jnp.where(flat > 0, flat * jnp.log(jnp.maximum(flat, 1e-30)), 0).sum(-1).mean()
  metrics = {f'{CLASS_FRACTION}{number}': mean for number, mean in enumerate(flat.mean(0))}
  return metrics | {ENTROPY: -negative / math.log(max(flat.shape[-1], 2))}


def predicted_metrics(outputs: Sequence[Float[Array, 'b *space k']]) -> Metrics:
  """Returns the fraction of pixels that are taken for each class, by its number."""
  flat = jnp.concatenate([logits.reshape(-1, logits.shape[-1]) for logits in outputs])
  classes = jnp.arange(flat.shape[-1])
  fractions = (flat.argmax(-1)[:, None] == classes).mean(0)
  return {f'{PREDICTED}{number}': fraction for number, fraction in enumerate(fractions)}


def metric_names(classes: Sequence[str], methods: Iterable[str] = ()) -> dict[str, str]:
  """Returns what the metrics of numbered classes are called in the log, where classes have names.

  They are those of the targets, and the confident pixels that methods count by class.

  Names are given outside of the compiled program: JAX writes them into it and sorts its results by
  them, so that other names would make another program.
  """
  prefixes = [CLASS_FRACTION, *(f'{method}{MASK_RATE}/' for method in methods)]
  return {
    f'{prefix}{i}': f'{prefix}{name}' for prefix in prefixes for i, name in enumerate(classes)
  }


def prediction_names(classes: Sequence[str]) -> dict[str, str]:
  """Returns what the metrics of `predicted_metrics` are called in the log."""
  return {f'{PREDICTED}{i}': f'{PREDICTED}{name}' for i, name in enumerate(classes)}


def find_collapse(
  figures: Mapping[str, float], label_fractions: Mapping[str, float] | None
) -> list[str]:
  """Returns what is wrong with the mean metrics of some steps, a clause each; empty if nothing is.

  Args:
    figures: metrics by name, of which only those above are looked at.
    label_fractions: class -> its fraction of the labeled pixels; None if the network has clusters,
      which cannot be compared with labels.
  """
  problems = []
  for prefix, what in ((CLASS_FRACTION, 'targets'), (PREDICTED, 'predictions')):
    fractions = {
      name.removeprefix(prefix): value
      for name, value in figures.items()
      # 'targets/entropy' has the same prefix as the classes and is not one of them.
      if name.startswith(prefix) and name != ENTROPY
    }
    if label_fractions is None:
      problems += _merged(fractions)
      continue
    for name, fraction in fractions.items():
      # A class that no label has is expected nowhere, so that it cannot be lost.
      if fraction < MIN_CLASS_FRACTION * label_fractions.get(name, 0):
        problems.append(
          f'its {what} hold {fraction:.1%} {name}, the labels {label_fractions[name]:.1%}'
        )
  for name, rate in figures.items():
    method, watched, class_name = name.partition(MASK_RATE)
    if not watched or rate >= MIN_MASK_RATE:
      continue
    class_name = class_name.removeprefix('/')
    if not class_name:
      problems.append(f'{method} is confident in {rate:.1%} of the pixels')
    # The total hides a class that nobody vouches for; one without labels is expected nowhere.
    elif label_fractions and label_fractions.get(class_name, 0) > 0:
      problems.append(f'{method} is confident in {rate:.1%} of what it takes for {class_name}')
  return problems


def _merged(fractions: Mapping[str, float]) -> list[str]:
  """What is wrong with the fractions of clusters, or of classes without known fractions."""
  # The entropy of the clusters' sizes, not that of a pixel: a good clustering is certain of each
  # pixel and still uses all clusters.
  entropy = -sum(p * math.log(p) for p in fractions.values() if p > 0)
  # math.log(k) is the entropy of k clusters of equal size, the largest possible one.
  if len(fractions) < 2 or entropy >= MIN_MARGINAL_ENTROPY * math.log(len(fractions)):
    return []
  largest = max(fractions, key=lambda name: fractions[name])
  return [f'nearly all pixels ({fractions[largest]:.1%}) are {largest}']


def _last_part(log: Sequence[Mapping]) -> list[Mapping]:
  """The lines of the last part of a training; none where there was none."""
  # Lines without a loss are evaluations.
  training = [line for line in log if 'loss' in line]
  if not training:
    return []
  start = (1 - SETTLED) * training[-1]['step']
  return [line for line in training if line['step'] > start]


def supervised_losses(log: Sequence[Mapping]) -> set[str]:
  """Returns the names of the supervised losses that a run has at its end."""
  last = _last_part(log)
  return {name for name in (last[-1] if last else ()) if name.startswith(SUPERVISED)}


def supervised_loss_at_end(
  log: Sequence[Mapping], names: Collection[str] | None = None
) -> float | None:
  """Returns the mean supervised loss in the last part of a run; None where it has none.

  It is the sum of those called `names`; None: of all.
  """
  last = _last_part(log)
  names = supervised_losses(log) if names is None else names
  if not names:
    return None
  return sum(line[name] for line in last for name in names) / len(last)


def is_starved(loss: float, control_loss: float) -> bool:
  """Returns whether a supervised loss at the end stayed far above that of the control."""
  return loss >= STARVED * control_loss and loss >= control_loss + STARVED_BY


def collapse_at_end(
  log: Sequence[Mapping], label_fractions: Mapping[str, float] | None
) -> list[str]:
  """Returns what is wrong in the last part of a run, given the lines of its metrics.jsonl."""
  last = _last_part(log)
  if not last:
    return []
  # Single windows of steps fluctuate; only their mean over the last part is judged.
  prefixes = CLASS_FRACTION, PREDICTED
  watched = [name for name in last[-1] if name.startswith(prefixes) or MASK_RATE in name]
  means = {name: sum(line[name] for line in last) / len(last) for name in watched}
  return find_collapse(means, label_fractions)
