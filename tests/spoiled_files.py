"""Image, mask and volume files that are spoiled, each in another way."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel
import numpy as np
import tifffile
from PIL import Image

from ssl_jax.data.masks.mask_facts import read_facts
from ssl_jax.io import images, masks, nifti


class Row(NamedTuple):
  """A spoiled input."""

  what: str
  spoil: Callable[[Path], Any]  # writes into an empty folder
  read: Callable[[Path], Any]  # what must refuse it
  names: str  # part of the sentence


GRAY = np.arange(63, dtype=np.uint8).reshape(9, 7)
CUBE = np.zeros((4, 5, 3), np.uint8)
CUBE[1, 2, 1] = 1


def picture(kind: str, array: np.ndarray = GRAY) -> bytes:
  data = io.BytesIO()
  if kind == 'tif':
    tifffile.imwrite(data, array)
  else:
    Image.fromarray(array).save(data, {'jpg': 'JPEG'}.get(kind, kind.upper()))
  return data.getvalue()


def volume(array: np.ndarray = CUBE) -> bytes:
  return nibabel.Nifti1Image(array, np.eye(4)).to_bytes()


def damages(data: bytes) -> dict[str, bytes]:
  """The same file, spoiled in the ways that disks, mail programs and people have."""
  return {
    'empty': b'',
    'first bytes': data[:6],
    'cut': data[: len(data) // 2],
    'zeros': bytes(len(data)),
    'text': b'this was no image at all, but a note of somebody about it\n' * 4,
    'web page': b'<!DOCTYPE html><html><body>404 Not Found</body></html>',
    'pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 874\n',
    'shifted': b'\x00\x00' + data,
  }


def file_of(name: str, data: bytes) -> Callable[[Path], Any]:
  return lambda folder: (folder / name).write_bytes(data)


def image_rows() -> list[Row]:
  rows = []
  for kind in ('png', 'jpg', 'bmp', 'tif'):
    name = f'a.{kind}'
    for how, data in damages(picture(kind)).items():
      row = Row(
        f'image {kind} {how}', file_of(name, data), lambda f, n=name: images.read_image(f / n), name
      )
      rows.append(row)
  for name, data in {
    'gif.png': b'GIF89a' + bytes(40),
    'dicom.png': bytes(128) + b'DICM' + bytes(40),
    'pdf.tif': b'%PDF-1.7\n' + bytes(40),
    'zip.png': b'PK\x03\x04' + bytes(40),
    'nan.tif': picture('tif', np.full((4, 4), np.nan, np.float32)),
    'complex.tif': picture('tif', np.ones((4, 4), np.complex64)),
    'stack.tif': picture('tif', np.zeros((6, 9, 7), np.uint8)),
    'huge.bmp': picture('bmp')[:18] + struct.pack('<ii', 90_000, 90_000) + picture('bmp')[26:],
  }.items():
    rows.append(
      Row(f'image {name}', file_of(name, data), lambda f, n=name: images.read_image(f / n), name)
    )
  rows.append(
    Row('image missing', lambda f: None, lambda f: images.read_image(f / 'no.png'), 'no.png')
  )
  rows.append(
    Row(
      'image is a folder',
      lambda f: (f / 'a.png').mkdir(),
      lambda f: images.read_image(f / 'a.png'),
      'a.png',
    )
  )
  return rows


def mask_rows() -> list[Row]:
  rows = []
  for kind in ('png', 'bmp', 'tif'):
    name = f'm.{kind}'
    for how, data in damages(picture(kind, GRAY % 3)).items():
      for reader in (masks.read_mask, read_facts):
        what = f'mask {kind} {how} {reader.__name__}'
        rows.append(Row(what, file_of(name, data), lambda f, n=name, r=reader: r(f / n), name))
  color = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
  for name, data in {
    'noise.png': picture('png', color),
    'lossy.jpg': picture('jpg', GRAY),
    'fraction.tif': picture('tif', GRAY + np.float32(0.4)),
    'nan.tif': picture('tif', np.full((4, 4), np.nan, np.float32)),
    'five.tif': picture('tif', np.zeros((5, 9, 7), np.uint8)),
  }.items():
    rows.append(
      Row(f'mask {name}', file_of(name, data), lambda f, n=name: masks.read_mask(f / n), name)
    )
  return rows


def volume_rows() -> list[Row]:
  rows = []
  whole = volume()
  for name, data in {'v.nii': whole, 'v.nii.gz': gzip.compress(whole)}.items():
    for how, damaged in damages(data).items():
      for reader in (nifti.read_volume, nifti.read_labels):
        what = f'volume {name} {how} {reader.__name__}'
        rows.append(Row(what, file_of(name, damaged), lambda f, n=name, r=reader: r(f / n), name))
  flat = np.zeros((4, 5), np.uint8)
  for name, data in {
    'not_packed.nii.gz': whole,
    'flat.nii': volume(flat),
    'cut_inside.nii.gz': gzip.compress(whole[:360]),
  }.items():
    rows.append(
      Row(f'volume {name}', file_of(name, data), lambda f, n=name: nifti.read_volume(f / n), name)
    )
  halves = volume(CUBE + np.float32(0.5))
  rows.append(
    Row(
      'volume of halves as labels',
      file_of('h.nii', halves),
      lambda f: nifti.read_labels(f / 'h.nii'),
      'h.nii',
    )
  )
  return rows
