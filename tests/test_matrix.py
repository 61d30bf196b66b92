"""Every method with every kind of network, in two and three dimensions, under both teachers."""

import inspect
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import registry, settings
from ssl_jax.models import resnet
from ssl_jax.training import learner, optimizers
from ssl_jax.types import AS_IS, MASKS

VIEWS = {
  'labeled': {'source': 'labeled'},
  'plain': {'source': 'unlabeled'},
  'weak': {'source': 'unlabeled'},
  'weak2': {'source': 'unlabeled', 'flip': 0.5},
  'strong': {'source': 'weak', 'rotate': 180.0},
  'strong2': {'source': 'weak', 'jitter': {'p': 1.0, 'brightness': 0.5}},
}
KWARGS = {'iic': {'radius': 1, 'over': 'over'}, 'uda': {'divergence': 'iid', 'radius': 1}}
ALONE = {'mixmatch', 'hydramix', 'supervised'}
OF_ALL_NETWORKS = {'supervised', 'fixmatch', 'unimatch', 'unimatch_v2', 'cps', 'iic'}
"""What asks something of the network itself (heads, dropped features), and what others are like."""
HEADS = {'class': 3, 'over': 4}
UNET = ('unet', {'widths': (4, 6)})
HYDRA = {'depth': 10, 'width': 1, 'classify': (4,), 'locate': (4,)}
NETWORKS = {
  'hydra': ('hydra', HYDRA, (9, 9)),
  'unet': (*UNET, (8, 8)),
  'nnunet in 3-D': ('nnunet', {'widths': (4, 6)}, (4, 8, 8)),
  'deeplabv3plus': (
    'deeplabv3plus',
    {'backbone': 'resnet10', 'output_stride': 16, 'rates': (2,)},
    (16, 16),
  ),
}
# There are many programs and each runs a few times: compile them fast, not to be fast.
QUICK = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}


def _batch(size, cells):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (2, *size, 1), np.uint8)
  labels = rng.integers(0, 3, (2, *size)).astype(np.uint8)
  extent = np.array([size] * 2, np.int32)
  batch = {
    'labeled': {'image': images, 'extent': extent, 'label': labels},
    'unlabeled': {'image': images[::-1].copy(), 'extent': extent},
  }
  if cells:
    points = np.array([[4.0, 5.0], [np.nan, np.nan]], np.float32)
    batch['labeled'] |= {'label': np.array([2, 0], np.int32), 'point': points}
  return jax.tree.map(jnp.asarray, batch)


def _learner(name, network, teacher):
  model, kwargs, size = NETWORKS[network]
  if name == 'cps':
    model, kwargs = 'pair', {'of': model, 'kwargs': kwargs}
  methods = {name: registry.build('methods', name, KWARGS.get(name, {}))}
  if name not in ALONE:
    methods['supervised'] = registry.build('methods', 'supervised', {})
  if (name, network) == ('supervised', 'hydra'):  # it has heads that need more
    methods['centroids'] = registry.build('methods', 'centroids', {})
  heads = HEADS if name == 'iic' else {'class': 3}
  return learner.make_learner(
    registry.build('models', model, kwargs, num_classes=sum(heads.values()), dtype='float32'),
    methods,
    VIEWS,
    size,
    optimizers.make(settings.Optimizer(name='sgd', weight_decay=0.0), lambda step: 0.1),
    teacher=teacher,
    ema_decay=0.5 if teacher == 'ema' else 0.0,
    heads=heads if name == 'iic' else None,
    classes=('a', 'b', 'c'),
  )


INITIAL = {}
"""The state is that of the network, whatever the method: one program serves many cases."""


def _initial_state(made, name, network, teacher):
  key = (network, teacher, name if name in ('cps', 'iic') else '')  # a pair, and another head
  if key not in INITIAL:
    init = jax.jit(made.init, compiler_options=QUICK)
    INITIAL[key] = init(jax.random.key(0), jnp.zeros((1, *NETWORKS[network][-1], 1)), AS_IS)
  return INITIAL[key]


def _asks_the_teacher(name):
  return 'teacher(' in inspect.getsource(inspect.getmodule(registry.find('methods', name)))


def _cases():
  """The whole product; what compiles long and tells little more is left to -m slow."""
  for network, (model, *_) in NETWORKS.items():
    fitting = [
      n for n in registry.known('methods') if _tasks('methods', n) & _tasks('models', model)
    ]
    for teacher, name in itertools.product(('ema', 'student'), fitting):
      slow = teacher == 'student' and (
        network not in ('unet', 'hydra') or not _asks_the_teacher(name)
      )
      slow |= network == 'deeplabv3plus' and name not in OF_ALL_NETWORKS
      yield pytest.param(name, network, teacher, marks=[pytest.mark.slow] * slow)


def _tasks(kind, name):
  return set(getattr(registry.find(kind, name), 'TASKS', (MASKS,)))


def test_every_method_is_in_the_matrix():
  assert {case.values[0] for case in _cases()} == set(registry.known('methods'))


@pytest.mark.parametrize(('name', 'network', 'teacher'), [*_cases()])
def test_two_steps_are_finite_and_move_the_student_alone(name, network, teacher, monkeypatch):
  monkeypatch.setitem(resnet.DEPTHS, 'resnet10', ((1, 1, 1, 1), False))
  size = NETWORKS[network][-1]
  made, batch = _learner(name, network, teacher), _batch(size, network == 'hydra')
  update = jax.jit(made.update, compiler_options=QUICK)
  states = [_initial_state(made, name, network, teacher)]
  for _ in range(2):
    state, metrics = update(states[-1], batch, jax.random.key(1))
    assert learner.first_nonfinite(jax.device_get(metrics)) is None
    states.append(state)

  initial, first, second = (state.student for state in states)
  changed = jax.tree.map(lambda a, b: not np.array_equal(a, b), initial['params'], second['params'])
  assert all(jax.tree.leaves(changed))
  if teacher == 'ema':  # it follows the student (decay 1/2) and no gradient of its own
    expected = jax.tree.map(lambda a, b, c: (a + b) / 4 + c / 2, initial, first, second)
    chex.assert_trees_all_close(states[-1].ema, expected, rtol=1e-4, atol=1e-5)
