"""Training steps of the learner for the accelerator benchmark: networks, data, programs."""

import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ssl_jax import build, parallel  # noqa: E402
from ssl_jax.data.dataset_stats import DatasetStats  # noqa: E402
from ssl_jax.settings import Inputs, Learning, Model, Optimizer  # noqa: E402
from ssl_jax.types import CELLS, MASKS, Learner, TrainState  # noqa: E402

CLASSES = ('background', 'a', 'b')
SMALL = (16, 32, 64, 128, 256)
FULL = (64, 128, 256, 512, 1024)
VIEWS = {
  # The images as they are: making views is not what is compared.
  'supervised': {'labeled': {'source': 'labeled'}},
  'fixmatch': {
    'labeled': {'source': 'labeled'},
    'weak': {'source': 'unlabeled'},
    'strong': {'source': 'weak'},
  },
}


JITTER = {'p': 0.8, 'brightness': 0.5, 'contrast': 0.5, 'saturation': 0.5}
STRONG = {'source': 'weak', 'jitter': JITTER, 'blur': {'p': 0.5, 'sigma': (0.1, 2.0)}}
WEAK = {'source': 'unlabeled', 'flip': 0.5, 'rotate': 15.0}
AUGMENTED = {
  'labeled': {'source': 'labeled', 'flip': 0.5, 'rotate': 15.0},
  'plain': {'source': 'unlabeled'},
  'weak': WEAK,
  'weak2': WEAK,
  'strong': STRONG,
  'strong2': {**STRONG, 'cutmix': {'p': 0.5, 'area': (0.1, 0.4)}},
}
"""Views by which methods are checked: of those that a method does not ask for none is made."""


class Case(NamedTuple):
  """A network, what it learns, and from how much; a method has as many unlabeled images."""

  model: str
  kwargs: dict[str, Any]
  size: tuple[int, ...]
  batch: int
  precision: str = 'bfloat16'
  method: str = 'supervised'
  options: dict[str, Any] | None = None  # of the method
  heads: dict[str, int] | None = None  # further ones of the network
  augmented: bool = False  # with views and a moving average as teacher
  patches: bool = False  # one label each

  def images(self) -> int:
    """The number of images of a step."""
    return self.batch * len(self.streams())

  def streams(self) -> list[str]:
    """The streams of a step."""
    alone = self.method in ('supervised', 'centroids')
    return ['labeled'] if alone else ['labeled', 'unlabeled']

  def views(self) -> dict[str, Any]:
    """How its views are made."""
    if not self.augmented:
      return VIEWS[self.method]
    made = {'labeled'} if 'unlabeled' not in self.streams() else set(AUGMENTED)
    return {name: view for name, view in AUGMENTED.items() if name in made}

  def methods(self) -> dict[str, dict[str, Any]]:
    """The methods whose losses are added up, and their options."""
    # These have a loss on the labels of their own, or none at all.
    without = ('supervised', 'mixmatch', 'hydramix', 'iic', 'bcp')
    labels = {} if self.method in without else {'supervised': {}}
    return labels | {self.method: dict(self.options or {})}


UNET, UNET2M = {'widths': FULL}, {'widths': SMALL}
# In the order of their worth: the minutes may end anywhere.
CASES = {
  'unet31m-512-bfloat16': Case('unet', UNET, (512, 512), 16),
  'deeplab-512-bfloat16': Case('deeplabv3plus', {}, (512, 512), 16),
  'unet2m-256-bfloat16': Case('unet', UNET2M, (256, 256), 24),
  'unet31m-256-fixmatch-bfloat16': Case('unet', UNET, (256, 256), 16, method='fixmatch'),
  'unet31m-256-bfloat16': Case('unet', UNET, (256, 256), 32),
  'unet31m-256-float32': Case('unet', UNET, (256, 256), 32, precision='float32'),
  'unet2m-256-float32': Case('unet', UNET2M, (256, 256), 24, precision='float32'),
}
SMALL_UNET = {'widths': (8, 16, 32)}


