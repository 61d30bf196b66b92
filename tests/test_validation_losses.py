"""States with the least loss on validation images are kept and scored."""

import json

import jax
import pytest
from conftest import tiny_page
from test_stages import clustering, settings_of

from ssl_jax import build
from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import read_log
from ssl_jax.run import run
from ssl_jax.settings import Inputs, Learning
from ssl_jax.stages.learning.validation_losses import validation_losses


def watched(**changes):
  """One stage that keeps its states with the least losses, and two that score them."""
  config = tiny_page()
  config.unlock()
  config.update(steps=6, eval_every=1, checkpoint_every=1, watch_losses=True)
  config.data.val = 2
  pick = dict(run='score', of='fixmatch')
  config.stages = (
    dict(name='fixmatch'),
    dict(name='total', checkpoint='best_total', **pick),
    dict(name='supervised', checkpoint='best_supervised', **pick),
  )
  config.update(changes)
  return config


def test_validation_losses_follow_from_the_state_alone():
  settings = settings_of(watched(), 'fixmatch')
  splits = build.splits(settings.data)
  stats = dataset_stats.compute_stats(splits, settings.normalize)
  learner = build.learner(settings.part(Learning), settings.part(Inputs), settings.steps, stats)
  losses = validation_losses(settings, learner, splits)
  image = jax.numpy.zeros((1, *settings.crop_size, 3))
  one, other = (learner.init(jax.random.key(k), image, learner.normalization) for k in (0, 1))
  # Every state is measured on the same views, so a difference is one of the states.
  assert losses(one) == losses(one)
  assert losses(one) != losses(other)
  assert 0 < losses(one)['val/loss_supervised'] <= losses(one)['val/loss']
  with pytest.raises(UserError, match='watch_losses looks on validation images'):
    validation_losses(settings, learner, splits._replace(val=None))


def test_the_states_of_least_validation_loss_are_kept_and_scored(tmp_path):
  run(watched(), tmp_path)
  lines = [x for x in read_log(tmp_path / 'fixmatch') if 'val/loss' in x]
  assert [line['step'] for line in lines] == [1, 2, 3, 4, 5, 6]
  for stage, figure in (('total', 'val/loss'), ('supervised', 'val/loss_supervised')):
    best = min(lines, key=lambda line: line[figure])
    done = json.loads((tmp_path / stage / 'done.json').read_text())
    assert done['steps'] == best['step']
    assert done['val/miou'] == pytest.approx(best['val/miou'])
    assert (tmp_path / stage / 'test' / 'matrices.npz').exists()


@pytest.mark.parametrize(
  ('config', 'says'),
  [
    (lambda: watched(watch_losses=False), 'let fixmatch keep them: watch_losses=True'),
    (lambda: watched(checkpoint='best_total', watch_losses=False), 'needs losses on validation'),
    (lambda: clustering(match=dict(head='other', how='overlap')), "match.head='other' is not one"),
    (lambda: clustering(match=dict(head='over', how='vote')), "match.how='vote' is not one"),
    (lambda: clustering(heads=dict(over=0)), r'heads\.over=0 is not in the range 1 to'),
    (lambda: clustering(methods=dict(mixmatch={}, supervised={})), 'mixmatch does what supervised'),
    (lambda: clustering(methods=dict(cps={})), 'cps works beside supervised; add it'),
    (
      lambda: clustering(methods=dict(iic=dict(over='more'))),
      "asks for the head 'more', but there is class, over",
    ),
    (
      lambda: clustering(stages=(*clustering().stages, dict(name='b', run='score', of='over'))),
      "of='over' is no train stage",
    ),
  ],
)
def test_heads_states_and_sums_that_cannot_be_are_refused(tmp_path, config, says):
  with pytest.raises(UserError, match=says):
    run(config(), tmp_path)
