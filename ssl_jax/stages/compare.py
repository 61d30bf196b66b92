"""A stage that says whether one trained stage beats another on the test images."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ssl_jax import build, parallel, run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion, statistics
from ssl_jax.io.run_log import read_log, replace_text
from ssl_jax.settings import Learning, Seeds, Settings
from ssl_jax.stage_list import StageSpec, differences
from ssl_jax.stages import comparison_figures
from ssl_jax.stages.ensembles import names_of, same_seeds, trained_stages
from ssl_jax.stages.seed_scores import learns_from_labels_alone, shares_to_expect
from ssl_jax.training import collapse
from ssl_jax.types import CELLS, MASKS, Figures, Splits

INPUT_STAGES = {'of': ('train', 'score'), 'against': ('train', 'score')}
TASKS = (MASKS, CELLS)
USES = ('seed', 'num_seeds', 'data')


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that the two stages can be compared, and differ in nothing but what is asked.

  Raises:
    UserError: if there are no test images, the seeds are not the same, or the two stages differ
      in more than what a supervised control takes away and the page names.
  """
  where = f'stages.{spec.name}'
  if splits.test is None:
    raise UserError(
      f'{where} compares on test images, and the data hold none out; give some '
      f'(data.test or data.test_fraction), or take the stage away.'
    )
  # INPUT_STAGES names the two sides in this order.
  of, against = (earlier[spec.stage_kwargs[key]] for key in INPUT_STAGES)
  if not same_seeds(of, against):
    raise UserError(f'{where}: seeds are compared in pairs, so both stages need the same ones.')
  # Any other difference would be confounded with the effect of the unlabeled images.
  unnamed = unnamed_differences(spec, earlier)
  if unnamed:
    listed = '; '.join(f'{key} is {a!r} and {b!r}' for key, (a, b) in unnamed.items())
    names = ', '.join(repr(key) for key in unnamed)
    raise UserError(
      f'{where}: {of.name} and {against.name} differ in more than the unlabeled images, so their '
      f'scores would not tell what those do: {listed}. Set it for both, make one with '
      f'control_of={of.name!r}, or name it: differences=({names},).'
    )


def unnamed_differences(
  spec: StageSpec, earlier: Mapping[str, StageSpec]
) -> dict[str, tuple[object, object]]:
  """Fields in which the two sides differ, apart from the control's and those that the page names.

  Of an ensemble that a `score` stage scores, the first network is compared.
  """
  sides = []
  for key in INPUT_STAGES:
    side = earlier[spec.stage_kwargs[key]]
    # A `score` stage trains nothing; what counts are the settings of the networks that it scores.
    if side.run == 'score':
      side = earlier[names_of(side.stage_kwargs['of'])[0]]
    sides.append(side)
  named = tuple(spec.stage_kwargs.get('differences', ()))
  return {
    key: values
    for key, values in differences(*sides).items()
    # Naming a dict of fields also names the fields inside.
    if not any(key == name or key.startswith(f'{name}.') for name in named)
  }


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str,
  against: str,
  differences: Sequence[str] = (),
) -> Figures:
  """Says whether stage `of` beats stage `against` on the test images, and shows some of them.

  With several seeds the interval is over them, paired; with one it is over test images. Writes
  verdict.txt and pictures.

  Args:
    settings: of this stage.
    folder: of this stage.
    stop: not asked; a comparison takes seconds.
    of: a `train` stage, or a `score` stage of several.
    against: what it is compared with, usually its control.
    differences: fields in which the two may differ beside what a control takes away.

  Returns:
    The difference of the primary metric, and the ends of its interval, in points.

  Raises:
    UserError: if one of them has no scores on test images.
  """
  splits = build.splits(settings.data)
  metric, read = confusion.PRIMARY_METRIC[splits.task]
  # A list over seeds of matrices [images, k, k].
  ours, control = (_matrices(folder.parent / name) for name in (of, against))
  # All test images are pooled into one matrix for each seed. The difference is then taken seed by
  # seed, so that what a seed's initial weights and order of images do to both sides cancels.
  if len(ours) > 1:
    scores = [np.array([read(m.sum(0)) for m in side]) for side in (ours, control)]
    difference = statistics.difference_over_seeds(*scores)
  else:
    # With one seed only the choice of test images is left to vary.
    difference = statistics.difference_over_images(ours[0], control[0], read)
  # A supervised control is called so in the verdict; anything else by its name.
  words = {} if learns_from_labels_alone(folder.parent / against) else {'against': against}
  text = statistics.verdict(of, difference, confusion.DISPLAY_NAME[metric], **words)
  # A collapsed seed lowers the mean for a reason of its own, which the verdict must tell.
  for trained in trained_stages(folder.parent / of):
    text += ''.join(f' {sentence}' for sentence in _collapsed_seeds(trained))
  # Nobody should take a number from generated images for a result on real cells.
  if splits.synthetic:
    text += ' These are synthetic images.'
  replace_text(folder / run_folder.VERDICT, text + '\n')
  print(text)
  if parallel.is_main():
    draw = comparison_figures.of_masks
    if splits.task == CELLS:
      draw = comparison_figures.of_cells
    draw(folder, splits, {against: control, of: ours})
  return {
    f'test/{metric}_difference': difference.mean,
    f'test/{metric}_difference_low': difference.low,
    f'test/{metric}_difference_high': difference.high,
  }


def _collapsed_seeds(stage: Path) -> list[str]:
  """Sentences that name the seeds whose training collapsed, and how."""
  settings = run_folder.read_settings(stage)
  shares = shares_to_expect(settings.part(Learning), build.splits(settings.data))
  # The log of each seed holds the fractions of the classes among its targets.
  folders = run_folder.folders_of_seeds(settings.part(Seeds), stage)
  sentences = []
  for seed, folder in folders.items():
    if faults := collapse.collapse_at_end(read_log(folder), shares):
      sentences.append(f'{stage.name} collapsed with seed {seed}: {"; ".join(faults)}.')
  return sentences


def _matrices(stage: Path) -> list[np.ndarray]:
  """Confusion matrices [images, k, k] of the test images, by seed.

  Raises:
    UserError: if the stage has none.
  """
  matrices = []
  for folder in run_folder.seed_folders(stage):
    file = folder / 'test' / 'matrices.npz'
    if not file.exists():
      raise UserError(f'{file} is missing: comparing needs a stage that was scored on test images.')
    matrices.append(np.load(file)['matrices'])
  return matrices
