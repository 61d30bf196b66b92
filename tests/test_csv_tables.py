"""CSV files of spreadsheets and programs: one reader for all delimiters and encodings."""

import math

import pytest

from ssl_jax.errors import UserError
from ssl_jax.io.csv_tables import NOT_UTF8, read_table

COLUMNS = ('name', 'group')
ROWS = [{'name': 'Zelle ä', 'group': 'a'}, {'name': 'b', 'group': 'M 2'}]
TEXT = 'name,group\nZelle ä,a\nb,M 2\n'


def read(path, data, columns=COLUMNS):
  path = path / 't.csv'
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  return read_table(path, columns)


@pytest.mark.parametrize('delimiter', [',', ';', '\t'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'latin-1'])
def test_tables_of_all_systems_say_the_same(tmp_path, delimiter, end, encoding):
  text = TEXT.replace(',', delimiter).replace('\n', end)
  table = read(tmp_path, text.encode(encoding))
  assert [row.cells for row in table.rows] == ROWS
  assert [row.line for row in table.rows] == [2, 3]
  assert table.delimiter == delimiter
  assert table.notes == ((NOT_UTF8,) if encoding == 'latin-1' else ())


@pytest.mark.parametrize(
  'text',
  [
    'sep=;\nname;group\nZelle ä;a\nb;M 2\n',
    '\n\n Name , GROUP ,day\nZelle ä,a,1\n,,\nb, "M 2",2',
    '"","name","group"\n"1","Zelle ä","a"\n"2","b","M 2"\n',
    'group,name,\na,Zelle ä,\nM 2,b,\n',
    'name,group,remark\nZelle ä,a\nb,M 2,"two\nlines"\n',
    'name,group\nZelle a\u0308,a\nb,M 2\n',  # the accent as a code of its own
  ],
)
def test_what_is_beside_the_columns_does_no_harm(tmp_path, text):
  assert [row.cells for row in read(tmp_path, text).rows] == ROWS


def test_lines_are_those_of_the_file(tmp_path):
  assert [row.line for row in read(tmp_path, '\nsep=,\nname,group\n\na,b\n,\nc,d').rows] == [5, 7]


@pytest.mark.parametrize(
  ('data', 'says'),
  [
    ('', r'has the columns \(none\) and needs name, group, with commas between them'),
    ('name|group\na|b', r'has the columns name\|group and needs'),
    ('name,group,Name\na,b,c', 'has 2 columns called name; leave one'),
    # Else all lines after the quote would be one cell, and their points be lost.
    ('name,group\na,"b\nc,d\ne,f\n', r'line 4 cannot be read as CSV \(.*\); is a quote missing'),
    ('name,group\na,"b\nc",d\n', 'line 3: 3 cells under 2 columns'),
    ('group,name\n"b\nc",d\n', 'line 3: group has several lines; is a quote missing'),
    ('name,"group\na,b\n', 'cannot be read as CSV'),
    # As R writes names of rows: the header is one cell shorter.
    ('"name","group"\n"1","a","b"\n', 'line 2: 3 cells under 2 columns'),
    ('name,group\na\n', 'line 2: 1 cells under 2 columns'),
    (f'name,group\n{"a" * 200_000},b\n', 'line 2 cannot be read as CSV'),
    (b'PK\x03\x04name,group', r'is not text; save it as CSV \(UTF-8\)'),
    (b'name,group\n\x81\xff,b', 'is not text'),
  ],
)
def test_what_is_unclear_is_named_in_a_sentence(tmp_path, data, says):
  with pytest.raises(UserError, match=f't.csv.*{says}') as caught:
    read(tmp_path, data)
  assert '\n' not in str(caught.value)


def test_a_decimal_comma_counts_where_it_is_no_delimiter(tmp_path):
  semicolons = read(tmp_path, 'x;y\n"1,5";,25\n-2,5;3.5', ('x', 'y'))
  numbers = [semicolons.number(row.cells[axis]) for row in semicolons.rows for axis in 'xy']
  assert numbers == [1.5, 0.25, -2.5, 3.5]
  assert math.isnan(semicolons.number('1,234,567'))
  commas = read(tmp_path, 'x,y\n"1,5",2\n', ('x', 'y'))
  assert math.isnan(commas.number(commas.rows[0].cells['x']))
  # Unquoted it would be x = 1 and y = 5.
  with pytest.raises(UserError, match='line 2: 3 cells under 2 columns'):
    read(tmp_path, 'x,y\n1,5,2\n', ('x', 'y'))
  assert all(math.isnan(commas.number(text)) for text in ('', 'nan', 'inf', 'one'))
