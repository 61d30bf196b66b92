"""Going on from a run in a new folder: with its networks, more steps, or other images.

A run folder is never changed. `init_from=RUN` makes every training of a new run start from the
networks of RUN: a stage from that of the same name, if RUN has one, else from RUN's last network.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_jax import build, open_fields, run_folder
from ssl_jax.data import dataset_stats
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import CHECKPOINTS, has_begun
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Seeds

OWN = ('--workdir', '--config.init_from')
"""Flags of a command that are others in the command of a new run."""


def adopt(page: dict[str, Any], workdir: Path | None = None) -> dict[str, Any]:
  """Returns a page whose trainings start from the networks of the run that `init_from` names.

  A network that the page leaves open becomes that of the run, which sees images as it did there.

  Raises:
    UserError: if there is no such run, it has no network yet, or it is the run in `workdir`.
  """
  if not page.get('init_from'):
    return page
  run = Path(page['init_from']).expanduser().resolve()
  if not run.is_dir():
    raise UserError(f'There is no folder {run} (init_from); give that of a run, stage or seed.')
  if workdir is not None and run == workdir.expanduser().resolve():
    raise UserError(f'init_from={run} is the folder of this run itself; give another --workdir.')
  network = run_folder.network_folder(run)
  if not _has_checkpoint(network):
    raise UserError(f'{network} (init_from) has no checkpoint yet; wait, or give another run.')
  page = open_fields.put(page, 'init_from', str(run))
  before = run_folder.read_settings(network)
  given = {'model.name': before.model.name}
  given |= {f'model.{key}': value for key, value in before.model.kwargs.items()}
  # Its weights expect images as they were shown before.
  given |= {'normalize': before.normalize, 'data.scale': before.data.scale}
  for name in open_fields.open_leaves(page):
    if given.get(name) is not None:
      page = open_fields.put(page, name, given[name])
  return open_fields.put(page, 'model.pretrained', str(run))


def network_of(run: Path, stage: str) -> Path:
  """Returns the folder of the network of a run that a stage of another run starts from.

  It is that of the stage of the same name, where the run has trained one.
  """
  stages = (run_folder.read_page(run) or {}).get('stages')
  if stages and stage and _has_checkpoint(run_folder.seed_folders(run / stage)[0]):
    return run_folder.seed_folders(run / stage)[0]
  return run_folder.network_folder(run)


def _has_checkpoint(folder: Path) -> bool:
  return any((folder / CHECKPOINTS).glob('[0-9]*'))


def refusal(workdir: Path, difference: str, command: str = '') -> str:
  """Returns the sentence that refuses another config in a run folder, and what goes on from there.

  Args:
    workdir: of the run.
    difference: what is other, as 'steps was 10, now it is 20'.
    command: what a shell was asked to do; empty: it was no shell.
  """
  sentence = (
    f'{workdir} holds a run of another config: {difference}; use another --workdir, or delete the '
    f'folder.'
  )
  # Weights of another network would not fit.
  changed = difference.split(' was ')[0]
  if any(part in changed.split('.') for part in ('model', 'heads')) or not has_networks(workdir):
    return sentence
  return f'{sentence} {advice(workdir, command)}'


def has_networks(workdir: Path) -> bool:
  """Returns whether a run folder has a trained network that another run could start from."""
  try:
    return _has_checkpoint(run_folder.network_folder(workdir))
  except UserError:
    return False


def advice(workdir: Path, command: str = '') -> str:
  """Returns the sentence on how to start a new run from the networks of one; see `refusal`."""
  number = 2
  while (new := workdir.with_name(f'{workdir.name}-{number}')).exists():
    number += 1
  if not command:
    return f'To start from its networks: init_from={str(workdir)!r}, and {new} as workdir.'
  words = _without_flags(shlex.split(command), OWN)
  words += [f'--config.init_from={workdir}', f'--workdir={new}']
  return f'To start from its networks: {shlex.join(words)}'


def _without_flags(words: Sequence[str], flags: Sequence[str]) -> list[str]:
  """The words of a command without some flags and their values."""
  kept: list[str] = []
  skip_value = False
  for word in words:
    name, equals, _ = word.partition('=')
    # absl takes one dash as well, and a value as a word of its own.
    if word.startswith('-') and f'--{name.lstrip("-")}' in flags:
      skip_value = not equals
    elif skip_value:
      skip_value = False
    else:
      kept.append(word)
  return kept


def refuse_changed_data(workdir: Path, specs: Sequence[StageSpec], command: str = '') -> None:
  """Checks that the images of trainings that have begun are those of now.

  Raises:
    UserError: if they have changed, with how to train on them in a new folder.
  """
  # Stages usually share their images, and reading these takes time.
  known: dict[tuple[str, int], tuple[int, dict[str, int]]] = {}
  for spec in specs:
    if spec.run != 'train':
      continue
    # The other seeds draw from the same images.
    folders = run_folder.folders_of_seeds(spec.settings.part(Seeds), workdir / spec.name)
    seed, folder = next(iter(folders.items()))
    if not (folder / run_folder.STATS).exists() or not has_begun(folder):
      continue
    then = run_folder.read_stats(folder)
    key = repr((spec.settings.data, build.redraws(spec.settings))), seed
    if key not in known:
      splits = build.splits_of_seed(spec.settings, seed)
      known[key] = dataset_stats.data_checksum(splits), dataset_stats.count_images(splits)
    fingerprint, now = known[key]
    if fingerprint != then.fingerprint:
      counts = [
        f'{name} {then.counts.get(name, 0)} -> {now.get(name, 0)}'
        for name in dict.fromkeys([*then.counts, *now])
      ]
      raise UserError(
        f'The data have changed since {folder} was trained (images: {", ".join(counts)}); its '
        f'results are of the old ones. Restore those, or use another --workdir. '
        f'{advice(workdir, command)}'
      )
