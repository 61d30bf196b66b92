"""A stage that says whether one trained stage beats another on the test images."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, statistics
from ssl_jax.inference.trained_networks import read_config
from ssl_jax.io.run_log import read_log, replace_text
from ssl_jax.stages import comparison_figures
from ssl_jax.stages.ensembles import trained_stages
from ssl_jax.stages.seed_scores import learns_from_labels_alone, shares_to_expect
from ssl_jax.training import collapse
from ssl_jax.types import CELLS, MASKS, Splits, StageSpec

INPUT_STAGES = {'of': ('train', 'score'), 'against': ('train', 'score')}
TASKS = (MASKS, CELLS)


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where the stage would compare what cannot be compared."""
  if found.test is None:
    raise UserError(
      f'stages.{plan.name} compares on test images, and the data hold none out; give some '
      f'(data.test or data.holdout), or take the stage away.'
    )
  sides = [earlier[plan.own[key]].config for key in INPUT_STAGES]
  if any(sides[0][key] != sides[1][key] for key in ('seed', 'replicas')):
    raise UserError(f'stages.{plan.name}: seeds are compared in pairs, so both need the same ones.')


def stage(
  config: Mapping, folder: Path, stop: Callable[[], bool], *, of: str, against: str
) -> dict[str, float]:
  """Says whether stage `of` beats stage `against` on the test images, and shows some of them.

  With several seeds the interval is over them, paired; with one it is over test images.
  """
  found = build.splits(config['data'])
  figure, read = confusion.PRIMARY_METRIC[found.task]
  ours, control = (_results(folder.parent / name) for name in (of, against))
  if len(ours) > 1:
    score = [np.array([read(m.sum(0)) for m in side]) for side in (ours, control)]
    difference = statistics.over_seeds(*score)
  else:
    difference = statistics.over_images(ours[0], control[0], read)
  other = {} if learns_from_labels_alone(folder.parent / against) else {'against': against}
  text = statistics.verdict(of, difference, confusion.DISPLAY_NAME[figure], **other)
  faults = [x for trained in trained_stages(folder.parent / of) for x in _collapsed(trained)]
  text += ''.join(f' {fault}' for fault in faults)
  if any('synthetic' in note for note in found.notes):
    text += ' These are synthetic images.'
  replace_text(folder / 'verdict.txt', text + '\n')
  print(text)
  if parallel.is_main():
    sides = {against: control, of: ours}
    (comparison_figures.of_cells if found.task == CELLS else comparison_figures.of_masks)(
      folder, found, sides
    )
  return {
    f'test/{figure}_difference': difference.mean,
    f'test/{figure}_difference_low': difference.low,
    f'test/{figure}_difference_high': difference.high,
  }


def _collapsed(stage: Path) -> list[str]:
  """Sentences that name the seeds that a method led astray, and how."""
  settings = read_config(stage)
  shares = shares_to_expect(settings, build.splits(settings['data']))
  folders = build.folders_of_seeds(settings, stage)
  each = {seed: collapse.collapse_at_end(read_log(own), shares) for seed, own in folders.items()}
  return [
    f'{stage.name} collapsed with seed {seed}: {"; ".join(faults)}.'
    for seed, faults in each.items()
    if faults
  ]


def _results(stage: Path) -> list[np.ndarray]:
  files = [seed / 'test' / 'matrices.npz' for seed in build.seed_folders(stage)]
  for file in files:
    if not file.exists():
      raise UserError(f'{file} is missing: comparing needs a stage that was scored on test images.')
  return [np.load(file)['matrices'] for file in files]
