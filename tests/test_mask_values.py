"""`data.values` as people write it, in a page or in a shell."""

import pytest

from ssl_jax.data.masks.mask_values import parse_values
from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.types import IGNORE


@pytest.mark.parametrize(
  'written',
  [
    {205: 1, 420: 2},
    {'205': 1, '420': '2'},  # as a run keeps it
    '205:1, 420:2',
    '205=1,420=2,',
    '{205: 1, 420: 2}',
    "{'205': 1, '420': 2}",
  ],
)
def test_values_have_class_ids(written):
  mapped = parse_values(written, None)
  assert mapped is not None
  assert mapped == ({0: 0, 205: 1, 420: 2}, False, None)


@pytest.mark.parametrize(
  'written',
  [
    '#ff0000:1, #00ff00:2',
    'red:1, lime:2',
    '255,0,0:1, 0,255,0:2',
    '{(255, 0, 0): 1, (0, 255, 0): 2}',
    {'255,0,0': 1, '#00ff00': 2},
  ],
)
def test_colors_have_class_ids(written):
  mapped = parse_values(written, None)
  assert mapped is not None
  assert mapped.by_color
  named = {masks.color_text(color): i for color, i in mapped.ids.items()}
  assert named == {'#000000': 0, '#ff0000': 1, '#00ff00': 2}


def test_names_stand_for_ids():
  mapped = parse_values('205:wall, 420:chamber, 7:wall, -1:ignore', None)
  assert mapped is not None
  assert mapped.ids == {0: 0, 205: 1, 420: 2, 7: 1, -1: IGNORE}
  assert mapped.names == ('background', 'wall', 'chamber')
  ordered = parse_values({420: 'chamber', 0: 'none'}, ('none', 'wall', 'chamber'))
  assert ordered is not None
  assert ordered.ids == {0: 0, 420: 2}
  with pytest.raises(UserError, match=r"'walls' is not one of data\.classes, which are none, wall"):
    parse_values({205: 'walls'}, ('none', 'wall'))


def test_nothing_is_nothing():
  assert parse_values(None, None) is None
  assert parse_values('', None) is None
  assert parse_values({}, None) is None


@pytest.mark.parametrize(
  ('written', 'says'),
  [
    ('205', 'cannot be read'),
    ('205:', 'cannot be read'),
    ('a b c', 'cannot be read'),
    ('purplish:1', "'purplish' is neither a value nor a color"),
    ('1:1, red:2', 'mixes values and colors'),
    ('1:1, 2:wall', r'mixes class ids \(1\) and names'),
    ('1:-1', r'mixes class ids \(-1\)'),
    ('1:300', '300 is no class id'),
  ],
)
def test_what_cannot_be_read_is_named(written, says):
  with pytest.raises(UserError, match=says) as error:
    parse_values(written, None)
  assert '\n' not in str(error.value)
