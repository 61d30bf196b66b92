"""Groups of images (patients, movies): read off names or a table, and found in names."""

import re

import pytest

from ssl_jax.data.selection.groups import group_reader, grouped_names_note
from ssl_jax.errors import UserError


def test_a_pattern_reads_the_group_off_a_name():
  assert group_reader('')('a_1') == 'a_1'
  assert group_reader(r'patient(\d+)')('patient07_3') == '07'
  assert group_reader(r'^[a-z]+')('mouse12') == 'mouse'
  assert group_reader(r'a(\d)?')('ab') == 'a'
  with pytest.raises(UserError, match='does not match the name x; all names'):
    group_reader(r'\d')('x')
  with pytest.raises(UserError, match='is no regular expression'):
    group_reader('(')


def test_a_table_has_the_groups(tmp_path):
  path = tmp_path / 'groups.csv'
  path.write_text('\ufeffname, day, group\na,1,m1\nb.png,1,m1\nc.ome.tif,2,m2\n', encoding='utf-8')
  read = group_reader(str(path))
  assert [read(name) for name in ('a', 'b', 'c.ome')] == ['m1', 'm1', 'm2']
  with pytest.raises(UserError, match=r'groups\.csv has no line for d; add its name'):
    read('d')


def test_what_follows_a_dot_is_an_ending_only_where_files_end_so(tmp_path):
  path = tmp_path / 'g.csv'
  path.write_text('name,group\nmouse0.0,a\nmouse0.1,b\nmouse1.PNG,c\nct.nii.gz,d\n')
  read = group_reader(str(path))
  assert [read(name) for name in ('mouse0.0', 'mouse0.1', 'mouse1', 'ct')] == ['a', 'b', 'c', 'd']


@pytest.mark.parametrize(
  ('text', 'says'),
  [
    ('file,group\na,1\n', 'data.group: .*g.csv has the columns file, group and needs name, group'),
    ('name,group\na,\n', 'line 2 lacks a name or a group'),
    ('name,group\na,1\na.png,2\n', 'line 3 puts a.png into the group 2'),
  ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, text, says):
  (tmp_path / 'g.csv').write_text(text)
  with pytest.raises(UserError, match=says):
    group_reader(str(tmp_path / 'g.csv'))
  with pytest.raises(UserError, match=r'no\.csv cannot be read'):
    group_reader(str(tmp_path / 'no.csv'))


@pytest.mark.parametrize(
  'names',
  [
    ['mouse1_s01', 'mouse1_s02', 'mouse2_s01', 'mouse2_s02'],
    ['p1s1', 'p1s2', 'p2s1', 'p2s2', 'p3s1', 'p3s2'],
    ['patient001_frame01', 'patient001_frame12', 'patient002_frame01', 'patient002_frame09'],
    ['N2DH-GOWT1_t21', 'N2DH-GOWT1_t31', 'N2DL-HeLa_t1', 'N2DL-HeLa_t2'],
    ['2023-01-05_cell1', '2023-01-05_cell2', '2023-02-07_cell1', '2023-02-07_cell2'],
  ],
)
def test_names_that_look_grouped_are_said_with_a_pattern_that_works(names):
  note = grouped_names_note(names)
  assert 'names look grouped' in note
  read = group_reader(re.search(r"data\.group='([^']*)'", note).group(1))
  groups = [read(name) for name in names]
  assert len(set(groups)) == len(names) // 2
  assert groups == sorted(groups)


@pytest.mark.parametrize('names', [['t000', 't001', 't002', 't003'], ['seq1_z00', 'seq1_z01'] * 2])
def test_a_movie_or_stack_is_said(names):
  assert 'one movie or stack' in grouped_names_note(names)


@pytest.mark.parametrize(
  'names',
  [
    ['im0', 'im1', 'im2', 'im3', 'im4', 'im10'],
    ['001', '002', '003', '004'],
    ['cell_0001', 'cell_0002', 'cell_0003', 'cell_0004'],
    ['img_1_001', 'img_1_002', 'img_1_003', 'img_1_004'],
    ['train_1', 'train_2', 'test_1', 'test_2'],
    ['hippocampus_001', 'hippocampus_004', 'hippocampus_006', 'hippocampus_011'],
    ['01d44a26f6680c42', '0402a81e75262469', '06350c7cc618be44', '0a7d30b252359a10'],
    ['mouse1_s01', 'mouse2_s01', 'mouse3_s01', 'mouse4_s01'],
    ['a', 'b', 'c', 'd'],
    ['mouse1_s01', 'mouse1_s02'],
    ['---', '...', '___', '   '],
  ],
)
def test_plain_names_are_not(names):
  assert grouped_names_note(names) == ''
