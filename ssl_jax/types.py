"""The few shapes of data that every part agrees on."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import (
  Any,
  NamedTuple,
  Protocol,
  Required,
  TypedDict,
  no_type_check,
  runtime_checkable,
)

import jax
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int

IGNORE = 255
"""Ignore index: a label that is excluded from losses and metrics."""

BACKGROUND = 0
"""The class of a pixel, or of a patch, that shows no object."""

MASKS, CELLS = 'masks', 'cells'
"""Tasks: a class for each pixel; or a class for each patch, and the position of its cell."""

NUMBERS = ('x', 'y')
"""Heads of a network whose outputs are plain numbers; the outputs of all others are logits."""

Key = jax.Array
Step = Array | int
Metrics = Mapping[str, Array]
Figures = dict[str, float | int]
"""Figures of a stage or a seed by name, as done.json keeps them; `steps` is a whole number."""

Variables = Mapping[str, Any]
Outputs = Any
"""The outputs of a network for a batch: logits [B, *space, classes], or a dict of such heads."""


PredictFn = Callable[[np.ndarray], Any]
"""Images [B, *space, C] in [0, 1] -> class probabilities [B, *space, classes], on the host.

For patches a dict with 'class' [B, classes] and perhaps 'x' and 'y' [B]. Volumes may be of any size
if it is a `sliding_window.WindowedPredictor`.
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
  `valid` is False where padding or a cut-out made the pixel, and `cut` is True where a cut-out did.
  Of patches that are labeled as a whole, `label` has one id each, and `point` is the index of the
  pixel (row, column) at which their cell is; NaN where there is none.
  """

  image: Float[Array, 'b *space c']  # in [0, 1]; 0 where padding made it
  valid: Bool[Array, 'b *space']
  geometry: Float[Array, 'b n n+1']
  label: Int[Array, 'b *space'] | Int[Array, ' b'] | None = None  # IGNORE where there is none
  mix: Mix | None = None
  point: Float[Array, 'b n'] | None = None
  cut: Bool[Array, 'b *space'] | None = None  # None: the view has no cut-out


Views = Mapping[str, View]


FeatureMask = Callable[[int], Float[Array, 'b channels']]
"""Number of channels -> what those of each image's features are multiplied by."""


class FeatureDropout(NamedTuple):
  """Which channels between encoder and decoder a batch drops; layers.DropChannels does so."""

  rates: Float[Array, ' b'] | None = None  # fractions of the channels, drawn anew at each layer
  mask: FeatureMask | None = None


class Term(NamedTuple):
  """One term of the loss: images for the student, and a loss of its outputs.

  Terms with the same `view`, `feature_dropout` and `feature_mask` share one forward pass, so `view`
  may only be given if `images` are those of the view, unchanged. Terms of `own_statistics` are
  normalized together, apart from all others.
  """

  images: Float[Array, 'b *space c']  # shown to the student
  loss: Callable[[Outputs], Array]  # the student's outputs for these images -> scalar
  weight: Array | float = 1.0
  head: str | None = 'class'  # which of the student's heads the loss gets; None: all, as a dict
  feature_dropout: float = 0.0  # fraction of the channels between encoder and decoder to drop
  feature_mask: FeatureMask | None = None  # or which ones, for masks that terms have in common
  view: str | None = None  # name of the view whose images these are; None: a pass of its own
  unlabeled: bool = False  # images without labels, whose class fractions are watched for a collapse
  own_statistics: bool = False  # batch normalization by these images alone, not kept for prediction


Teacher = Callable[..., Outputs]
"""Images, and a head ('class'; None: all, as a dict) -> probabilities; never differentiated."""

LossTransform = Callable[[Teacher, Views, Key, Step], tuple[Mapping[str, Term], Metrics]]
"""A method: teacher, a batch of views, a key and the step -> terms by name, and metrics to log."""


class Normalization(NamedTuple):
  """Mean and standard deviation of the training images in [0, 1], [C] each (or numbers)."""

  mean: Array | np.ndarray
  std: Array | np.ndarray

  def standardize(self, pixels: Any) -> Any:
    """Scales pixels [..., C] in [0, 1] to zero mean and unit variance per channel."""
    return (pixels - self.mean) / self.std


AS_IS = Normalization(np.zeros((), np.float32), np.ones((), np.float32))
"""Leaves pixels as they are."""


# Not checked at run time: Orbax maps over the tree and puts objects of its own in place of arrays.
@no_type_check
class TrainState(struct.PyTreeNode):
  """Everything that changes during training, and by what images are standardized."""

  step: Array  # updates taken so far
  student: Variables  # {'params', 'batch_stats'}
  ema: Variables | None  # exponential moving average of the student; None where it is not kept
  opt_state: optax.OptState
  # Never changes. Here it is an argument of the compiled programs and no constant in them, so that
  # all data sets of one shape share them.
  normalization: Normalization = AS_IS

  def starting_from(self, weights: Variables) -> 'TrainState':
    """Returns this fresh state with other weights, which its moving average (if kept) copies."""
    ema = None if self.ema is None else jax.tree.map(lambda x: x.copy(), weights)
    return self.replace(student=weights, ema=ema)


