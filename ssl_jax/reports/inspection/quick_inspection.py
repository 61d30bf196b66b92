"""What a run says of a person's folders before it trains: the part of `inspect` that takes seconds.

The loaders say the rest (empty masks, groups, copies of test images); nothing here stops a run.
"""

import collections
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jax.errors import UserError
from ssl_jax.io import images
from ssl_jax.parsing import data_locations
from ssl_jax.reports.inspection import inspect_folders
from ssl_jax.reports.inspection.pixels_of_folders import NOTE, Finding, spread

SETS = ('folder', 'nifti', 'points')
"""Data sets of a person's own files."""

ROLES = ('labeled', 'unlabeled', 'val', 'test')

LOOKED_AT = 50
"""Images of a role whose headers are read."""

MOST_SIZES = 3
"""Sizes of images that are named."""


def notes(data: Mapping[str, Any]) -> list[str]:
  """Returns sentences on the folders of a config's `data`; none where they are not a person's."""
  if data.get('name') not in SETS:
    return []
  fields = data_locations.expand(data['name'], data)
  given = {role: Path(fields[role]) for role in ROLES if fields.get(role)}
  try:
    sentences = _check(given)
  except (UserError, OSError, KeyError):
    # The loader, which comes next, says what is wrong and what to do.
    return []
  command = ['python', '-m', 'ssl_jax.inspect']
  command += [f'--{role}={path}' for role, path in given.items()]
  if fields.get('group'):
    command.append(f'--group={fields["group"]}')
  hint = (
    f'`{shlex.join(command)}` looks further (every file that is wrong, masks beside their objects, '
    'near copies, pictures)'
  )
  return [*sentences, hint]


def _check(given: Mapping[str, Path]) -> list[str]:
  """Sentences on files without partners, copies, and sizes."""
  findings: list[Finding] = []
  kind = inspect_folders.kind_of(given['labeled'])
  files = {
    role: inspect_folders.list_role(role, path, kind, findings) for role, path in given.items()
  }
  if kind == 'images':
    for role in ('labeled', 'val', 'test'):
      if role in given:
        inspect_folders.find_masks(given[role], role, files[role], findings)
  inspect_folders.find_copies(files, findings)
  # What is a mere note here, the loader says as well.
  sentences = [finding.text.rstrip('.') for finding in findings if finding.level != NOTE]
  if kind != 'volumes':
    sentences += [_sizes(role, paths) for role, paths in files.items() if paths]
  return sentences


def _sizes(role: str, paths: Sequence[Path]) -> str:
  """The sizes, channels and types of the images of a role, the most frequent first."""
  counts: collections.Counter[str] = collections.Counter()
  for path in spread(paths, LOOKED_AT):
    try:
      counts[inspect_folders.form_of(images.read_header(path))] += 1
    except UserError:
      # The loader names the broken file.
      continue
  of = f' (of {LOOKED_AT} looked at)' if len(paths) > LOOKED_AT else ''
  listed = '; '.join(f'{count} of {form}' for form, count in counts.most_common(MOST_SIZES))
  more = f' and {len(counts) - MOST_SIZES} more sizes' if len(counts) > MOST_SIZES else ''
  return f'{len(paths)} {role} images{of}: {listed}{more}'
