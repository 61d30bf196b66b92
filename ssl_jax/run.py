"""A run: the stages of a config, one after another, each skipped once it is done."""

import contextlib
import fnmatch
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from ml_collections import ConfigDict

from ssl_jax import build, parallel, registry, run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import confusion
from ssl_jax.io import stop_signals
from ssl_jax.io.folders import listing, lock
from ssl_jax.io.run_log import read_done, replace_text, write_done
from ssl_jax.parsing import stage_list
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.reports import report_page
from ssl_jax.reports.inspection import quick_inspection
from ssl_jax.running import (
  configuration_report,
  continuation,
  dask_cluster,
  dask_stages,
  precision,
  provenance,
  run_identity,
  self_configuration,
  stage_runner,
)
from ssl_jax.running.self_configuration import Configuration
from ssl_jax.running.validate import stages_read, validate
from ssl_jax.stages.compare import no_verdict
from ssl_jax.stages.comparing import page_verdicts
from ssl_jax.stages.labeling import unfound_classes
from ssl_jax.stages.learning import initial_weights


def run(
  config: Mapping | ConfigDict,
  workdir: str | Path,
  only: str = '*',
  command: str = '',
  overrides: Sequence[str] = (),
  dask: str | None = None,
) -> dict[str, Any] | None:
  """Runs a config in a folder and returns its final figures.

  The same call resumes a run that was stopped. Stages that have not begun may be changed, and
  others added; a folder in which a stage has begun under another config is refused.

  Args:
    config: a page's ConfigDict, or a dict.
    workdir: the run folder.
    only: pattern of stage names, or several with commas between, to do a part of a long list.
    command: what a shell would call, kept with the run.
    overrides: dotted names of fields that were set from the shell; those that no stage would
      see are refused.
    dask: address of a scheduler of Dask, whose workers do the stages; those that do not read each
      other's results at the same time.

  Returns:
    The figures of all stages; None until all are done.

  Raises:
    UserError: for whatever is wrong with config, data or folder; nothing has begun then.
    Stopped: if training was asked to stop, after it has saved.
  """
  # Both must come before anything else that uses JAX.
  build.keep_compiled()
  if dask is None:
    parallel.start()
  else:
    # Whatever the job is of which this is a process: the workers compute.
    parallel.share_devices()
    parallel.check_devices()
  build.forget_splits()
  page = stage_list.plain(config)
  if page.get('plugins'):
    # The run folder must find them from wherever it is asked later.
    page['plugins'] = str(listing.expand(page['plugins']).resolve())
  registry.add_plugins(page.get('plugins'))
  with contextlib.ExitStack() as stack:
    stop = stack.enter_context(_asked_to_stop())
    stack.enter_context(parallel.noticing_lost_processes())
    # Before the data are read, which may take long.
    cluster = None if dask is None else stack.enter_context(dask_cluster.connect(dask))
    workdir = listing.expand(workdir)
    # Everything is checked before the folder is touched, so that a mistake leaves no trace in it.
    page = continuation.adopt(page, workdir)
    page, precision_note = precision.settle(page, workdir)
    # Once for a run, and before the loader: it stops at the first file that is wrong.
    if parallel.is_main() and not (workdir / run_folder.CONFIG).exists():
      for note in quick_inspection.notes(page['data']):
        print(f'Data: {note}.', flush=True)
    configuration = self_configuration.configure(page, workdir, stop, command=command)
    page = configuration.page
    specs = stage_list.resolve(page)
    notes = stage_list.reach(page, overrides)
    validate(specs)
    asked = _asked(specs, only, workdir)
    for spec in asked:
      notes += initial_weights.notes(spec.settings.model)
      if spec.run == 'compare':
        # Now, not after hours of training.
        notes += no_verdict(spec, build.splits(spec.settings.data))
    notes += _data_notes(asked)
    if precision_note:
      notes.append(precision_note)
    for note in dict.fromkeys(notes):
      print(f'{note}.')
    # Another process may be at it, whose folders must not be taken for those of a killed one.
    if parallel.is_main():
      for spec in asked:
        lock.check(workdir / spec.name)
    # In this order: the folder's old config is compared before `_claim` replaces it.
    run_identity.refuse_other(workdir, specs, asked, command)
    _claim(workdir, page, command)
    provenance.keep(workdir, page.get('init_from'))
    _keep_decisions(workdir, configuration)
    if cluster is not None:
      dask_stages.do_all(cluster, asked, workdir, page.get('plugins'), stop)
    for spec in asked if cluster is None else ():
      if not stage_runner.check_done(spec, workdir):
        stage_runner.do(spec, workdir, stop)
  # With --only other stages may remain.
  if left := [spec.name for spec in specs if read_done(workdir / spec.name) is None]:
    print(f'{len(left)} of {len(specs)} stages are still to do, {left[0]} first.')
    return None
  # The run's own done.json says that all of its stages are done.
  done = _summary(workdir, [spec.name for spec in specs], page)
  write_done(workdir, done, of_stage=False)
  _print_summary(done, workdir, specs)
  if parallel.is_main():
    print(f'Report, to send or to print: {report_page.write(workdir)}')
  return done


def _data_notes(specs: Sequence[StageSpec]) -> list[str]:
  """What the loaders noticed, told once where stages share a data set."""
  notes: list[str] = []
  first = specs[0].settings.data
  told: set[str] = set()
  for spec in specs:
    whose = 'Data' if spec.settings.data == first else f'Data of {spec.name}'
    for note in build.splits(spec.settings.data).notes:
      if note not in told:
        notes.append(f'{whose}: {note}')
        told.add(note)
  return notes


