"""Masks that disagree with the others of their set are said before the training."""

import re
from pathlib import Path

import numpy as np
import pytest

from ssl_jax.data.mask_encoding import find_encoding
from ssl_jax.data.masks.mask_agreement import stray_values
from ssl_jax.data.masks.mask_facts import measure
from ssl_jax.errors import UserError
from ssl_jax.io.masks import StoredMask


def facts_of(*arrays):
  return [measure(StoredMask(array), Path(f'masks/im{i}.png')) for i, array in enumerate(arrays)]


def with_share(share, values=(0, 255), side=40):
  """A mask of which a share is foreground, in stripes."""
  mask = np.full(side * side, values[0], np.uint8)
  mask[: round(share * side * side)] = values[1]
  return mask.reshape(side, side)


@pytest.mark.parametrize('values', [(0, 1), (0, 255)])
def test_a_stray_pixel_is_no_class(values):
  clean = [with_share(0.2, values) for _ in range(3)]
  spoilt = clean[1].copy()
  spoilt[0, :2] = 7
  facts = facts_of(clean[0], spoilt, clean[2])
  assert stray_values(facts) == [7]
  with pytest.raises(
    UserError, match=r'im1\.png holds 2 pixels of the value 7, which no other'
  ) as e:
    find_encoding(facts, None)
  proposal = re.search(r"values='([^']*)'", str(e.value)).group(1)
  encoding = find_encoding(facts, None, proposal)
  assert len(encoding.classes) == 2
  assert encoding(StoredMask(spoilt))[0, :2].max() == 0
  assert any('im1.png alone holds 7 (2 pixels)' in note for note in encoding.notes)
  count = int(re.search(r'data\.classes=(\d+)', str(e.value)).group(1))
  kept = find_encoding(facts, count)
  assert len(kept.classes) == 3
  assert any('im1.png alone holds 7 (2 pixels)' in note for note in kept.notes)


def test_a_value_of_many_pixels_or_masks_is_none():
  three = [with_share(0.2) for _ in range(3)]
  for mask in three[:2]:
    mask[0, :2] = 7
  assert stray_values(facts_of(*three)) == []
  three[0][1, :12] = 9
  assert stray_values(facts_of(*three)) == []
  assert stray_values(facts_of(three[0])) == []
  ignored = [with_share(0.2, (0, 1)) for _ in range(3)]
  ignored[0][0, 0] = 255
  encoding = find_encoding(facts_of(*ignored), None)
  assert any('im0.png alone holds 255 (1 pixel)' in note for note in encoding.notes)


def test_an_inverted_mask_is_named():
  shares = (0.014, 0.01, 0.02, 0.986, 0.012)
  encoding = find_encoding(facts_of(*map(with_share, shares)), None)
  (note,) = [note for note in encoding.notes if 'inverted' in note]
  assert 'im3.png (98.6 %)' in note
  assert '1.0 to 2.0 %' in note


@pytest.mark.parametrize(
  'shares',
  [
    (0.2, 0.3, 0.6, 0.4),  # one is a little fuller
    (0.9, 0.95, 0.8, 0.9),  # all are full
    (0.1, 0.9, 0.1, 0.9),  # nobody knows which are inverted
    (0.01, 0.02),
  ],
)
def test_other_masks_are_not_called_inverted(shares):
  encoding = find_encoding(facts_of(*map(with_share, shares)), None)
  assert not [note for note in encoding.notes if 'inverted' in note]


def test_empty_masks_are_counted():
  encoding = find_encoding(facts_of(*map(with_share, (0.1, 0, 0.2, 0))), None)
  assert encoding.notes[-1] == '2 of 4 masks show background alone: im1.png, im3.png'
