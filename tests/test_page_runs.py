"""Every page of configs/ takes two tiny steps."""

import numpy as np
import pytest
from page_cases import NAMES, page_of
from tiny_pages import shrink

from ssl_jax import run as runs
from ssl_jax import table
from ssl_jax.reports import table_cells

RUNS = [  # page, stages, whether it is slow
  ('your_images', '*', False),
  ('your_volumes', '*', False),
  ('wbc_study', 'zheng1-all-with*', False),
  ('uda_microscopy', 'u373-10-none*,u373-10-kl*', False),
  ('your_cells', '*', True),
  ('your_gaps', '*', True),
  ('iic_microscopy', 'bbbc039*', True),
  ('gan_self_training_em', '*', True),
  ('wbc_study', 'zheng1-all-*', True),
  ('quickstart', '*', True),
  ('formula_choices', '*', True),
  ('hippocampus', '*', True),
  ('acdc', '*-3*', True),
  ('imagenet_weights', 'u373-3-*-0', True),
  ('instances_microscopy', 'dsb2018-*', True),
  ('recipe_search', 'bbbc039-control-10,bbbc039-fixmatch-10,bbbc039-bcp-10', True),
  ('few_labels', 'zheng2-control-0,zheng2-fixmatch-aligned-0', True),
  ('updates', '*-600', True),
  ('flare22', '*', True),
  ('hydramix_crchisto', '50-*', True),
  ('methods_microscopy', 'bbbc039-*', True),
  ('fixmatch_lisc', '*', True),
  ('fixmatch_zheng1', '*', True),
  ('fixmatch_zheng2', '*', True),
  ('fixmatch_knobs', '*', True),
  ('ablation_zheng1', 'control,t80-*', True),
  ('wbc_table1', 'zheng1-deeplabv3plus_resnet50-*', True),
  ('wbc_table1_honest', 'lisc-deeplabv2_resnet101-*', True),
]
"""The slow ones have the stages and the data of another one, or a test of their stages runs them:
your_cells in test_detection.py, gan_self_training_em (with all stages of your_gaps) in
test_rounds.py, flare22 in test_segment.py, acdc in test_slices.py, quickstart in many."""


def test_every_page_is_run():
  assert {name for name, _, _ in RUNS} == set(NAMES)


@pytest.mark.parametrize(
  ('name', 'stages'),
  [
    pytest.param(name, stages, marks=pytest.mark.slow if slow else (), id=f'{name}-{stages}')
    for name, stages, slow in RUNS
  ],
)
def test_a_page_takes_two_tiny_steps(name, stages, tmp_path):
  config = shrink(page_of(name), tmp_path, stages)
  done = runs.run(config, tmp_path / 'run')
  figure = 'balanced_accuracy' if config.model.name == 'hydra' else 'miou'
  assert np.isfinite(done[f'test/{figure}'])
  assert done['steps'] == 2
  names = [stage['name'] for stage in config.stages]
  if 'control' in names:
    assert np.isfinite(done[f'control/test/{figure}'])
  if 'verdict' in names:
    assert (tmp_path / 'run' / 'verdict' / 'picture.png').exists()
  if config.table:
    assert table.main([str(tmp_path / 'run')]) == 0
    cells = table_cells.read_cells(tmp_path / 'run')
    assert len(cells) > 1
    assert all(len(cell.scores) == 1 for cell in cells)
