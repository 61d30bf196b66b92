"""What mask values mean, from all masks together: found, or refused in a sentence."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from ssl_jax.data.mask_encoding import class_ids, find_encoding
from ssl_jax.data.masks.mask_facts import measure
from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.io.masks import StoredMask
from ssl_jax.types import IGNORE


def of_values(values, side=30):
  """A mask that holds each of the values in many places."""
  values = np.array(list(values))
  return values[np.arange(side * side).reshape(side, side) % len(values)]


def facts_of(*arrays, **fields):
  """Facts of masks/im0.png, masks/im1.png, ... with these pixels."""
  return [
    measure(StoredMask(np.asarray(array), **fields), Path(f'masks/im{i}.png'))
    for i, array in enumerate(arrays)
  ]


def growing(values):
  """Masks of which each holds one value more than the one before."""
  return facts_of(*(of_values(values[: i + 1]) for i in range(len(values))), of_values(values))


def advice(error):
  """What a message says to type for data.values."""
  return re.search(r"data\.values='([^']*)'", str(error.value)).group(1)


def disc(side=40, radius=9, center=(20, 20)):
  rows, columns = np.mgrid[:side, :side]
  return (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < radius**2


@pytest.mark.parametrize(
  ('values', 'classes', 'ids', 'known'),
  [
    ((0, 255), None, (0, 1), 2),
    ((0, 65535), None, (0, 1), 2),
    ((0, 255), ('sky', 'cell'), (0, 1), 2),
    ((0, 1), None, (0, 1), 2),
    ((0, 1, 255), None, (0, 1, IGNORE), 2),
    ((0, 1, 2, 255), 3, (0, 1, 2, IGNORE), 3),
    ((0, 1), 4, (0, 1), 4),
    ((0, 128), 2, (0, 1), 2),
    ((0, 128, 255), ('a', 'b', 'c'), (0, 1, 2), 3),
    ((0, 205, 420), 3, (0, 1, 2), 3),
    ((1, 2), 2, (0, 1), 2),
  ],
)
def test_encodings(values, classes, ids, known):
  encoding = find_encoding(growing(values), classes)
  assert len(encoding.classes) == known
  if isinstance(classes, tuple):
    assert encoding.classes == classes
  label = encoding(StoredMask(np.array([values, values[::-1]])))
  assert label.dtype == np.uint8
  np.testing.assert_array_equal(label, [ids, ids[::-1]])
  assert 'mask' in encoding.notes[0]


@pytest.mark.parametrize(
  ('values', 'classes', 'sentence'),
  [
    ((0, 128), None, r'not clear what the mask values 0, 128 \(128 is in .*im1\.png\) mean.*=2'),
    ((0, 128, 255), None, r'not clear what the mask values 0, 128, 255 .*data\.classes=3'),
    ((1, 2), None, r'not clear what the mask values 1, 2 '),
    ((0, 1, 4), None, r'4: \d+ pixels in 2 masks.*data\.classes=5 if they are class ids'),
    ((0, 205, 420), None, r'above 255.*205: \d+ pixels in 3 masks, 420: \d+ pixels in 2 masks'),
    ((0, 128, 255), 2, r'asks for 2 classes but the masks hold the values 0, 128, 255'),
    ((0, 255), 3, r'asks for 3 classes but the masks hold the values 0, 255'),
    ((0, 1, 2), 2, r'asks for 2 classes but the masks hold'),
    ((0,), None, r'hold only the value 0 '),
    ((255,), None, r'hold only the value 255 '),
    ((0,), 3, r'hold only the value 0 '),
    (
      range(70),
      None,
      r'hold 70 different values .*in many places, as in photographs; put the masks',
    ),
    ((0, 1), 1, r'classes=1 must be a number of 2 to 255'),
    ((0, 1), 'cell', r"classes='cell' must be a number"),
  ],
)
def test_unclear_masks_are_refused(values, classes, sentence):
  with pytest.raises(UserError, match=sentence) as error:
    find_encoding(growing(list(values)), classes)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('count', 'sentence'),
  [
    (70, r'hold 70 different values .*look like instance ids.*data\.classes=70'),
    (300, r'hold 300 different values .*data\.instances=True if each is one object, or'),
  ],
)
def test_many_values_in_one_place_each_look_like_ids(count, sentence):
  rows = np.repeat(np.arange(count)[:, None], 5, 1)
  with pytest.raises(UserError, match=sentence):
    find_encoding(facts_of(rows, rows), None)


@pytest.mark.parametrize(
  ('values', 'ids'),
  [
    ((0, 1, 4), (0, 1, 2)),
    ((1, 2), (0, 1)),
    ((0, 128, 255), (0, 1, 2)),
    ((0, 205, 420, 500), (0, 1, 2, 3)),
    ((-1, 0, 1), (IGNORE, 0, 1)),
    ((0, 1, 65535), (0, 1, IGNORE)),
  ],
)
def test_the_values_that_a_message_proposes_can_be_given(values, ids):
  with pytest.raises(UserError) as error:
    find_encoding(growing(values), None)
  encoding = find_encoding(growing(values), None, advice(error))
  np.testing.assert_array_equal(encoding(StoredMask(np.array([values]))), [ids])


def test_a_message_names_the_number_of_classes_that_works():
  for values in ((0, 1, 4), (0, 7, 9)):
    with pytest.raises(UserError) as error:
      find_encoding(growing(values), None)
    for count in re.findall(r'data\.classes=(\d+)', str(error.value)):
      assert len(find_encoding(growing(values), int(count)).classes) == int(count)


def test_values_may_mean_ignore_and_must_all_be_named():
  facts = growing((0, 1, 7, 9))
  encoding = find_encoding(facts, None, {1: 1, 7: 255, 9: 0})
  label = encoding(StoredMask(np.array([[0, 1, 7, 9]])))
  np.testing.assert_array_equal(label, [[0, 1, IGNORE, 0]])
  assert '7 = ignored' in encoding.notes[0]
  with pytest.raises(UserError, match=r'im3\.png holds 9 \(\d+ pixels in 2 masks\)') as error:
    find_encoding(facts, None, '1:1, 7:2')
  assert find_encoding(facts, None, advice(error)).classes[-1] == 'class 2'
  with pytest.raises(UserError, match=r'class id 3 but data\.classes has 2 classes'):
    find_encoding(facts, 2, '1:1, 7:3, 9:0')
  with pytest.raises(UserError, match='no value for the class id 2'):
    find_encoding(facts, None, '1:1, 7:3, 9:0')
  with pytest.raises(UserError, match='hold one class'):
    find_encoding(facts, 2, '1:0, 7:0, 9:255')
  named = find_encoding(facts, None, '1:wall, 7:lumen, 9:ignore')
  assert named.classes == ('background', 'wall', 'lumen')


@pytest.mark.parametrize('classes', [None, 2])
def test_masks_of_two_encodings_are_refused(classes):
  mixed = facts_of(of_values((0, 1)), of_values((0, 255)))
  with pytest.raises(
    UserError, match=r'im0\.png holds class ids up to 1, but .*im1\.png holds 255'
  ):
    find_encoding(mixed, classes)
  clear = find_encoding([*mixed, *facts_of(of_values((0, 1, 255)))], classes)
  assert dict(clear.ids)[255] == IGNORE
  assert len(clear.classes) == 2
  more = facts_of(of_values((0, 1, 2)), of_values((0, 255)))
  with pytest.raises(UserError, match='255 may be the same class or mean unknown') as error:
    find_encoding(more, None)
  for proposal in re.findall(r"'(1:[^']*)'", str(error.value)):
    assert find_encoding(more, None, proposal)


def test_one_bit_has_no_255():
  deep = facts_of(of_values((0, 255)), of_values((0, 255)))
  flat = facts_of(of_values((0, 1)), bits=1)
  encoding = find_encoding([*deep, *flat], None)
  assert encoding.classes == ('background', 'foreground')
  for values in ((0, 255), (0, 1)):
    np.testing.assert_array_equal(encoding(StoredMask(np.array([values]))), [[0, 1]])
  assert find_encoding(flat, None).classes == ('background', 'foreground')


def test_negative_values_are_refused():
  with pytest.raises(UserError, match=r'im0\.png holds the negative value -1 \(\d+ pixels in'):
    find_encoding(growing([-1, 0, 1]), None)


def test_smooth_borders_are_named_and_may_be_cut():
  soft = [
    np.rint(ndimage.gaussian_filter(disc(radius=r) * 255.0, 1)).astype(np.uint8) for r in (7, 9, 12)
  ]
  with pytest.raises(UserError, match=r'mask of 0 and 255 with smooth borders \(\d+ of 1600') as e:
    find_encoding(facts_of(*soft), None)
  assert 'im0.png' in str(e.value)
  # As the message says.
  cut = [np.where(mask >= 128, 255, 0) for mask in soft]
  assert find_encoding(facts_of(*cut), None).classes == ('background', 'foreground')
  # One smooth mask among others is named as well.
  with pytest.raises(UserError, match=r'im2\.png looks like a mask of 0 and 255 with smooth'):
    find_encoding(facts_of(*cut[:2], soft[2]), None)
  # JPEG's noise around both ends.
  noise = np.random.default_rng(0).integers(0, 4, (40, 40))
  jpeg = np.where(noise == 3, np.abs(cut[2] - 3), cut[2])
  ring = disc(radius=13) & ~disc(radius=11)
  jpeg[ring] = np.random.default_rng(1).integers(20, 230, ring.sum())
  with pytest.raises(UserError, match='smooth borders'):
    find_encoding(facts_of(jpeg), None)


def test_instances_beside_255_are_no_smooth_borders():
  ids = np.zeros((60, 60), np.uint8)
  for k in range(20):
    ids[3 * (k // 5) * 4 : 3 * (k // 5) * 4 + 8, 12 * (k % 5) : 12 * (k % 5) + 8] = k + 1
  ids[-3:] = 255
  with pytest.raises(UserError, match='look like instance ids') as error:
    find_encoding(facts_of(ids), None)
  assert 'data.instances=True' in str(error.value)


def test_a_few_ids_of_whole_objects_may_be_instances():
  rng = np.random.default_rng(0)

  def cells():
    ids = np.zeros((60, 60), np.uint8)
    for k, cell in enumerate(rng.permutation(9)[:3]):
      row, column = 20 * (cell // 3) + 9, 20 * (cell % 3) + 9
      ids[disc(60, rng.uniform(4, 8), (row, column))] = k + 1
    return ids

  facts = facts_of(*(cells() for _ in range(8)))
  with pytest.raises(UserError, match=r'1, 2, 3 .* look like instance ids.*data\.classes=4') as e:
    find_encoding(facts, None)
  assert 'data.instances=True' in str(e.value)
  assert len(find_encoding(facts, 4).classes) == 4


def test_colors_are_named_with_what_to_type():
  pixels = np.zeros((6, 6, 3), np.uint8)
  pixels[:2] = (255, 0, 0)
  pixels[2, 0] = (0, 255, 0)
  colored = facts_of(masks.pack(pixels), colored=True)
  black = facts_of(np.zeros((6, 6), np.uint8))  # equal channels are gray
  with pytest.raises(UserError, match=r'im0\.png is a colored picture.*#ff0000: 12 pixels') as e:
    find_encoding([*colored, *black], None)
  assert advice(e) == '#ff0000:1, #00ff00:2'
  encoding = find_encoding([*colored, *black], None, advice(e))
  label = encoding(StoredMask(masks.pack(pixels), colored=True))
  assert label[:2].min() == 1
  assert label[2, 0] == 2
  assert encoding(StoredMask(np.zeros((6, 6), np.uint8))).max() == 0
  with pytest.raises(UserError, match=r'names values, but .* is in color') as e:
    find_encoding(colored, None, '1:1')
  assert find_encoding(colored, None, advice(e)).by_color
  photograph = np.random.default_rng(0).integers(0, 255, (40, 40, 3))
  with pytest.raises(UserError, match='colors, as photographs have'):
    find_encoding(facts_of(masks.pack(photograph), colored=True), None)


def test_palettes_in_another_order_are_named():
  red, green = 255 << 32, 255 << 16
  one = facts_of(of_values((0, 1, 2)), palette=(0, red, green))
  two = facts_of(of_values((0, 1, 2)), palette=(0, green, red))
  assert len(find_encoding([*one, *one], None).classes) == 3
  with pytest.raises(UserError, match=r'palettes of masks differ: 1 is #ff0000 in .* \(300') as e:
    find_encoding([*one, *two], None)
  encoding = find_encoding([*one, *two], None, advice(e))
  values = np.array([[0, 1, 2]], np.uint8)
  first = encoding(StoredMask(values, palette=(0, red, green)))
  second = encoding(StoredMask(values, palette=(0, green, red)))
  np.testing.assert_array_equal(first, second[:, [0, 2, 1]])
  # Adaptive palettes begin with any color.
  adaptive = facts_of(of_values((0, 1, 2)), palette=(red, green, 0))
  with pytest.raises(UserError, match=r'black is 2 \(300 pixels\) and 0 is #ff0000') as e:
    find_encoding(adaptive, None)
  encoding = find_encoding(adaptive, None, advice(e))
  assert encoding(StoredMask(values, palette=(red, green, 0)))[0, 2] == 0
  white = 255 << 32 | 255 << 16 | 255
  assert find_encoding(facts_of(of_values((0, 1)), palette=(white, 0)), None).classes
  # Or the indices count.
  assert not find_encoding([*one, *two], None, '1:1, 2:2').by_color


def test_rounded_values_are_said():
  near = of_values((0, 1, 2)) * 0.9975
  encoding = find_encoding(facts_of(near, near), None)
  assert encoding.notes[1].startswith('values of 2 masks were rounded to whole numbers')
  np.testing.assert_array_equal(encoding(StoredMask(np.array([[0, 1.995]]))), [[0, 2]])


def test_a_file_that_changed_is_named():
  encoding = class_ids(('a', 'b'))
  with pytest.raises(UserError, match=r'x\.png holds the value 7, which it did not'):
    encoding(StoredMask(np.array([[0, 7]], np.uint8)), 'x.png')
  with pytest.raises(UserError, match=r'x\.nii holds the value -1'):
    encoding(StoredMask(np.array([[0, -1]], np.int32)), 'x.nii')


def test_hidden_masks_add_no_class():
  facts = growing((0, 1, 2))
  encoding = find_encoding(facts, None).limited_to(facts[:2])
  assert encoding.classes == ('background', 'class 1')
  np.testing.assert_array_equal(encoding(StoredMask(np.array([[0, 1, 2]]))), [[0, 1, IGNORE]])


def test_one_object_a_mask_with_an_id_of_its_own_is_no_class():
  """Object 1 in the first file, 2 in the second: else each would be a class of one mask."""
  objects = [disc(center=(10 + 5 * i, 20)).astype(np.uint16) * (i + 1) for i in range(4)]
  with pytest.raises(UserError, match=r'look like instance ids.*data\.instances=True'):
    find_encoding(facts_of(*objects), None)
  assert len(find_encoding(facts_of(*objects), 5).classes) == 5
  # Two masks may show one class each.
  assert len(find_encoding(facts_of(*objects[:2]), None).classes) == 3


def test_a_color_between_two_is_not_asked_for_one_by_one():
  shades = [(level, 0, 0) for level in (0,) * 30 + (255,) * 20 + tuple(range(20, 240, 20))]
  facts = facts_of(masks.pack(np.array([shades])), colored=True)
  with pytest.raises(UserError, match='smooth borders'):
    find_encoding(facts, None, '#ff0000:1')