def _asked(specs: Sequence[StageSpec], only: str, workdir: Path) -> list[StageSpec]:
  """The stages that `only` names.

  Raises:
    UserError: if there is none, or one reads a stage that is neither done nor asked for.
  """
  patterns = only.split(',')
  asked = []
  for spec in specs:
    if any(fnmatch.fnmatchcase(spec.name, pattern) for pattern in patterns):
      asked.append(spec)
  if not asked:
    names = [spec.name for spec in specs]
    raise UserError(
      f'--only={only} is the name of no stage{registry.nearest(only, names)}; '
      f'it may hold *, ? and commas.'
    )
  # Stages read each other's folders, so each input must be done or come earlier in this call.
  names = {spec.name for spec in asked}
  for spec in asked:
    for name in stages_read(spec):
      if name not in names and read_done(workdir / name) is None:
        raise UserError(f'--only={only}: {spec.name} needs {name}, which is not done; do it first.')
  return asked


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[Callable[[], bool]]:
  """Turns SIGTERM and Ctrl-C into a question that the training loop asks after each step."""
  asked: list[int] = []

  def ask(number: int, frame: FrameType | None) -> None:
    if asked:  # impatient
      raise KeyboardInterrupt
    asked.append(number)
    parallel.tell_others()

  # The handlers are put back at the end, because a notebook goes on after the run.
  with stop_signals.handled_by(ask, parallel.stop_signals()) as possible:
    # The loop asks between two steps, when the state is whole and can be saved. In some notebooks
    # a run is not in the main thread, and nobody can ask.
    yield (lambda: bool(asked)) if possible else (lambda: False)


def _claim(workdir: Path, page: Mapping[str, Any], command: str) -> None:
  """Makes the folder this config's.

  Raises:
    UserError: if it cannot be written.
  """
  try:
    replace_text(workdir / run_folder.CONFIG, json.dumps(page, indent=1))
    if command:
      replace_text(workdir / run_folder.COMMAND, command + '\n')
  except OSError as error:
    raise UserError(f'{workdir} cannot be written ({error}); choose another --workdir.') from error


def _keep_decisions(workdir: Path, configuration: Configuration) -> None:
  """Writes what was decided from the data, for people and for a resumed run, and says so."""
  if not configuration.decisions:
    return
  report = workdir / configuration_report.FILE
  if configuration.resumed:
    print(f'The settings stay those of {report}.')
    return
  assert configuration.fingerprint is not None  # the data were looked at in this call
  estimate = configuration.estimate
  text = configuration_report.markdown(configuration.decisions, configuration.fingerprint, estimate)
  replace_text(report, text)
  # Last: once it is there, a resumed run decides nothing itself.
  replace_text(workdir / self_configuration.DECISIONS, json.dumps(configuration.record, indent=1))
  print(f'Settings were chosen for your data: {report} lists them, with the reasons.')
  steps = configuration.decisions.get('steps')
  if steps is not None and steps.reason != self_configuration.SET:
    # Told here as well, because it may be more than what was asked for.
    print(f'{steps.value} steps: {steps.reason}.')
  if estimate is not None:
    print(configuration_report.time_line(estimate), flush=True)


def _summary(workdir: Path, names: Sequence[str], page: Mapping[str, Any]) -> dict[str, Any]:
  """All stages' figures, `stage/figure`; those of the network that the run is about also plain."""
  # First the figures of the last trained network that was tested, under plain names such as
  # test/miou.
  done = dict(read_done(workdir / run_folder.scored_stage(workdir, page)) or {})
  for name in names:
    if name:
      figures = read_done(workdir / name) or {}
      done |= {f'{name}/{key}': value for key, value in figures.items()}
  return done


def _print_summary(done: Mapping[str, Any], workdir: Path, specs: Sequence[StageSpec]) -> None:
  """The last lines: every trained network's score, the verdicts, and where to look."""
  trained = [spec for spec in specs if spec.run == 'train']
  # A table of dozens of networks is read with `python -m ssl_jax.table` instead.
  for spec in trained if len(trained) <= 10 else ():
    prefix = f'{spec.name}/' if spec.name else ''
    for split in ('val', 'test'):
      for metric, display_name in confusion.DISPLAY_NAME.items():
        value = done.get(f'{prefix}{split}/{metric}')
        if value is not None:
          seeds = spec.settings.num_seeds
          over = f', mean of {seeds} seeds' if seeds > 1 else ''
          print(
            f'{spec.name or "network"}: {split} {display_name} {value:.2f} % '
            f'(its {spec.settings.checkpoint} checkpoint{over})'
          )
    # A verdict says the same of the stages that it compares.
    if not any(other.run == 'compare' for other in specs):
      for sentence in unfound_classes.sentences(workdir / spec.name, spec.name or 'The network'):
        print(sentence)
  print(f'All figures: {workdir / "done.json"}')
  for spec in specs:
    verdict = workdir / spec.name / run_folder.VERDICT
    if spec.run == 'compare' and verdict.exists():
      print(
        f'\nVerdict ({verdict.parent / "picture.png"} shows it):\n{verdict.read_text().strip()}'
      )
  if lines := page_verdicts.write(workdir, specs):
    print(f'\nThe {len(lines)} comparisons of this page together (Holm):')
    print('\n'.join(lines))
