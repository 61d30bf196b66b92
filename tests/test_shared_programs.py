"""Data sets of one shape share their compiled programs: what differs is an argument of these."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from conftest import tiny_page
from flax import struct

from ssl_jax import build
from ssl_jax.data import dataset_stats, stream
from ssl_jax.parsing import stage_list
from ssl_jax.settings import Gan, Inputs, Learning
from ssl_jax.training.checkpoint import Checkpoints
from ssl_jax.types import Normalization, TrainState

KEY = jax.random.key(0)
DARK = dict(mean=(0.1, 0.2, 0.3), std=(0.05, 0.06, 0.07), classes=('void', 'cell', 'nucleus'))
# The names sort otherwise, as do metrics of these names.
BRIGHT = dict(mean=(0.7, 0.8, 0.9), std=(0.2, 0.3, 0.4), classes=('sky', 'tree', 'house'))


def _settings():
  page = tiny_page()
  page.stages = ()
  return stage_list.resolve(stage_list.plain(page))[0].settings


@pytest.fixture(scope='module')
def splits():
  return build.splits(_settings().data)


def _learner(splits, changes, kind):
  settings = _settings()
  learning, inputs = settings.part(Learning), settings.part(Inputs)
  stats = dataset_stats.compute_stats(splits)._replace(**changes)
  if kind == 'gan':
    inputs.views.clear()
    inputs.views['real'] = dict(source='unlabeled')
    small = dict(generator=(4, 4, 4), discriminator=(4,), discriminators=1, latent=4)
    game = Gan(**small, loss='non-saturating')
    return build.gan_learner(game, learning, inputs, 5, stats)
  return build.learner(learning, inputs, 5, stats)


def _example():
  return np.zeros((1, *_settings().crop_size, 3), np.float32)


def _programs(splits, changes, kind):
  """The programs of a learner, as text, for one and the same batch."""
  learner = _learner(splits, changes, kind)
  given = KEY, _example(), learner.normalization
  state = jax.eval_shape(learner.init, *given)
  streams = build.streams(_settings().part(Inputs), splits, 0)
  batch = next(iter(stream.batches([streams], 0, 1)))
  shown = np.zeros((2, 4), np.float32) if kind == 'gan' else _example()
  arguments = {'init': given, 'update': (state, batch, KEY), 'predict': (state, shown)}
  return {
    name: jax.jit(getattr(learner, name)).lower(*args).as_text() for name, args in arguments.items()
  }


@pytest.mark.parametrize('kind', ['network', 'gan'])
def test_intensities_and_class_names_are_in_no_program(splits, kind):
  dark, bright = _programs(splits, DARK, kind), _programs(splits, BRIGHT, kind)
  # Not compared as dicts: the report of a difference would print both programs.
  for name, text in dark.items():
    assert 'stablehlo' in text
    assert (text == bright[name]) is True, f'{name} depends on values of the data set'


def test_predictions_follow_the_normalization_of_the_state(splits):
  learner = _learner(splits, DARK, 'network')
  state = jax.jit(learner.init)(KEY, _example(), learner.normalization)
  np.testing.assert_array_equal(state.normalization.mean, np.float32(DARK['mean']))
  predict = jax.jit(learner.predict)
  images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype(np.float32)
  # The network sees the same numbers: (x - mean) / std of one are those of the other.
  shifted = Normalization(state.normalization.mean + 0.25, state.normalization.std)
  same = predict(state.replace(normalization=shifted), images + 0.25)
  np.testing.assert_allclose(same, predict(state, images), atol=1e-4)
  assert np.abs(predict(state.replace(normalization=shifted), images) - same).max() > 1e-2


class OldState(struct.PyTreeNode):
  """The state as it was when checkpoints were first written."""

  step: object
  student: object
  ema: object
  opt_state: object


def test_checkpoints_hold_no_normalization_and_old_ones_restore(splits, tmp_path):
  learner = _learner(splits, DARK, 'network')
  state: TrainState = jax.jit(learner.init)(KEY, _example(), learner.normalization)
  old = OldState(state.step, state.student, state.ema, state.opt_state)
  with ocp.CheckpointManager(tmp_path / 'old') as manager:
    manager.save(0, args=ocp.args.StandardSave(old))
  new = Checkpoints(tmp_path / 'new')
  new.save(state)
  new.close()
  layouts = []
  for name in ('old', 'new'):
    written = tmp_path / name / '0' / 'default'
    layouts.append(jax.tree.structure(ocp.StandardCheckpointer().restore(written)))
    # Other weights and another normalization, so that it shows what comes from where.
    like = jax.jit(learner.init)(jax.random.key(1), _example(), Normalization(*2 * [np.ones(3)]))
    restored = Checkpoints(tmp_path / name, read_only=True).restore(like)
    jax.tree.map(np.testing.assert_array_equal, restored.student, state.student)
    jax.tree.map(np.testing.assert_array_equal, restored.opt_state, state.opt_state)
    np.testing.assert_array_equal(restored.normalization.mean, np.ones(3))
  assert layouts[0] == layouts[1]
