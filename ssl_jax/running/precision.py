"""In what precision the networks of a run compute: 'auto' becomes what suits the device.

It is decided once for a run and stands in its config.json, so that a run that is resumed on another
kind of device stays the same run, and whoever reads its networks later computes as they learned.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ssl_jax import parallel, run_folder

FIELD = 'precision'


class Settled(NamedTuple):
  """A page without 'auto', and what a person should know of it (empty: nothing)."""

  page: dict[str, Any]
  note: str = ''


def settle(page: Mapping[str, Any], workdir: Path | None = None) -> Settled:
  """Returns a page that says in which precision its networks compute.

  Args:
    page: as nested dicts; what it or a stage of it sets other than 'auto' stays.
    workdir: run folder, whose precision is taken over if it holds a run.
  """
  fresh = parallel.choose_precision('auto')
  stored = run_folder.read_page(workdir) if workdir is not None else None
  settled = dict(page)
  notes = []
  if page.get(FIELD, 'auto') == 'auto':
    settled[FIELD] = _stored(stored) or fresh
    if settled[FIELD] != fresh:
      notes.append(
        f'The networks of {workdir} stay in {settled[FIELD]}, in which they began; a new run on '
        f'this device would compute in {fresh}'
      )
  entries = []
  for entry in page.get('stages') or ():
    if entry.get(FIELD) == 'auto':
      entry = {**entry, FIELD: _stored(stored, entry.get('name')) or fresh}
    entries.append(entry)
  if entries:
    settled['stages'] = tuple(entries)
  return Settled(settled, '. '.join(notes))


def _stored(page: Mapping[str, Any] | None, stage: str | None = None) -> str | None:
  """The precision that a stored page sets for all stages, or for one; None where it sets none."""
  if page is None:
    return None
  if stage is None:
    return page.get(FIELD, run_folder.FORMER_PRECISION)
  for entry in page.get('stages') or ():
    if entry.get('name') == stage:
      return entry.get(FIELD)
  return None
