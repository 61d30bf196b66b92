"""The data doctor: `python -m ssl_jax.inspect --labeled=DIR --unlabeled=DIR`.

Says what is wrong with images and masks before hours go into training on them; writes the same as
JSON for scripts and as one HTML file with pictures. The exit code is 1 where there is a problem.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax import html_pages, inspection, inspection_pixels, report_images
from ssl_jax.errors import UserError
from ssl_jax.inspection import Inspection
from ssl_jax.inspection_pixels import NOTE, PROBLEM, WARNING, Sample
from ssl_jax.io import listing
from ssl_jax.io.run_log import replace_text

FILES = ('inspection.json', 'inspection.html')

SHOWN = 9
"""Images of a kind in the HTML file."""


MOST_SIZES = 5
"""Sizes that are printed."""


def write(result: Inspection, name: str, out: Path) -> None:
  """Writes inspection.json and inspection.html into a folder.

  Args:
    result: of `inspection.inspect`.
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
    'colours': dict(html_pages.legend(names)),
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
      ids = inspection_pixels.class_ids(sample, result.encoding)
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


def main(arguments: list[str] | None = None) -> int:
  """The program; returns its exit code: 1 if there is a problem, with --strict also a warning."""
  parser = argparse.ArgumentParser(
    'python -m ssl_jax.inspect', description='Looks at images and masks before a training.'
  )
  add = parser.add_argument
  add('--labeled', required=True, help='folder with images/ and masks/ (or points/) in it')
  add('--unlabeled', help='folder of unlabeled images')
  add('--val', help='as --labeled, of validation images')
  add('--test', help='as --labeled, of test images')
  add('--group', default='', help='pattern or CSV that names the patient of an image')
  # Messages name the fields of a run, which may be given here as they are there.
  add('--classes', '--config.data.classes', help='number or names of the classes of masks')
  add('--values', '--config.data.values', help="class of each value of masks: '205:1, 420:2'")
  yes = {'nargs': '?', 'const': 'True', 'default': 'False', 'choices': ('True', 'False')}
  add('--instances', '--config.data.instances', **yes, help='masks hold an id for each object')
  add('--ignore_affine', '--config.data.ignore_affine', **yes, help='masks of volumes lie on them')
  add('--out', default='inspection', help='folder to write to (default %(default)s)')
  add('--strict', action='store_true', help='warnings are problems: exit code 1')
  options = parser.parse_args(arguments)
  folders = {
    role: None if path is None else listing.expand(path)
    for role, path in vars(options).items()
    if role in ('labeled', 'unlabeled', 'val', 'test')
  }
  out = listing.expand(options.out)
  try:
    reading = inspection.Reading(
      _classes(options.classes),
      options.values,
      options.instances == 'True',
      options.ignore_affine == 'True',
    )
    result = inspection.inspect(**folders, group=options.group, reading=reading)
    write(result, options.labeled, out)
  except UserError as error:
    print(f'ssl_jax: {error}', file=sys.stderr)
    return 1
  print(summary(result))
  print(f'With pictures: {out / FILES[1]}')
  serious = result.of_level(PROBLEM)
  if options.strict:
    serious += result.of_level(WARNING)
  return 1 if serious else 0


if __name__ == '__main__':
  sys.exit(main())
