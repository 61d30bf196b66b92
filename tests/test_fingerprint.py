"""What is measured of a data set, on images drawn with known sizes, shares and colors."""

import numpy as np
import pytest

from ssl_jax.data.selection.fingerprint import compute_fingerprint, object_diameters
from ssl_jax.types import CELLS, Splits


class Listed(list):
  """Records in a list, which is all that a Source is."""


def disc(shape, middle, radius):
  rows, columns = np.mgrid[: shape[0], : shape[1]]
  return (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 < radius**2


def record(label, image=None, name='a'):
  image = np.zeros((*label.shape, 1), np.uint8) if image is None else image
  return dict(image=image, label=label.astype(np.uint8), name=name)


def splits(labeled, unlabeled=None, classes=('background', 'cell', 'rare'), **fields):
  return Splits(Listed(labeled), unlabeled and Listed(unlabeled), None, None, classes, **fields)


@pytest.mark.parametrize('radius', [5, 12, 20])
def test_the_diameter_of_a_disc(radius):
  (diameter,) = object_diameters(disc((64, 64), (30, 30), radius))
  assert diameter == pytest.approx(2 * radius, abs=1.5)


def test_discs_that_touch_count_as_no_more_than_twice_one():
  chain = np.zeros((40, 200), bool)
  for middle in range(15, 190, 18):
    chain |= disc(chain.shape, (20, middle), 10)
  (diameter,) = object_diameters(chain)
  assert 30 < diameter <= 41


def test_a_network_of_thin_lines_is_no_huge_object():
  lines = np.zeros((90, 90), bool)
  lines[::10] = True
  lines[:, ::10] = True
  # Lines are one pixel wide, a little more where they cross.
  (diameter,) = object_diameters(lines)
  assert 2 <= diameter < 4


def test_specks_are_no_objects_and_the_border_ends_an_object():
  mask = np.zeros((20, 20), bool)
  mask[3, 3:6] = True
  assert not len(object_diameters(mask))
  # All of the image: as wide as itself, not endless.
  assert object_diameters(np.ones((20, 20), bool))[0] == pytest.approx(22.6, abs=0.1)


def test_shares_presence_and_diameters_of_classes():
  first = np.zeros((50, 50), int)
  first[:25, :20] = 1  # 500 pixels of 2500
  second = np.zeros((50, 50), int)
  second[10:20, 10:20] = 2  # 100 pixels
  second[40:, :] = 255  # 500 pixels that nobody labeled
  facts = compute_fingerprint(splits([record(first), record(second)])).classes
  cell, rare = facts
  assert (cell.name, rare.name) == ('cell', 'rare')
  assert cell.share == pytest.approx(500 / 4500, abs=1e-5)
  assert rare.share == pytest.approx(100 / 4500, abs=1e-5)
  assert (cell.present, rare.present) == (0.5, 0.5)
  # The circle of 100 pixels' area.
  assert (rare.objects, rare.diameter) == (1, 11.3)


def test_sizes_are_of_labeled_and_unlabeled_images():
  labeled = [record(np.zeros((20, 40))), record(np.zeros((30, 30)))]
  unlabeled = [dict(image=np.zeros((60, 50, 1), np.uint8), name='b')]
  data = compute_fingerprint(splits(labeled, unlabeled))
  assert (data.smallest, data.median, data.largest) == ((20, 30), (30, 40), (60, 50))
  assert (data.labeled, data.unlabeled, data.channels, data.bits) == (2, 1, 1, 8)


def test_val_and_test_are_never_looked_at():
  class Forbidden(list):
    def __getitem__(self, index):
      raise AssertionError('looked at')

  shown = splits([record(np.zeros((20, 20)))])._replace(test=Forbidden([1]), val=Forbidden([1]))
  compute_fingerprint(shown)


def _modality(image):
  return compute_fingerprint(splits([record(np.zeros((20, 20)), image)]))


def test_modality_by_saturation_and_background():
  pink = np.zeros((20, 20, 3), np.uint8) + np.array([220, 160, 190], np.uint8)
  assert _modality(pink).modality == 'color'
  gray = np.full((20, 20, 3), 200, np.uint8)
  data = _modality(gray)
  assert (data.modality, data.gray_as_color, data.saturation) == ('gray bright', True, 0)
  dark = np.full((20, 20, 1), 10, np.uint8)
  dark[:5, :5] = 255
  assert _modality(dark).modality == 'gray dark'
  # JPEG leaves a difference of a few values between channels of a gray image.
  noisy = gray.copy()
  noisy[..., 0] += 4
  assert _modality(noisy).gray_as_color


def test_deep_images_have_more_than_8_bits():
  deep = record(np.zeros((20, 20)), np.full((20, 20, 1), 0.5, np.float32))
  assert compute_fingerprint(splits([deep], intensity=(0.0, 4000.0))).bits == 16


def test_volumes_have_shares_and_no_diameters():
  label = np.zeros((8, 10, 12))
  label[:4] = 1
  data = compute_fingerprint(splits([record(label)], classes=('background', 'organ')))
  assert data.median == (8, 10, 12)
  assert (data.classes[0].share, data.classes[0].objects) == (0.5, 0)


def test_patches_are_counted_by_class():
  patches = [record(np.int32(i % 4 == 0) * 1, np.zeros((9, 9, 3), np.uint8)) for i in range(8)]
  data = compute_fingerprint(splits(patches, classes=('background', 'cell'), task=CELLS))
  assert data.classes[0].share == 0.25
