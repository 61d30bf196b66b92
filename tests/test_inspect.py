"""The data doctor: what it finds in spoiled folders, and whom it does not accuse."""

import json
import shlex
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from ssl_jax import inspect
from ssl_jax import run as runs
from ssl_jax.data.masks import mask_alignment
from ssl_jax.data.selection import near_duplicates, unlike
from ssl_jax.io.folders import equal_files
from ssl_jax.reports.inspection import pixels_of_folders, quick_inspection
from ssl_jax.reports.inspection.pixels_of_folders import WARNING, Sample


def scene(seed, side=96):
  """An image of bright blobs on a textured ground, and the mask of the blobs."""
  rng = np.random.default_rng(seed)
  rows, columns = np.mgrid[:side, :side]
  mask = np.zeros((side, side), np.uint8)
  for _ in range(4):
    row, column = rng.uniform(16, side - 16, 2)
    radii = rng.uniform(6, 14, 2)
    mask[((rows - row) / radii[0]) ** 2 + ((columns - column) / radii[1]) ** 2 < 1] = 1
  ground = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), 4) * 60 + 60
  image = (
    ground + 90 * ndimage.gaussian_filter(mask.astype(float), 1) + rng.normal(0, 4, mask.shape)
  )
  return np.clip(image, 0, 255).astype(np.uint8), mask


def write(folder, count=12, spoil=lambda image, mask: (image, mask), first=0):
  (folder / 'images').mkdir(parents=True)
  (folder / 'masks').mkdir()
  for number in range(first, first + count):
    image, mask = spoil(*scene(number))
    Image.fromarray(image).save(folder / 'images' / f'{chr(97 + number)}.png')
    Image.fromarray(mask).save(folder / 'masks' / f'{chr(97 + number)}.png')
  return folder


def run(tmp_path, *words):
  code = inspect.main([f'--labeled={tmp_path / "labeled"}', f'--out={tmp_path / "out"}', *words])
  return code, json.loads((tmp_path / 'out' / 'inspection.json').read_text())


def test_good_folders_have_no_problem(tmp_path, capsys):
  write(tmp_path / 'labeled')
  code, found = run(tmp_path)
  assert code == 0
  assert found['problems'] == []
  assert found['counts'] == {'labeled': 12}
  assert [row['name'] for row in found['classes']] == ['background', 'class 1']
  assert 'Problem' not in capsys.readouterr().out
  html = (tmp_path / 'out' / 'inspection.html').read_text()
  assert html.count('data:image/jpeg') == html.count('data:image/png') == 9


@pytest.mark.parametrize(
  ('spoil', 'expected'),
  [
    (
      lambda image, mask: (image, np.roll(mask, (5, -4), (0, 1))),
      'masks lie 5 pixels too low and 4 pixels too far left',
    ),
    (lambda image, mask: (image, mask.T), 'masks are transposed (rows and columns exchanged)'),
    (lambda image, mask: (image, mask[:, ::-1]), 'masks are mirrored left to right'),
  ],
)
def test_masks_that_do_not_lie_on_their_images(tmp_path, spoil, expected):
  write(tmp_path / 'labeled', spoil=spoil)
  code, found = run(tmp_path)
  assert code == 1
  assert any(problem.startswith(expected) for problem in found['problems'])


def test_a_few_images_accuse_nobody():
  pairs = [
    mask_alignment.prepare(i[..., None].astype(np.float32), m) for i, m in map(scene, range(5))
  ]
  shifted = [pair._replace(mask=np.roll(pair.mask, 5, 0)) for pair in pairs]
  assert mask_alignment.find_misplaced(shifted) is None


def test_all_that_is_wrong_is_collected(tmp_path):
  labeled = write(tmp_path / 'labeled')
  (labeled / 'masks' / 'a.png').unlink()
  (labeled / 'masks' / 'z.png').write_bytes((labeled / 'masks' / 'b.png').read_bytes())
  (labeled / 'images' / 'c.png').write_bytes(b'\x89PNG is no image')
  Image.fromarray(np.zeros((10, 12), np.uint8)).save(labeled / 'masks' / 'd.png')
  (labeled / 'images' / 'e.png').write_bytes((labeled / 'images' / 'f.png').read_bytes())
  code, found = run(tmp_path)
  problems = ' '.join(found['problems'])
  assert code == 1
  for expected in (
    'labeled images without a mask: a.png',
    'masks without a labeled image: z.png',
    'c.png',
    'd.png is 10 x 12 pixels but d.png is 96 x 96',
  ):
    assert expected in problems
  assert 'exact copies among labeled images: f.png = e.png.' in found['warnings']


