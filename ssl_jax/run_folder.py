"""Where things lie in a run folder: the only file that knows.

RUN/config.json           the page (all its stages), as the run was started with
RUN/STAGE/config.json     the settings of a stage
RUN/STAGE/seed_N/         a seed of a stage; of a single seed the stage's own folder
.../data.json             what the network must know of its data (DatasetStats)
.../metrics.jsonl, checkpoints/, done.json, masks/, ...
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.io import run_log
from ssl_jax.io.folders import digests
from ssl_jax.parsing import parse_settings
from ssl_jax.settings import Seeds, Settings

# Names on disk: changing one would make existing runs unreadable.
CONFIG = 'config.json'
STATS = 'data.json'
COMMAND = 'command.txt'
VERDICT = 'verdict.txt'

FORMER_PRECISION = 'float32'
"""The precision of a run whose config does not say it: once the default on all devices."""


def read_page(run: Path) -> dict[str, Any] | None:
  """The config that a run was started with, as nested dicts; None where there is none."""
  path = run / CONFIG
  if not path.exists():
    return None
  remedy = 'delete it, and the command of the run writes it again'
  # JSON has no tuples; settings do, and compare unequal to lists.
  return parse_settings.tuples(run_log.read_json(path, remedy))


def write_page(folder: Path, tree: Mapping[str, Any]) -> None:
  """Writes a config into the folder of a run or stage."""
  run_log.replace_text(folder / CONFIG, json.dumps(tree, indent=1))


def read_settings(folder: Path) -> Settings:
  """The settings of a stage, from its folder or that of one of its seeds.

  Raises:
    UserError: if there is no config.
  """
  # The folder of one of several seeds has no config of its own.
  of_seed = folder.name.startswith('seed_')
  tree = read_page(folder.parent if of_seed else folder)
  if tree is not None:
    return parse_settings.parse({'precision': FORMER_PRECISION, **tree})
  if run_log.has_begun(folder):
    raise UserError(f'{folder} has lost its {CONFIG}; the command of the run writes it again.')
  raise UserError(f'{folder} holds no {CONFIG}, so it is no run; give the --workdir of one.')


def read_stats(folder: Path) -> DatasetStats:
  """What training wrote about its data beside its checkpoints.

  Raises:
    UserError: if the file is damaged.
  """
  path = folder / STATS
  remedy = f'delete it and {done_files(folder)}, and the command of the run writes it again'
  tree = run_log.read_json(path, remedy)
  digests.check(folder, (STATS,))
  try:
    return DatasetStats(**parse_settings.tuples(tree))
  except TypeError as error:
    raise UserError(f'{path} is damaged ({error}); {remedy}.') from error


def done_files(folder: Path) -> str:
  """Which files say that the network of a seed's folder, or of a stage's, is done."""
  files = [folder / run_log.DONE]
  if folder.name.startswith('seed_'):
    files.append(folder.parent / run_log.DONE)
  return ' and '.join(str(file) for file in files)


def trained_stage(page: Mapping[str, Any]) -> str:
  """The name of the stage whose network a run is about: the last that trains ('': the run)."""
  names = _trained_names(page)
  return names[-1] if names else ''


def _trained_names(page: Mapping[str, Any]) -> list[str]:
  # A stage without `run` trains. Stages that score, compare or label have no network.
  stages = page.get('stages') or ()
  return [stage['name'] for stage in stages if stage.get('run', 'train') == 'train']


def scored_stage(run: Path, page: Mapping[str, Any]) -> str:
  """The name of the last stage that trains and was scored on test images; else `trained_stage`."""
  for name in reversed(_trained_names(page)):
    done = run_log.read_done(run / name) or {}
    if any(figure.startswith('test/') for figure in done):
      return name
  return trained_stage(page)


def folders_of_seeds(seeds: Seeds, stage: Path) -> dict[int, Path]:
  """Where a stage keeps each seed; a single one has the stage's own folder."""
  # Seeds are consecutive numbers.
  numbers = range(seeds.seed, seeds.seed + seeds.num_seeds)
  if len(numbers) == 1:
    return {numbers[0]: stage}
  return {number: stage / f'seed_{number}' for number in numbers}


def seed_folders(stage: Path) -> list[Path]:
  """The folders of a stage that hold one seed each, as they are on disk, the first seed first."""
  # By number, because as text seed_10 would come before seed_2.
  folders = sorted(stage.glob('seed_*'), key=lambda path: int(path.name[5:]))
  return folders or [stage]


def stage_entry(stage: Path) -> dict[str, Any]:
  """What the page of the run says of the stage of this folder; empty where it says nothing."""
  # The page is one level up from the stage, in the run folder.
  page = read_page(stage.parent) or {}
  for entry in page.get('stages') or ():
    if entry['name'] == stage.name:
      return entry
  return {}


def network_folder(run: Path) -> Path:
  """The folder of one trained network: of the seed, stage or run given, its first seed.

  Of a run it is the last stage that trains.

  Raises:
    UserError: if the folder holds no run.
  """
  # The folder of a seed, or of a stage with one seed.
  if (run / 'checkpoints').is_dir():
    return run
  page = read_page(run)
  if page is None:
    raise UserError(f'{run} holds no {CONFIG}, so it is no run; give the --workdir of one.')
  # The config of a stage lists no stages, so its trained stage is '': the folder itself.
  stage = run / trained_stage(page)
  return seed_folders(stage if stage.is_dir() else run)[0]


def plugins_of(folder: Path) -> str | None:
  """The folder of plug-ins that a run was made with, from the folder of the run or inside it."""
  # RUN, RUN/STAGE or RUN/STAGE/seed_N: the run is at most two levels up.
  for path in (folder, *list(folder.parents)[:2]):
    page = read_page(path)
    if page is not None and page.get('plugins'):
      return page['plugins']
  return None
