"""The few shapes of data that every part agrees on."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int

IGNORE = 255
"""The label of a pixel that nobody vouches for; it trains nothing and scores nothing."""

BACKGROUND = 0
"""The class of a pixel, or of a patch, in which there is nothing."""

MASKS, CELLS = 'masks', 'cells'
"""Tasks: a class for each pixel; or a class for each patch, and where in it its cell is."""

NUMBERS = ('x', 'y')
"""Heads of a network that answer with numbers; every other head's answers are logits."""

Key = jax.Array
Step = Array | int
Metrics = Mapping[str, Array]
Variables = Mapping[str, Any]
Outputs = Any
"""What a network says of a batch: logits [B, *space, classes], or a dict of such heads."""


PredictFn = Callable[[np.ndarray], Any]
"""Images [B, *space, C] in [0, 1] -> class probabilities [B, *space, classes], as arrays of the host.

For patches a dict with 'class' [B, classes] and perhaps 'x' and 'y' [B]. Volumes may be of any size if
it is a `sliding_window.Windowed`.
"""

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""The default of a parameter that is a mapping."""


class Mix(struct.PyTreeNode):
  """Where a view was patched with pixels of another image of its batch (CutMix)."""

  partner: Int[Array, ' b']
  pasted: Bool[Array, 'b *space']


class View(struct.PyTreeNode):
  """Images as the network is shown them, and the record of how they were made.

  `geometry` maps a pixel index of the view to a pixel index of the image that it was made from
  (`source = geometry[:, :, :-1] @ index + geometry[:, :, -1]`, axes in array order: row, column).
  `valid` is False where padding or a cut-out made the pixel. Of patches that are labelled as a
  whole, `label` has one id each, and `point` is the index of the pixel (row, column) at which their
  cell is; NaN where there is none.
  """

  image: Float[Array, 'b *space c']  # in [0, 1]; 0 where padding made it
  valid: Bool[Array, 'b *space']
  geometry: Float[Array, 'b n n+1']
  label: Int[Array, 'b *space'] | Int[Array, ' b'] | None = None  # IGNORE where there is none
  mix: Mix | None = None
  point: Float[Array, 'b n'] | None = None


Views = Mapping[str, View]


class StageSpec(NamedTuple):
  """A stage that a run is to do."""

  name: str  # of its folder
  kind: str  # stages/<kind>.py
  config: Mapping  # the run's, with what the stage replaces
  own: Mapping  # parameters of the stage function itself


class Term(NamedTuple):
  """One question put to the student, and how its answer is scored."""

  images: Float[Array, 'b *space c']  # shown to the student
  loss: Callable[[Outputs], Array]  # the student's outputs for these images -> scalar
  weight: Array | float = 1.0
  head: str | None = 'class'  # which of the student's heads is scored; None: all, as a dict
  feature_dropout: float = 0.0  # fraction of the channels between encoder and decoder to drop
  view: str | None = None  # the view whose images these are; terms of one view share a forward pass
  unlabeled: bool = False  # whether the images have no labels: watched for a collapse


Teacher = Callable[..., Outputs]
"""Images, and a head ('class'; None: all, as a dict) -> probabilities; never differentiated."""

LossTransform = Callable[[Teacher, Views, Key, Step], tuple[Mapping[str, Term], Metrics]]
"""What a method is: the questions it asks about a batch of views, and figures to log."""


class TrainState(struct.PyTreeNode):
  """All that changes while a network learns."""

  step: Array
  student: Variables  # {'params', 'batch_stats'}
  average: Variables | None  # moving average of the student; None where nobody asks for it
  opt_state: optax.OptState

  def starting_from(self, weights: Variables) -> 'TrainState':
    """This fresh state with other weights, and with an average (if it has one) that equals them."""
    average = None if self.average is None else jax.tree.map(lambda x: x.copy(), weights)
    return self.replace(student=weights, average=average)


class Learner(NamedTuple):
  """All that the training loop knows of what is learnt: three pure functions."""

  init: Callable[[Key, Array], TrainState]  # key, an example of images [B, *space, C] -> state
  update: Callable[[TrainState, Any, Key], tuple[TrainState, Metrics]]  # state, batch, key
  predict: Callable[[TrainState, Array], Outputs]  # state, images in [0, 1] -> what it says


@runtime_checkable
class Source(Protocol):
  """Random access to images; the same index always gives the same record."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Mapping[str, np.ndarray | str]: ...


class Splits(NamedTuple):
  """A data set, as its loader hands it over.

  Records hold 'image' ([H, W, C], uint8, uint16 or float32 in [0, 1]; C is the same throughout),
  'name', and, except in `unlabeled`, 'label' ([H, W] uint8 class ids, IGNORE where unknown). Where
  the task is CELLS they are patches: 'label' is one id, 'point' the row and column of the cell (NaN
  for none), 'of' the name of the image that it was cut from.
  """

  labeled: Source
  unlabeled: Source | None
  val: Source | None
  test: Source | None
  classes: tuple[str, ...]  # names; the position is the class id
  notes: tuple[str, ...] = ()  # what the loader found and a person should know
  intensity: tuple[float, float] | None = None  # the raw values that became 0 and 1; None for 8-bit
  truth: Source | None = None  # `unlabeled` with labels: to judge pseudo-labels, never to train
  digest: str = ''  # another one wherever an image, a mask or the split is
  task: str = MASKS
  whole: Source | None = None  # of CELLS, test images with 'points' [n, 2] and 'classes' [n]
  complete: Source | None = None  # `labeled` before masks got gaps, 'removed': ids of what is gone
  scale: float = 1.0  # how much smaller than the files the images are
  preparation: Mapping | None = None  # of volumes, the knobs of preparation.Preparation
