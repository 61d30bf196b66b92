"""What is counted in a mask, and that it is counted once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_jax.data.masks.mask_facts import MaskFacts, measure, read_facts
from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.io.masks import StoredMask


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.int32, np.float32])
def test_pixels_and_pieces_are_counted(dtype):
  mask = np.array([[1, 0, 1, 2], [0, 0, 0, 2], [3, 0, 0, 0], [0, 3, 0, 0]], dtype)
  facts = measure(StoredMask(mask), Path('a.png'))
  assert facts.counts == {0: 10, 1: 2, 2: 2, 3: 2}
  assert facts.pixels == 16
  # Pixels that touch at a corner are one piece.
  assert [(p.value, p.pixels, p.connected) for p in facts.pieces] == [
    (1, 2, False),
    (2, 2, True),
    (3, 2, True),
  ]
  assert facts.pieces[1].center == (0.25, 0.875)
  assert facts.count_text(3) == '2 pixels'


def test_background_and_255_are_no_pieces():
  facts = measure(StoredMask(np.array([[0, 255, 300]])), Path('a.png'))
  assert [piece.value for piece in facts.pieces] == [300]
  assert measure(StoredMask(np.zeros((2, 2, 2))), Path('a.nii')).pieces == ()


def test_colors_are_those_of_the_palette_or_gray():
  palette = (0, 255 << 32)
  facts = measure(StoredMask(np.array([[0, 1, 5]], np.uint8), palette=palette), Path('a.png'))
  # An index beyond the palette takes its last color.
  assert facts.color_counts() == {0: 1, 255 << 32: 2}
  plain = measure(StoredMask(np.array([[0, 255]], np.uint8)), Path('a.png'))
  assert [masks.color_text(c) for c in plain.color_counts()] == ['#000000', '#ffffff']


def test_what_was_counted_is_kept_by_content(tmp_path, monkeypatch):
  path = tmp_path / 'a.png'
  Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8)).save(path)
  first = read_facts(path, 'abc', tmp_path / 'cache')
  monkeypatch.setattr(masks, 'read_stored', None)  # it would raise
  assert read_facts(path, 'abc', tmp_path / 'cache') == first
  moved = read_facts(tmp_path / 'b.png', 'abc', tmp_path / 'cache')
  assert isinstance(moved, MaskFacts)
  assert moved.path == tmp_path / 'b.png'


@pytest.mark.parametrize('text', ['{"path": "", "colour": 1}', '[]', '{"path": '])
def test_what_another_version_kept_or_half_wrote_is_counted_again(text, tmp_path):
  path = tmp_path / 'a.png'
  Image.fromarray(np.array([[0, 1], [2, 2]], np.uint8)).save(path)
  first = read_facts(path, 'abc', tmp_path)
  (kept,) = tmp_path.glob('abc-*.json')
  whole = kept.read_text()
  kept.write_text(text)
  assert read_facts(path, 'abc', tmp_path) == first
  assert kept.read_text() == whole


def test_a_name_that_is_no_text_can_be_printed():
  facts = measure(StoredMask(np.zeros((2, 2))), Path('Bl\udce4tter.png'))
  assert facts.shown == 'Blätter.png'


def test_fractions_name_their_file():
  with pytest.raises(UserError, match=r'^a\.png holds fractions \(1 pixel, such as 3\.5\)'):
    measure(StoredMask(np.array([[0, 3.5]])), Path('a.png'))
  with pytest.raises(
    UserError, match=r'^a\.tif holds the two numbers 0 and 0\.00392157, .* save 0 and 1'
  ):
    measure(StoredMask(np.array([[0, 1 / 255], [0, 0]])), Path('a.tif'))
