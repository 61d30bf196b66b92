"""Gzipped files: read to their checksum, and called as what they are."""

import gzip
import zlib

import pytest

from ssl_jax.io.formats import gzip_files


def test_a_damaged_file_raises_and_others_do_not(tmp_path):
  path = tmp_path / 'a.gz'
  data = bytearray(gzip.compress(bytes(range(256)) * 20))
  path.write_bytes(data)
  gzip_files.check(path)
  # The content counts, not the name.
  (tmp_path / 'plain.gz').write_bytes(b'plain')
  gzip_files.check(tmp_path / 'plain.gz')
  path.write_bytes(data[:-1])
  with pytest.raises(EOFError):
    gzip_files.check(path)
  data[-5] ^= 1  # of the checksum
  path.write_bytes(data)
  with pytest.raises((OSError, zlib.error)):
    gzip_files.check(path)


def test_a_wrong_ending_is_named(tmp_path):
  plain = (348).to_bytes(4, 'little') + b'voxels'
  packed = gzip.compress(plain)
  for name, data, says in (
    ('a.nii.gz', packed, ''),
    ('a.nii', plain, ''),
    ('a.nii', packed, 'gzipped; call it a.nii.gz'),
    ('a.NII.GZ', plain, 'not gzipped; call it a.NII'),
    # No volume by any name: the page of a server, and nothing at all.
    ('a.nii.gz', b'<html>', ''),
    ('a.nii.gz', b'', ''),
  ):
    (tmp_path / name).write_bytes(data)
    sentence = str(gzip_files.unreadable(tmp_path / name, ValueError('why')))
    assert (says or '(why); get the file again') in sentence
  assert 'get the file again' in str(gzip_files.unreadable(tmp_path / 'none.nii', OSError('gone')))
