"""The rows of test_spoiled_inputs.py: what is spoiled, how, and what the sentence must name."""

import dataclasses
import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from spoiled_files import Row, damages, file_of, image_rows, mask_rows, picture, volume_rows

from ssl_jax import run_folder, settings
from ssl_jax.data import point_annotations
from ssl_jax.data.selection import groups
from ssl_jax.datasets import folder as image_folders
from ssl_jax.io import run_log
from ssl_jax.io.formats.stored_image import Header
from ssl_jax.parsing import parse_settings
from ssl_jax.reports import ledger
from ssl_jax.training.pretrained import read_arrays

TABLES_OF_POINTS = {
  'no columns': '',
  'two columns': 'x,y\n1,2',
  'a word': 'x,y,class\n1,oops,red',
  'not a number': 'x,y,class\n1,nan,red',
  'infinite': 'x,y,class\ninf,1,red',
  'short line': 'x,y,class\n1',
  'outside': 'x,y,class\n5,5,red\n81,2,red',
  'negative': 'x,y,class\n5,-1,red',
  'decimal comma': 'x,y,class\n"1,5",2,red',
  'no header': '1,2,red\n3,4,red',
}
TABLES_OF_GROUPS = {
  'no columns': '',
  'other columns': 'image,patient\na,1',
  'no group': 'name,group\na,',
  'no name': 'name,group\n,1',
  'twice': 'name,group\na,1\na,2',
}


def _table_rows() -> list[Row]:
  rows = []
  header = Header(20, 30, 1, np.dtype('uint8'))

  def points(folder: Path) -> Any:
    return point_annotations.read_points(folder / 'p.csv', header)

  def group(folder: Path) -> Any:
    return groups.group_reader(str(folder / 'g.csv'))('b')

  for how, text in TABLES_OF_POINTS.items():
    rows.append(Row(f'points {how}', file_of('p.csv', text.encode()), points, 'p.csv'))
  for how, text in TABLES_OF_GROUPS.items():
    rows.append(Row(f'groups {how}', file_of('g.csv', text.encode()), group, 'g.csv'))
  for how, data in {
    'any bytes': bytes(range(256)),
    'utf-16': 'x,y'.encode('utf-16'),
  }.items():
    rows.append(Row(f'points {how}', file_of('p.csv', data), points, 'p.csv'))
    rows.append(Row(f'groups {how}', file_of('g.csv', data), group, 'g.csv'))
  rows.append(Row('groups without a line', file_of('g.csv', b'name,group\na,1'), group, 'g.csv'))
  rows.append(Row('groups missing', lambda f: None, group, 'g.csv'))
  rows.append(Row('points missing', lambda f: None, points, 'p.csv'))
  for how, data in {
    'cut': b'{"table": "a"',
    'a list': b'[]',
    'bytes': b'\xff\xfe',
    'a number': b'3',
  }.items():
    rows.append(
      Row(
        f'ledger {how}',
        file_of('l.jsonl', data),
        lambda f: ledger.read(f / 'l.jsonl'),
        'l.jsonl, line 1',
      )
    )
  rows.append(
    Row('ledger missing', lambda f: None, lambda f: ledger.read(f / 'l.jsonl'), 'l.jsonl')
  )
  return rows


def _pairs(folder: Path) -> Path:
  """Four pairs of an image and a mask."""
  rng = np.random.default_rng(0)
  for kind in ('images', 'masks'):
    (folder / 'd' / kind).mkdir(parents=True)
  for number in range(4):
    pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
    (folder / 'd' / 'images' / f'i{number}.png').write_bytes(picture('png', pixels))
    mask = (np.indices((16, 16)).sum(0) % 2).astype(np.uint8)
    (folder / 'd' / 'masks' / f'i{number}.png').write_bytes(picture('png', mask))
  return folder / 'd'


def _remove(path: Path) -> None:
  path.unlink()


def _empty(folder: Path) -> None:
  for path in folder.iterdir():
    path.unlink()


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
  'no folder': (lambda d: d.rename(d.with_name('other')), '/d'),
  'no images': (lambda d: (d / 'images').rename(d / 'pictures'), '/d'),
  'no masks': (lambda d: (d / 'masks').rename(d / 'labels'), 'masks'),
  'images is a file': (
    lambda d: (_empty(d / 'images'), (d / 'images').rmdir(), (d / 'images').touch()),
    'images',
  ),
  'empty images': (lambda d: _empty(d / 'images'), 'images'),
  'empty masks': (lambda d: _empty(d / 'masks'), 'masks'),
  'an image too many': (lambda d: _remove(d / 'masks' / 'i1.png'), 'i1.png'),
  'a mask too many': (lambda d: _remove(d / 'images' / 'i1.png'), 'i1.png'),
  'two masks': (lambda d: (d / 'masks' / 'i1.tif').write_bytes(picture('tif')), 'i1'),
  'two images': (lambda d: (d / 'images' / 'i1.bmp').write_bytes(picture('bmp')), 'i1.bmp'),
  'another size': (lambda d: (d / 'masks' / 'i1.png').write_bytes(picture('png')), 'i1.png'),
  'a cut image': (lambda d: (d / 'images' / 'i2.png').write_bytes(picture('png')[:40]), 'i2.png'),
  'a cut mask': (lambda d: (d / 'masks' / 'i2.png').write_bytes(picture('png')[:40]), 'i2.png'),
  'an empty image': (lambda d: (d / 'images' / 'i2.png').write_bytes(b''), 'i2.png'),
  'a dangling link': (lambda d: (d / 'images' / 'i9.png').symlink_to(d / 'gone.png'), 'i9.png'),
  'a loop of links': (
    lambda d: (d / 'images' / 'i9.png').symlink_to(d / 'images' / 'i9.png'),
    'i9.png',
  ),
  'a pointer': (
    lambda d: (d / 'images' / 'i2.png').write_bytes(damages(b'')['pointer']),
    'i2.png',
  ),
  'odd values': (
    lambda d: (d / 'masks' / 'i1.png').write_bytes(
      picture('png', np.arange(256, dtype=np.uint8).reshape(16, 16))
    ),
    'i1.png',
  ),
  'a photograph as mask': (
    lambda d: (d / 'masks' / 'i1.png').write_bytes((d / 'images' / 'i1.png').read_bytes()),
    'i1.png',
  ),
  'one pair': (
    lambda d: [_remove(d / kind / f'i{n}.png') for kind in ('images', 'masks') for n in (1, 2, 3)],
    '/d',
  ),
}