def _checked(method: str, **fields: Any) -> Case:
  """The case of a method: a small U-Net, unless a field says otherwise."""
  given = {'model': 'unet', 'kwargs': SMALL_UNET} | fields
  return Case(size=(64, 64), batch=4, precision='float32', method=method, augmented=True, **given)


def _supervised(model: str, kwargs: dict[str, Any]) -> Case:
  return Case(model, kwargs, (64, 64), 4, 'float32')


# Few pixels of a network that has learned nothing are confident.
CONFIDENT = {'threshold': 0.4}
PAIR = {'model': 'pair', 'kwargs': {'of': 'unet', 'kwargs': SMALL_UNET}}
PATCHES = {'model': 'hydra', 'kwargs': {'depth': 10, 'width': 1}, 'patches': True}
RESNET18 = {'backbone': 'resnet18'}
# Small enough for float32 at full precision on a CPU; each kind of network, then each method.
CHECKED = {
  'unet': Case('unet', {'widths': (8, 16, 32)}, (64, 64), 4, 'float32'),
  'unet_efficientnet': Case('unet_efficientnet', {}, (64, 64), 4, 'float32'),
  'deeplabv3plus': Case('deeplabv3plus', {'backbone': 'resnet18'}, (64, 64), 4, 'float32'),
  'nnunet': Case('nnunet', SMALL_UNET, (16, 16, 16), 2, 'float32'),
  'deeplabv2': _supervised('deeplabv2', RESNET18),
  'pspnet': _supervised('pspnet', RESNET18),
  'unet_resnet': _supervised('unet_resnet', RESNET18),
  'prominence_unet': _supervised('prominence_unet', {}),
  'fixmatch': _checked('fixmatch', options=CONFIDENT),
  'unimatch': _checked('unimatch', options=CONFIDENT),
  'bcp': _checked('bcp'),
  'uda': _checked('uda'),
  'mean_teacher': _checked('mean_teacher'),
  'hydramix': _checked('hydramix', **PATCHES),
  'mixmatch': _checked('mixmatch'),
  'cps': _checked('cps', **PAIR),
  'unimatch_v2': _checked('unimatch_v2', options=CONFIDENT),
  'pseudo_label': _checked('pseudo_label', options=CONFIDENT),
  'iic': _checked('iic', options={'over': 'over'}, heads={'over': 6}),
  'entropy': _checked('entropy'),
  'wideresnet': _checked('supervised', **PATCHES | {'model': 'wideresnet'}),
  'centroids': _checked('centroids', **PATCHES),
}


def tiny(case: Case) -> Case:
  """The case made small enough for a test on a CPU."""
  widths = {'widths': (4, 8)}
  kwargs = widths if case.model in ('unet', 'nnunet') else dict(case.kwargs)
  if case.model == 'pair':
    kwargs = case.kwargs | {'kwargs': widths}
  if case.model == 'deeplabv3plus':
    kwargs = {'backbone': 'resnet18'}
  side = 16 if len(case.size) == 3 else 32
  return case._replace(kwargs=kwargs, size=(side,) * len(case.size), batch=2)


def make_learner(case: Case) -> Learner:
  """The project's own learner of a case."""
  task = CELLS if case.patches else MASKS
  stats = DatasetStats(CLASSES, 3, None, (0.5,) * 3, (0.25,) * 3, {}, 0, task=task)
  learning = Learning(
    model=Model(name=case.model, kwargs=case.kwargs),
    methods=case.methods(),
    precision=case.precision,
    heads=case.heads,
    teacher='ema' if case.augmented else 'student',
    ema_decay=0.97 if case.augmented else 0.0,
    optimizer=Optimizer(name='sgd', lr=0.01, momentum=0.9, weight_decay=1e-4),
  )
  inputs = Inputs(
    batch=dict.fromkeys(case.streams(), case.batch),
    crop_size=case.size,
    views=case.views(),
  )
  return build.learner(learning, inputs, 1000, stats)


