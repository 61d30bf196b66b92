"""How unsure the networks of a run are of an image: a committee of seeds, or one network.

The members of a committee learned with other random numbers, and mostly on other labels. Where they
contradict each other a label teaches most (query by committee: Seung et al. 1992). The measure is
the mutual information between the class of a pixel and the network that is asked (BALD: Houlsby et
al. 2011, arXiv:1112.5745): the entropy of the mean prediction without the mean entropy of the
predictions, which is what all members find hard alike (a blurred border, say).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssl_jax import run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference import run_networks, slices
from ssl_jax.inference.images import of_sizes, predict_many
from ssl_jax.inference.run_networks import Member
from ssl_jax.settings import Settings
from ssl_jax.types import PredictFn


class Committee(NamedTuple):
  """Networks that are asked about the same images."""

  members: Sequence[Member]  # the first seed first
  predict_fns: Sequence[PredictFn]  # of each member
  stage: Path  # folder of the stage

  @property
  def stats(self) -> DatasetStats:
    """The statistics of the first member; classes and kind of images are the same for all."""
    return self.members[0].stats

  @property
  def settings(self) -> Settings:
    """Of the first member."""
    return self.members[0].settings

  @property
  def seed(self) -> int:
    """Of the first member."""
    return self.members[0].seed

  def of_sizes(self, sizes: Sequence[Sequence[int]]) -> 'Committee':
    """Returns the committee for images of these sizes [H, W], as its networks see them."""
    predict_fns = [of_sizes(predict_fn, sizes) for predict_fn in self.predict_fns]
    return self._replace(predict_fns=predict_fns)


class Opinion(NamedTuple):
  """What a committee says of an image or volume, on the grid on which the networks see it."""

  probs: Float[np.ndarray, '*space k']  # of the classes, the mean over the members
  uncertainty: Float[np.ndarray, '*space']  # in bits


def find_stage(run: Path) -> Path:
  """Returns the folder of the stage whose networks are the committee of a run.

  It is the stage itself, if `run` is one. Of a run it is the last that trains; if that has a single
  network, the one that the run's verdict is about, if this has several.

  Raises:
    UserError: if the folder holds no run.
  """
  page = run_folder.read_page(run)
  stages = (page or {}).get('stages') or ()
  if not stages:
    # A stage, a seed, or a run of one training.
    run_folder.network_folder(run)
    return run
  last = run / run_folder.trained_stage(page or {})
  compared = [stage['of'] for stage in stages if stage.get('run') == 'compare']
  candidates = [last, *(run / name for name in reversed(compared) if isinstance(name, str))]
  for stage in candidates:
    if len(run_folder.seed_folders(stage)) > 1:
      return stage
  return last


def load(stage: Path) -> Committee:
  """Loads all networks of a stage: its seeds, or those of the stages that it scores.

  Raises:
    UserError: if one of them is not trained yet.
  """
  members, untrained = run_networks.members_of(stage)
  if untrained:
    numbers = ', '.join(map(str, sorted(set(untrained))))
    raise UserError(
      f'{stage} holds no trained network yet of the seeds {numbers}; let the run come to its end '
      'first.'
    )
  # Seed by seed, as their images are drawn; `sorted` keeps the order of stages.
  members = sorted(members, key=lambda member: member.seed)
  predict_fns, _ = run_networks.predict_fns_of(members)
  return Committee(members, predict_fns, stage)


def ask(committee: Committee, images: Sequence[Float[np.ndarray, '*space c']]) -> Opinion:
  """Returns what a committee says of one image [h, w, C] or volume [z, y, x, C].

  Args:
    committee: the networks.
    images: the image in [0, 1] as each member's training saw its own; a single one serves all.
  """
  shown = images if len(images) > 1 else [images[0]] * len(committee.members)
  triples = zip(committee.members, committee.predict_fns, shown, strict=True)
  return combine(_probabilities(*triple) for triple in triples)


def _probabilities(member: Member, predict_fn: PredictFn, image: np.ndarray) -> np.ndarray:
  preprocessing = member.stats.preprocessing
  if preprocessing is not None and preprocessing.get('slices'):
    return slices.predict_probabilities(predict_fn, image, preprocessing.get('size'))
  [(_, probs)] = predict_many(predict_fn, [image], batch=1)
  return np.asarray(probs, np.float32)


def combine(predictions: Iterable[Float[np.ndarray, '*space k']]) -> Opinion:
  """Returns the mean of the members' probabilities, and how unsure they are in bits.

  Of several members it is the mutual information, of a single one the entropy.
  """
  # Sums, so that of volumes the probabilities of one member at a time are in memory.
  total: np.ndarray | float = 0.0
  own: np.ndarray | float = 0.0
  count = 0
  for probs in predictions:
    total = total + probs
    own = own + entropy(probs)
    count += 1
  mean = np.asarray(total / count, np.float32)
  uncertainty = entropy(mean)
  if count > 1:
    # Never below 0 but for rounding, as entropy is concave.
    uncertainty = np.maximum(uncertainty - own / count, 0)
  return Opinion(mean, np.asarray(uncertainty, np.float32))


def entropy(probs: Float[np.ndarray, '*space k']) -> Float[np.ndarray, '*space']:
  """Returns the entropy of class probabilities in bits."""
  # p log p is 0 at p = 0.
  return -(probs * np.log2(np.maximum(probs, 1e-12))).sum(-1)