class Learner(NamedTuple):
  """What the training loop needs of whatever is trained: three pure functions, and some facts.

  What differs between data sets of one shape is among the facts. The functions do not know it, and
  so compile to the same programs.
  """

  # key, an example of images [B, *space, C], what they are standardized by -> state
  init: Callable[[Key, Array, Normalization], TrainState]
  update: Callable[[TrainState, Any, Key], tuple[TrainState, Metrics]]  # state, batch, key
  predict: Callable[[TrainState, Array], Outputs]  # state, images in [0, 1] -> probabilities
  multiple: int = 1  # what the sides of images are multiples of, inside the network
  normalization: Normalization = AS_IS  # for `init`
  metric_names: Mapping[str, str] = NOTHING  # of `update` -> in the log, where they differ


class Record(TypedDict, total=False):
  """One item of a Source: an image, a patch of one, or a volume.

  All records have an image and a name. Records of labeled sources have a label; the other keys
  belong to patches of marked cells, to volumes, and to data sets with incomplete masks.
  """

  image: Required[np.ndarray]  # [*space, C]: uint8, uint16, or float32 in [0, 1]
  name: Required[str]
  label: np.ndarray | np.int32  # [*space] uint8 class ids, IGNORE: unknown; of a patch: one id
  point: np.ndarray  # of a patch: [2] float32 row and column of its cell; NaN where there is none
  of: str  # of a patch: the name of the image that it was cut from
  points: np.ndarray  # of an image of marked cells: [n, 2] row and column of each
  classes: np.ndarray  # and [n] their class ids
  file: str | tuple[str, ...]  # of a volume: the file that it was read from, or files (channels)
  mask_file: str  # of a labeled volume: the file of its mask
  read_mask: Callable[[str], np.ndarray]  # and what reads class ids [x, y, z] from it
  foreground: np.ndarray  # of a labeled volume: flat indices of its foreground voxels
  slice_size: Sequence[int] | None  # of a volume predicted by slices: see slice_source.py
  removed: np.ndarray  # [H, W] numbers of the instances that the training mask lacks; 0 elsewhere
  instances: np.ndarray  # [*space] ids of the instances that the label was made from; 0 elsewhere


@runtime_checkable
class Source(Protocol):
  """Random access to records; the same index always gives the same record."""

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Record: ...


class Draw(NamedTuple):
  """How labeled and test images were drawn: what an interval over several draws depends on."""

  overlap: float | None = None  # see statistics.mean_difference; None: labels are not drawn
  own_test: bool = False  # whether another draw has other test images
  groups: Mapping[str, str] = NOTHING  # of test images, by name: those of one patient


class ImageKind(NamedTuple):
  """What the image files of a training hold, which those of a prediction have to match."""

  dtypes: tuple[str, ...] = ()  # 'uint8', 'uint16' or 'float32'
  layouts: tuple[str, ...] = ()  # 'grey', 'RGB', or 'channels' that are no colors
  # Whether masks lie on the pixels as files store them; else upright, as orientation tags say.
  masks_stored: bool = False


class Splits(NamedTuple):
  """A data set, as its loader returns it.

  All images have the same number of channels. Records of `unlabeled` have no label. Where the task
  is CELLS the records are patches, cut around marked cells and from the background.
  """

  labeled: Source
  unlabeled: Source | None
  val: Source | None
  test: Source | None
  classes: tuple[str, ...]  # names; the position is the class id
  notes: tuple[str, ...] = ()  # what the loader found and the user should know
  # The raw values that became 0 and 1, of all channels or of each; None for 8-bit.
  intensity: tuple[float, float] | tuple[tuple[float, float], ...] | None = None
  truth: Source | None = None  # `unlabeled` with labels: to judge pseudo-labels, never to train
  digest: str = ''  # content hash; changes if images, masks or splits change
  task: str = MASKS
  whole: Source | None = None  # of CELLS: whole test images, with all points and their classes
  complete: Source | None = None  # `labeled` with its removed instances, and which these are
  scale: float = 1.0  # size of the images relative to their files
  preprocessing: Mapping[str, Any] | None = None  # of volumes: fields of VolumePreprocessing
  synthetic: bool = False  # whether the images are made by a program, which a verdict must say
  draw: Draw = Draw()
  kind: ImageKind | None = None  # None where images come from no files of the user's
  instances: Mapping[str, Any] | None = None  # of id masks: 'min_size', see inference/instances.py