def _folder_rows() -> list[Row]:
  return [
    Row(
      f'folder {how}',
      lambda f, s=spoil: s(_pairs(f)),
      lambda f: image_folders.load(labeled=f / 'd'),
      names,
    )
    for how, (spoil, names) in FOLDERS.items()
  ]


def _evil() -> bytes:
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w') as archive:
    archive.writestr('x/data.pkl', pickle.dumps({'a': os.system}, 2))
  return data.getvalue()


def _packed() -> bytes:
  data = io.BytesIO()
  with zipfile.ZipFile(data, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('x/data.pkl', pickle.dumps({}, 2))
    archive.writestr('x/data/0', bytes(10**6))
  return data.getvalue()


def _npz(**arrays: Any) -> bytes:
  data = io.BytesIO()
  np.savez(data, **arrays)
  return data.getvalue()


def _weight_rows() -> list[Row]:
  whole = _npz(a=np.arange(400.0))
  lying = struct.pack('<Q', 10**12) + b'{}'
  header = json.dumps({'a': {'dtype': 'F32', 'shape': [9], 'data_offsets': [0, 36]}}).encode()
  contents = {
    'evil.pth': _evil(),
    'packed.pth': _packed(),
    'old_evil.pt': pickle.dumps(os.system),
    'object.npz': _npz(a=np.array([{}], dtype=object)),
    'object.pth': _npz(a=np.array([{}], dtype=object)),
    'lies.safetensors': lying,
    'short.safetensors': struct.pack('<Q', len(header)) + header + bytes(4),
    'w.onnx': b'\x08\x07',
    'w.h5': b'\x89HDF\r\n\x1a\n',
    'w': b'weights',
  }
  for how, data in damages(whole).items():
    contents[f'{how.replace(" ", "_")}.npz'] = data
  for how, data in damages(_evil()).items():
    if how != 'shifted':  # zip files may have anything before them
      contents[f'{how.replace(" ", "_")}.pth'] = data
  for how in ('empty', 'text', 'zeros'):
    contents[f'{how}.safetensors'] = damages(whole)[how]
  rows = [
    Row(f'weights {name}', file_of(name, data), lambda f, n=name: read_arrays(f / n), name)
    for name, data in contents.items()
  ]
  rows.append(Row('weights missing', lambda f: None, lambda f: read_arrays(f / 'no.pth'), 'no.pth'))
  return rows


def _run_rows() -> list[Row]:
  rows = []
  readers = {
    'done.json': run_log.read_done,
    'data.json': run_folder.read_stats,
    'config.json': run_folder.read_settings,
  }
  contents = {
    'cut': b'{"a": ',
    'empty': b'',
    'bytes': b'\xff\xfe\x00',
    'a list': b'[1]',
    'null': b'null',
  }
  for name, reader in readers.items():
    for how, data in contents.items():
      rows.append(Row(f'run {name} {how}', file_of(name, data), reader, name))
  rows.append(Row('run without a config', lambda f: None, run_folder.read_settings, 'config.json'))
  rows.append(Row('run without a page', lambda f: None, run_folder.network_folder, 'config.json'))
  return rows


SECTIONS = {
  '': settings.Settings,
  'optimizer.': settings.Optimizer,
  'schedule.': settings.Schedule,
  'match.': settings.Match,
  'gan.': settings.Gan,
}


def _config_rows() -> list[Row]:
  """Every field of the config, below its range, above it, and of another type."""
  rows = []
  for prefix, section in SECTIONS.items():
    for field in dataclasses.fields(section):
      low, high = field.metadata.get('low'), field.metadata.get('high')
      bad: dict[str, Any] = {}
      plain = isinstance(field.default, int | float) and not isinstance(field.default, bool)
      if plain and low is not None:
        bad['too small'] = low - 1
        if high not in (None, math.inf):
          bad['too large'] = high + 1
      if isinstance(field.default, bool):
        bad['a word'] = 'perhaps'
      elif plain:
        bad['a word'] = 'many'
        bad['nan'] = math.nan
      elif isinstance(field.default, str):
        bad['a number'] = 3
        if field.metadata.get('choices'):
          bad['no choice'] = 'nonsense'
      for how, value in bad.items():
        inner = {field.name: value}
        tree = {prefix[:-1]: inner} if prefix else inner
        rows.append(
          Row(
            f'config {prefix}{field.name} {how}',
            lambda f: None,
            lambda f, t=tree: parse_settings.parse(t),
            f'{prefix}{field.name}',
          )
        )
  return rows


ROWS = [
  *image_rows(),
  *mask_rows(),
  *volume_rows(),
  *_table_rows(),
  *_folder_rows(),
  *_weight_rows(),
  *_run_rows(),
  *_config_rows(),
]