def make_batch(case: Case, seed: int = 0) -> dict[str, Any]:
  """Random images and labels, in memory of the host."""
  rng = np.random.default_rng(seed)
  shape = (case.batch, *case.size)
  batch = {}
  for name in case.streams():
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    batch[name] = {'image': image, 'extent': np.tile(np.int32(case.size), (case.batch, 1))}
  if case.patches:
    middle = np.float32(case.size) / 2
    points = (middle + rng.uniform(-4, 4, (case.batch, len(case.size)))).astype(np.float32)
    labels = rng.integers(0, len(CLASSES), case.batch).astype(np.int32)
    batch['labeled'] |= {'label': labels, 'point': points}
    return batch
  batch['labeled']['label'] = rng.integers(0, len(CLASSES), shape).astype(np.uint8)
  return batch


def make_state(case: Case, learner: Learner, seed: int = 0) -> TrainState:
  """A state with random weights, in memory of the host.

  It is made without `learner.init`, which would have to be compiled for the accelerator; the time
  of a step does not depend on the weights.
  """
  rng = np.random.default_rng(seed)
  example = np.zeros((1, *case.size, 3), np.float32)
  shapes = jax.eval_shape(learner.init, jax.random.key(0), example, learner.normalization)

  def fill(path: Any, leaf: Any) -> np.ndarray:
    where = jax.tree_util.keystr(path)
    weights = where.startswith(('.student', '.ema'))
    if weights and leaf.ndim > 1:
      deviation = math.sqrt(2 / math.prod(leaf.shape[:-1]))
      return rng.standard_normal(leaf.shape, np.float32) * np.float32(deviation)
    # Scales and variances; shifts, means and the state of the optimizer are 0.
    ones = weights and where.endswith(("['scale']", "['var']"))
    return np.full(leaf.shape, float(ones), leaf.dtype)

  state = jax.tree_util.tree_map_with_path(fill, shapes)
  return state.replace(normalization=learner.normalization)


def compile_program(jitted: Any, *arguments: Any, **options: Any) -> tuple[Any, dict[str, Any]]:
  """The program of a function, and what it took to make it.

  FLOPs are counted before XLA changes the program, so that they are those of the model: XLA counts
  none for calls of cuDNN. Memory is that of the program with its arguments; the peak of the
  process would be that of the largest program so far.
  """
  begin = time.perf_counter()
  lowered = jitted.lower(*arguments)
  traced = time.perf_counter()
  program = lowered.compile(options or None)
  done = time.perf_counter()
  figures = {'trace_s': traced - begin, 'compile_s': done - traced}
  counted = lowered.cost_analysis() or {}
  figures['flops'] = counted.get('flops', 0.0)
  memory = program.memory_analysis()
  if memory:
    own = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    figures['gib'] = (own + new) / 2**30
  return program, figures


class Step(NamedTuple):
  """A compiled training step that goes on from its own state."""

  advance: Any
  figures: dict[str, Any]


def make_step(case: Case, seeds: int = 1) -> Step:
  """Compiles the update of the learner as a run does, for several seeds in one program."""
  learner = make_learner(case)
  states = [make_state(case, learner, seed) for seed in range(seeds)]
  batches = [make_batch(case, seed) for seed in range(seeds)]
  key = jax.random.key(0)
  state, batch = states[0], batches[0]
  if seeds > 1:
    # With NumPy: JAX would compile a program for every shape.
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
    key = jax.random.split(key, seeds)
  state = jax.device_put(state, parallel.replicated())
  batch = parallel.shard(batch, seeds)
  update = parallel.jit_update(learner.update, seeds)
  program, figures = compile_program(update, state, batch, key)

  def advance() -> Any:
    nonlocal state
    state, metrics = program(state, batch, key)
    return state, metrics

  begin = time.perf_counter()
  _, metrics = jax.block_until_ready(advance())
  figures['first_s'] = time.perf_counter() - begin
  figures['loss'] = float(np.mean(metrics['loss']))
  return Step(advance, figures)


def peak_gib() -> float | None:
  """The most memory that the process has had on the accelerator, or None where it is unknown."""
  stats = jax.devices()[0].memory_stats()
  return stats['peak_bytes_in_use'] / 2**30 if stats else None
