"""Notices a network that teaches itself nonsense: a class that its targets have lost, or all one.

What is watched is what unlabeled images are told: the teacher's answers, or, where a method asks no
teacher, the student's own.
"""

import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from ssl_jax.types import Metrics

MARGINAL, ENTROPY, TRUSTED = 'targets/', 'targets/entropy', '/trusted'
LOST = 0.1
"""A class is lost below this part of its share among the labels."""
ONE = 0.1
"""Clusters are one below this part of the largest possible entropy of their marginal."""
IDLE = 0.01
"""A method that trusts fewer pixels learns from none."""
SETTLED = 0.2
"""Part of the steps after which a class must have been found, and that the end is judged on."""


def target_metrics(answers: Sequence[Float[Array, 'b *space k']], names: Sequence[str]) -> Metrics:
  """Each class's mean probability, and the mean entropy of a pixel (1: knows nothing, 0: sure)."""
  flat = jnp.concatenate([probs.reshape(-1, probs.shape[-1]) for probs in answers])
  sure = jnp.where(flat > 0, flat * jnp.log(jnp.maximum(flat, 1e-30)), 0).sum(-1).mean()
  names = names or range(flat.shape[-1])
  shares = dict(zip(map(str, names), flat.mean(0), strict=True))
  return {MARGINAL + name: share for name, share in shares.items()} | {
    ENTROPY: -sure / math.log(max(len(names), 2))
  }


def find_collapse(seen: Mapping[str, float], labels: Mapping[str, float] | None) -> list[str]:
  """What is wrong with figures of a stretch of training, a clause each.

  `labels` are the shares of the classes among labeled pixels; None where those of the outputs are
  not to be compared with them.
  """
  found = []
  shares = {n[len(MARGINAL) :]: v for n, v in seen.items() if n.startswith(MARGINAL)}
  shares.pop('entropy', None)
  if labels is None:
    spread = -sum(share * math.log(share) for share in shares.values() if share > 0)
    if len(shares) > 1 and spread < ONE * math.log(len(shares)):
      most = max(shares, key=shares.get)
      found.append(f'nearly all answers ({shares[most]:.1%}) are {most}')
  else:
    for name, share in shares.items():
      if share < LOST * labels.get(name, 0):
        found.append(f'its targets hold {share:.1%} {name}, the labels {labels[name]:.1%}')
  for name, value in seen.items():
    if name.endswith(TRUSTED) and value < IDLE:
      found.append(f'{name.removesuffix(TRUSTED)} trusts {value:.1%} of the pixels')
  return found


def collapse_at_end(record: Sequence[Mapping], labels: Mapping[str, float] | None) -> list[str]:
  """What is wrong in the last part of a run, from the lines of its metrics.jsonl."""
  lines = [line for line in record if 'loss' in line]
  if not lines:
    return []
  last = [line for line in lines if line['step'] > (1 - SETTLED) * lines[-1]['step']]
  watched = [n for n in last[-1] if n.startswith(MARGINAL) or n.endswith(TRUSTED)]
  return find_collapse({n: sum(line[n] for line in last) / len(last) for n in watched}, labels)
