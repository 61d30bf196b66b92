"""The fields of pages that a shell completes, and their choices."""

from pathlib import Path

from ssl_jax import registry
from ssl_jax.parsing import page_fields

ROOT = Path(__file__).resolve().parents[1]


def test_fields_have_dotted_names_and_choices_where_there_are_some():
  fields = page_fields.read(ROOT / 'configs' / 'quickstart.py')
  assert fields['steps'] == []
  assert fields['redraw'] == ['True', 'False']
  assert fields['model.name'] == registry.known('models')
  assert set(fields['optimizer.name']) >= {'sgd', 'adam'}
  # Of the page's own data set and methods.
  assert {'data.size', 'methods.fixmatch.threshold', 'views.strong.source'} <= set(fields)


def test_a_page_that_cannot_be_run_has_no_fields(tmp_path, capsys):
  page = tmp_path / 'mine.py'
  for text in ('print("loud")\n1 / 0\n', 'def get_config(:\n', 'x = 1\n'):
    page.write_text(text)
    assert page_fields.read(page) == {}
  # Nothing of it may come between what a shell completes.
  assert capsys.readouterr().out == ''
