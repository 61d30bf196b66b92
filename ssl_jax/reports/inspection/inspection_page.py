"""What an inspection found, as JSON, as an HTML file with pictures, and for a terminal."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax.errors import UserError
from ssl_jax.io.folders import listing
from ssl_jax.io.run_log import replace_text
from ssl_jax.reports import html_pages, report_images
from ssl_jax.reports.inspection import inspect_folders, pixels_of_folders
from ssl_jax.reports.inspection.inspect_folders import Inspection
from ssl_jax.reports.inspection.pixels_of_folders import NOTE, PROBLEM, WARNING, Sample

FILES = ('inspection.json', 'inspection.html')

ROLES = ('labeled', 'unlabeled', 'val', 'test')
"""Folders that are looked at."""

SHOWN = 9
"""Images of a kind in the HTML file."""


MOST_SIZES = 5
"""Sizes that are printed."""


def write(result: Inspection, name: str, out: Path) -> None:
  """Writes inspect_folders.json and inspect_folders.html into a folder.

  Args:
    result: of `inspect_folders.inspect`.
    name: title of the page.
    out: folder.

  Raises:
    UserError: if it cannot be written.
  """
  contents: dict[str, Any] = {
    'name': name,
    'kind': result.kind,
    'problems': result.of_level(PROBLEM),
    'warnings': result.of_level(WARNING),
    'notes': result.of_level(NOTE),
    'counts': result.counts,
    'sizes': list(result.sizes.items()),
    'classes': result.classes,
  }
  names = [one['name'] for one in result.classes]
  alike = [sample for pair in result.alike[: SHOWN // 2] for sample in pair]
  pictures = {
    'labeled': _pictures(result.samples, result),
    'outliers': _pictures(result.outliers, result),
    'alike': _pictures(alike, result),
    'colors': dict(html_pages.legend(names)),
  }
  try:
    replace_text(out / FILES[0], json.dumps(contents, indent=1))
    replace_text(out / FILES[1], html_pages.render('inspection.html', contents | pictures))
  except OSError as error:
    raise UserError(f'--out={out} cannot be written ({error.strerror}).') from error


def _pictures(samples: Sequence[Sample], result: Inspection) -> list[dict[str, str]]:
  """Some images with their masks, as HTML holds them."""
  shown = []
  for sample in samples[:SHOWN]:
    ids = None
    if result.encoding is not None:
      ids = pixels_of_folders.class_ids(sample, result.encoding)
    image, mask = report_images.with_mask(np.asarray(sample.pixels), ids)
    shown.append({'name': f'{sample.path.name} ({sample.role})', 'image': image, 'mask': mask})
  return shown


def summary(result: Inspection) -> str:
  """Returns what was found, for a terminal."""
  counted = ', '.join(f'{count} {role}' for role, count in result.counts.items())
  lines = [f'{result.kind}: {counted}']
  lines += [f'  {size}: {count}' for size, count in list(result.sizes.items())[:MOST_SIZES]]
  if len(result.sizes) > MOST_SIZES:
    lines.append(f'  and {len(result.sizes) - MOST_SIZES} more sizes')
  parts = 'voxels' if result.kind == 'volumes' else 'pixels'
  for one in result.classes:
    diameter = f', typically {one["diameter"]:.0f} pixels across' if one['diameter'] else ''
    lines.append(
      f'  {one["name"]}: {one["share"]:.2f} % of the {parts}, in {one["images"]} of {one["of"]} '
      f'{result.kind}{diameter}'
    )
  for level in (PROBLEM, WARNING, NOTE):
    lines += [f'{level.capitalize()}: {sentence}' for sentence in result.of_level(level)]
  return '\n'.join(lines)


def _classes(text: str | None) -> int | list[str] | None:
  """A number of classes, or names as in 'background, nucleus'."""
  if text is None or text.isdecimal():
    return None if text is None else int(text)
  return [name.strip(' \'"') for name in text.strip('()[]').split(',') if name.strip()]


def inspect(options: argparse.Namespace) -> int:
  """Inspects folders and says what was found; returns the exit code, 1 if there is a problem.

  Args:
    options: what `inspect` was called with.

  Raises:
    UserError: if a folder cannot be read, or the result not be written.
  """
  folders = {}
  for role in ROLES:
    path = getattr(options, role)
    folders[role] = None if path is None else listing.expand(path)
  out = listing.expand(options.out)
  reading = inspect_folders.Reading(
    _classes(options.classes),
    options.values,
    options.instances == 'True',
    options.ignore_affine == 'True',
  )
  result = inspect_folders.inspect(**folders, group=options.group, reading=reading)
  write(result, options.labeled, out)
  print(summary(result))
  print(f'With pictures: {out / FILES[1]}')
  serious = result.of_level(PROBLEM)
  if options.strict:
    serious += result.of_level(WARNING)
  return 1 if serious else 0