def test_a_broken_file_and_a_copy_are_told_once(tmp_path):
  labeled = write(tmp_path / 'labeled')
  data = (labeled / 'images' / 'c.png').read_bytes()
  (labeled / 'images' / 'c.png').write_bytes(data[: len(data) // 2])
  (labeled / 'images' / 'e.png').write_bytes((labeled / 'images' / 'f.png').read_bytes())
  code, found = run(tmp_path)
  assert code == 1
  [problem] = found['problems']
  assert 'c.png cannot be read' in problem
  told = [line for line in found['warnings'] + found['notes'] if 'f.png' in line]
  assert told == ['exact copies among labeled images: f.png = e.png.']


def test_images_of_other_channels_are_compared_with_nothing(tmp_path):
  write(tmp_path / 'labeled')
  unlabeled = write(tmp_path / 'more', first=12) / 'images'
  # Of three channels as a training reads them: gray repeated.
  colored = unlabeled / 'm.png'
  Image.fromarray(np.repeat(np.array(Image.open(colored))[..., None], 3, -1)).save(colored)
  code, found = run(tmp_path, f'--unlabeled={unlabeled}')
  assert code == 0
  assert not any('differ from the rest' in warning for warning in found['warnings'])
  assert any('gray and RGB' in note for note in found['notes'])
  (unlabeled / 'n.png').unlink()
  tifffile.imwrite(
    unlabeled / 'n.tif',
    np.zeros((4, 96, 96), np.uint8),
    photometric='minisblack',
    planarconfig='separate',
  )
  code, found = run(tmp_path, f'--unlabeled={unlabeled}')
  assert code == 1
  assert 'same channels' in found['problems'][-1]


def test_what_masks_mean_can_be_given_as_for_a_run(tmp_path):
  write(tmp_path / 'labeled', spoil=lambda image, mask: (image, mask * 7))
  code, found = run(tmp_path)
  assert code == 1
  assert any("--config.data.values='7:1'" in problem for problem in found['problems'])
  code, found = run(tmp_path, '--config.data.values=7:1')
  assert code == 0
  assert [row['name'] for row in found['classes']] == ['background', 'class 1']
  code, found = run(tmp_path, '--values=7:cell')
  assert [row['name'] for row in found['classes']] == ['background', 'cell']
  code, found = run(tmp_path, '--classes=background,cell')
  assert code == 0
  assert [row['name'] for row in found['classes']] == ['background', 'cell']
  code, found = run(tmp_path, '--instances')
  assert code == 0


def test_all_that_is_wrong_with_volumes_is_collected(tmp_path, capsys):
  rng = np.random.default_rng(0)

  def save(path, voxels, shift=0.0):
    affine = np.eye(4)
    affine[:3, 3] = shift
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)

  labeled, unlabeled = tmp_path / 'labeled', tmp_path / 'unlabeled'
  for name in 'abcdef':
    mask = np.zeros((12, 10, 8), np.uint8)
    mask[4:8, 3:7, 2:6] = 1
    save(labeled / 'images' / f'{name}.nii.gz', rng.normal(100, 20, mask.shape).astype('f4'))
    save(labeled / 'masks' / f'{name}.nii.gz', mask)
  save(unlabeled / 'g.nii.gz', rng.normal(100, 20, (12, 10, 8)).astype('f4'))
  arguments = f'--unlabeled={unlabeled}'
  code, found = run(tmp_path, arguments)
  assert code == 0
  assert found['problems'] == []
  assert [row['images'] for row in found['classes']] == [6, 6]
  html = (tmp_path / 'out' / 'inspection.html').read_text()
  assert html.count('data:image/jpeg') == html.count('data:image/png') == 6
  save(labeled / 'masks' / 'a.nii.gz', mask, shift=3.0)
  save(labeled / 'masks' / 'b.nii.gz', mask[:-1])
  (labeled / 'masks' / 'c.nii.gz').unlink()
  data = (labeled / 'images' / 'd.nii.gz').read_bytes()
  (labeled / 'images' / 'd.nii.gz').write_bytes(data[:-300])
  save(unlabeled / 'h.nii.gz', np.full((12, 10, 8), np.nan, 'f4'))
  save(unlabeled / 'i.nii.gz', rng.normal(100, 20, (12, 10, 8, 4)).astype('f4'))
  capsys.readouterr()
  code, found = run(tmp_path, arguments)
  assert code == 1
  expected = (
    'labeled images without a mask: c.nii.gz',
    'a.nii.gz does not lie where a.nii.gz does',
    'b.nii.gz has (11, 10, 8) voxels',
    'd.nii.gz cannot be read',
    'h.nii.gz holds values that are not numbers',
    'most volumes have 1 channel, others 4: i.nii.gz',
  )
  for part, problem in zip(expected, found['problems'], strict=True):
    assert part in problem
  assert 'class 1: 6.78 % of the voxels, in 5 of 5 volumes' in capsys.readouterr().out


def test_all_that_is_wrong_with_points_is_collected(tmp_path):
  labeled = tmp_path / 'labeled'
  (labeled / 'images').mkdir(parents=True)
  (labeled / 'points').mkdir()
  for number, name in enumerate('abcdef'):
    Image.fromarray(scene(number)[0]).save(labeled / 'images' / f'{name}.png')
    (labeled / 'points' / f'{name}.csv').write_text('x,y,class\n40,40,round\n60,50,long\n')
  (labeled / 'points' / 'a.csv').unlink()
  (labeled / 'points' / 'b.csv').write_text('x,y,class\n400,40,round\n')
  (labeled / 'points' / 'c.csv').write_text('x,y,class\n4,forty,round\n')
  (labeled / 'points' / 'z.csv').write_text('x,y,class\n')
  code, found = run(tmp_path)
  assert code == 1
  expected = (
    'z.csv has no image',
    'a.png has no',
    'b.csv, line 2: x=400',
    "y='forty' is no number",
  )
  for part, problem in zip(expected, found['problems'], strict=True):
    assert part in problem


def test_unlabeled_images_of_another_kind_are_said(tmp_path):
  write(tmp_path / 'labeled')
  write(tmp_path / 'same', first=12)
  write(tmp_path / 'dark', spoil=lambda image, mask: (image // 3, mask), first=12)
  _, found = run(tmp_path, f'--unlabeled={tmp_path / "same"}')
  assert not any('unlike the labeled' in warning for warning in found['warnings'])
  code, found = run(tmp_path, f'--unlabeled={tmp_path / "dark"}', '--strict')
  assert any('unlike the labeled' in warning for warning in found['warnings'])
  assert code == 1


def test_nearly_equal_images_are_found_and_others_are_not():
  rng = np.random.default_rng(0)
  images = [scene(number)[0][..., None] / 255.0 for number in range(10)]
  brighter = np.clip(images[3] * 1.1 + rng.normal(0, 0.01, images[3].shape), 0, 1)
  thumbnails = [near_duplicates.thumbnail(image) for image in [*images, brighter]]
  assert [(pair.first, pair.second) for pair in near_duplicates.find(thumbnails)] == [(3, 10)]
  # Images of one value show nothing to compare.
  flat = near_duplicates.thumbnail(np.full((40, 40, 1), 0.5))
  assert near_duplicates.find([flat, flat]) == []


def test_separation_is_one_half_for_images_of_one_kind_and_1_for_two():
  rng = np.random.default_rng(1)
  one, other = rng.normal(0, 1, (2, 200, 3))
  assert unlike.separation(list(one), list(other)) < 0.6
  assert unlike.separation(list(one), list(other + 10)) == 1


def test_a_blank_image_is_named():
  described = np.array([0.5, 0.5])
  pixels = np.random.default_rng(0).random((6, 5, 1))
  samples = [Sample(Path(f'{i}.png'), 'labeled', pixels, described) for i in range(3)]
  samples[1] = samples[1]._replace(pixels=np.zeros((6, 5, 1)))
  findings = []
  assert pixels_of_folders.find_outliers(samples, findings) == [samples[1]]
  [(level, text)] = findings
  assert level == WARNING
  assert text.startswith('1 of 3 images that were looked at are blank, one value everywhere: 1.png')


def test_an_outlier_is_named():
  described = [np.array([0.5 + 0.01 * i, 0.2]) for i in range(10)]
  assert not unlike.outliers(described).any()
  flags = unlike.outliers([*described, np.array([0.05, 0.9])])
  assert flags.tolist() == [False] * 10 + [True]


def test_a_folder_that_is_none_is_a_sentence(tmp_path, capsys):
  assert inspect.main([f'--labeled={tmp_path / "nowhere"}']) == 1
  assert 'does not exist' in capsys.readouterr().err


# ---- Before a training


def test_equal_files_are_equal_to_the_last_byte(tmp_path):
  middle = equal_files.PEEKED * 3
  contents = {
    'a': b'0' * middle,
    'b': b'0' * (middle // 2) + b'1' + b'0' * (middle // 2 - 1),  # as long as a, with its ends
    'c': b'0' * middle,
    'd': b'short',
    'e': b'',
    'f': b'',
  }
  paths = []
  for name, content in contents.items():
    paths.append(tmp_path / name)
    paths[-1].write_bytes(content)
  found = equal_files.find([*paths, tmp_path / 'none', paths[3]])
  assert found.groups == [[0, 2], [3, 7], [4, 5]]
  (sentence,) = found.unreadable
  assert 'none cannot be read' in sentence


def test_a_run_begins_with_the_quick_checks(tmp_path):
  labeled = write(tmp_path / 'labeled')
  write(tmp_path / 'more', count=3, first=11)  # the first is the last of labeled
  (labeled / 'masks' / 'a.png').unlink()
  fields = {'labeled': str(labeled), 'unlabeled': str(tmp_path / 'more' / 'images')}
  notes = quick_inspection.notes({'name': 'folder', **fields})
  assert notes[:2] == [
    'labeled images without a mask: a.png',
    'exact copies among labeled and unlabeled images: l.png = l.png',
  ]
  assert notes[2] == '12 labeled images: 12 of 96 x 96, gray, uint8'
  assert '`python -m ssl_jax.inspect --labeled=' in notes[-1]
  # Of data that nobody has to inspect, and of folders that the loader refuses, it says nothing.
  assert quick_inspection.notes({'name': 'synthetic', 'labeled': 8}) == []
  assert quick_inspection.notes({'name': 'folder', 'labeled': str(tmp_path / 'none')}) == []


def test_quick_checks_are_told_once_for_a_run(tmp_path, page, capsys):
  write(tmp_path / 'labeled')
  page.unlock()
  page.data = dict(name='folder', labeled=str(tmp_path / 'labeled'), test_fraction=0.25)
  page.methods = dict(supervised=dict(weight=1.0))
  page.views = dict(labeled=dict(source='labeled'))
  page.batch = dict(labeled=2)
  page.update(stages=(), steps=1, eval_every=1, teacher='student')
  told = []
  for _ in range(2):
    runs.run(page, tmp_path / 'run')
    told.append(capsys.readouterr().out.count('looks further'))
  assert told == [1, 0]


def test_a_run_with_wrong_files_is_sent_to_the_inspection(tmp_path, capsys):
  write(tmp_path / 'labeled')
  for name in ('a.png', 'b.png'):
    (tmp_path / 'labeled' / 'images' / name).write_bytes(b'no image')
  note = quick_inspection.notes({'name': 'folder', 'labeled': str(tmp_path / 'labeled')})[-1]
  assert 'every file that is wrong' in note
  # The advice works.
  words = shlex.split(note.split('`')[1])
  assert words[:3] == ['python', '-m', 'ssl_jax.inspect']
  assert inspect.main([*words[3:], f'--out={tmp_path / "out"}']) == 1
  said = capsys.readouterr().out
  assert 'a.png' in said
  assert 'b.png' in said
