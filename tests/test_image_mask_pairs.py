"""Images and masks that belong together by their names, for images and volumes alike."""

import unicodedata
from pathlib import Path

import pytest

from ssl_jax.data.image_mask_pairs import (
  check_names,
  check_no_masks,
  find_pairs,
  match_masks,
  size_hint,
)
from ssl_jax.errors import UserError


def match(images, masks):
  image_paths = [Path('images') / name for name in images]
  found = match_masks(image_paths, [Path('masks') / name for name in masks], Path('masks'))
  return [path.name for path in found]


@pytest.mark.parametrize(
  'suffix',
  [
    *('', '_seg', '_mask', '_masks', '_label', '_labels', '_gt', '_cp_masks', '_segmentation'),
    *('-Mask', '.seg', ' Labels', '_GT', '.cp_masks', '_SEG'),
    # QuPath, ilastik, 3D Slicer, and what people write.
    *('-labelled', '_Simple Segmentation', '-label', '_groundtruth', '_ground_truth', '_labeled'),
  ],
)
@pytest.mark.parametrize(('image', 'mask'), [('.tif', '.png'), ('.nii.gz', '.nii.gz')])
def test_suffixes_of_masks(suffix, image, mask):
  assert match([f'a{image}', f'b{image}'], [f'b{mask}', f'a{suffix}{mask}']) == [
    f'a{suffix}{mask}',
    f'b{mask}',
  ]


@pytest.mark.parametrize(
  ('image', 'mask'),
  [
    ('a_0000.nii.gz', 'a.nii.gz'),  # nnU-Net
    ('a_0000.png', 'a.png'),
    ('a_0000.nii.gz', 'a_0000.nii.gz'),
    ('a.NII.GZ', 'a.nii'),
    ('a.nii', 'a.NII.gz'),
    ('c0.ome.tif', 'c0.png'),
    ('c0.ome.tif', 'c0.ome.png'),
    ('c0.ome.tif', 'c0_mask.ome.tif'),
    ('c0.OME.TIFF', 'c0.ome_mask.png'),
    ('c0.tif', 'c0.ome.tif'),
    ('cell_mask.png', 'cell_mask.png'),
    ('cell_mask.png', 'cell_mask_mask.png'),
    ('a.b.c.png', 'a.b.c.tif'),
  ],
)
def test_names_of_two_parts(image, mask):
  assert match([image, 'other.png'], [mask, 'other.png']) == [mask, 'other.png']


def test_names_are_compared_in_one_normal_form():
  composed = unicodedata.normalize('NFC', 'é0.png')
  decomposed = unicodedata.normalize('NFD', 'é0.png')
  assert match([composed], [decomposed]) == [decomposed]
  # Bytes of Latin-1, as Python keeps them.
  assert match(['\udce90.png'], [decomposed]) == [decomposed]
  with pytest.raises(UserError, match='have the same name'):
    check_names([Path(composed), Path(decomposed)])


@pytest.mark.parametrize(
  ('images', 'masks', 'says'),
  [
    (['a.png'], ['b.png', 'a.png'], r'masks/b\.png has no image of that name.*or that with _seg'),
    (['a.png', 'b.png'], ['b.png'], r'images/a\.png has no mask in masks; add one called a\.png'),
    (['a.nii'], ['a.nii', 'a.nii.gz'], r'a\.nii\.gz and a\.nii are both masks of a\.nii'),
    (['a.png'], ['a.png', 'a_mask.png'], r'a_mask\.png and a\.png are both masks of a\.png'),
    (['a_0000.png', 'a.ome.tif'], ['a.png'], r'may be the mask of a_0000\.png or of a\.ome\.tif'),
    (['v.nii.gz'], ['w.nii.gz'], r'w\.nii\.gz has no image'),
  ],
)
def test_files_without_a_partner_are_named(images, masks, says):
  with pytest.raises(UserError, match=says):
    match(images, masks)


def test_the_advice_for_a_missing_mask_works():
  with pytest.raises(UserError, match=r'add one called a\.nii\.gz \(or a with _seg, _mask'):
    match(['a.nii'], [])
  assert match(['a.nii'], ['a.nii.gz']) == ['a.nii.gz']


@pytest.mark.parametrize(
  'names', [('a.png', 'a.tif'), ('a.nii', 'a.nii.gz'), ('a.nii', 'a.NII.GZ')]
)
def test_two_images_never_share_a_name(names):
  with pytest.raises(UserError, match='have the same name; rename one of them'):
    check_names([Path(name) for name in names])
  check_names([Path('a.png'), Path('b.png')])


def test_exchanged_sides_have_a_reason():
  assert 'EXIF' in size_hint((30, 40), (40, 30))
  assert 'another order' in size_hint((3, 4, 5), (5, 4, 3))
  assert size_hint((30, 40), (30, 41)) == ''


def test_images_of_one_name_are_not_without_a_mask():
  pairs = find_pairs([Path('a.png'), Path('a.tif'), Path('b.png')], [Path('m/a.png')])
  assert pairs.unclear == [
    'a.png and a.tif have one name for one mask; rename one, and its mask alike.'
  ]
  assert pairs.images_alone == [Path('b.png')]


def test_masks_among_unlabeled_images_are_refused():
  names = ['benign (1).png', 'benign (1)_mask.png', 'b.png', 'b_mask.png', 'c_mask.png']
  with pytest.raises(UserError, match=r'benign \(1\)_mask\.png is called as .*, like 1 more'):
    check_no_masks([Path('u') / name for name in names])
  # Without an image beside it a name may say anything.
  check_no_masks([Path('u') / name for name in ('c_mask.png', 'labels.png', 'd.png')])
