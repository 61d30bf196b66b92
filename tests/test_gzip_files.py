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
  packed, plain = gzip.compress(b'voxels'), b'voxels'
  for name, data, says in (
    ('a.nii.gz', packed, ''),
    ('a.nii', plain, ''),
    ('a.nii', packed, 'gzipped; call it a.nii.gz'),
    ('a.NII.GZ', plain, 'not gzipped; call it a.NII'),
  ):
    (tmp_path / name).write_bytes(data)
    assert says in gzip_files.other_name(tmp_path / name)
    assert bool(says) == bool(gzip_files.other_name(tmp_path / name))
  assert gzip_files.other_name(tmp_path / 'none.nii') == ''
