"""Look-up by file name, and parameters read off the source text."""

import subprocess
import sys

import pytest
from conftest import ROOT

from ssl_jax import registry
from ssl_jax.errors import UserError


def test_every_file_of_methods_is_known():
  assert {'supervised', 'fixmatch', 'mean_teacher'} <= set(registry.known('methods'))


def test_helpers_are_not_listed():
  assert 'layers' not in registry.known('models')
  assert 'progress_log' not in registry.known('stages')


def test_an_unknown_name_lists_the_known_and_names_the_nearest():
  with pytest.raises(UserError, match=r"no 'fixmach' in methods \(did you mean fixmatch\?\)"):
    registry.find('methods', 'fixmach')


def test_a_wrong_argument_is_named():
  with pytest.raises(UserError, match=r'methods.fixmatch.treshold is no .*did you mean threshold'):
    registry.build('methods', 'fixmatch', {'treshold': 0.9})


def test_a_missing_argument_is_named():
  with pytest.raises(UserError, match=r'data.labeled is not given; .*--config.data.labeled='):
    registry.build('datasets', 'folder', {})


@pytest.mark.parametrize('kind', registry.EXPORTS)
def test_parameters_of_the_source_are_those_of_the_code(kind):
  """The text is read without importing; here both are compared, for every part there is."""
  import inspect

  for name in registry.known(kind):
    make = getattr(registry.find(kind, name), registry.EXPORTS[kind])
    hidden = {'parent', 'name', *registry.NOT_CONFIGURED[kind]} if kind == 'models' else {
      *registry.NOT_CONFIGURED[kind]
    }  # fmt: skip
    signature = {k: p for k, p in inspect.signature(make).parameters.items() if k not in hidden}
    read = registry.parameters(kind, name)
    assert list(read) == list(signature)
    for key, parameter in read.items():
      default = signature[key].default
      assert parameter.required == (default is inspect.Parameter.empty)
      if not parameter.required and not isinstance(parameter.default, registry.Unknown):
        assert parameter.default == default


@pytest.mark.parametrize(
  ('value', 'annotation', 'fits'),
  [
    (1, 'int', True),
    (1, 'float', True),
    (1.5, 'int', False),
    (True, 'int', False),
    (True, 'bool', True),
    (None, 'int | None', True),
    (None, 'int', False),
    ('a', 'str | Path | None', True),
    ((1, 2), 'Sequence[float | int]', True),
    (('a',), 'Sequence[float]', False),
    ({'a': 1}, 'Mapping[str, str]', True),
    (3, "Literal['a', 'b']", False),
    (object(), 'Whatever', True),
  ],
)
def test_values_fit_annotations(value, annotation, fits):
  assert registry.fits(value, annotation) is fits


PLUG_IN = '''
"""Nothing but zero."""
from ssl_jax.types import Term
def method(weight: float = 2.0):
  def ask(teacher, views, key, step):
    view = views['labeled']
    return {'zero': Term(view.image, lambda logits: 0 * logits.sum(), weight)}, {}
  return ask
'''


def test_parts_of_a_plug_in_folder_are_found_beside_ours(tmp_path, monkeypatch):
  (tmp_path / 'methods').mkdir()
  (tmp_path / 'methods' / 'zero.py').write_text(PLUG_IN)
  registry.add_plugins(tmp_path)
  assert 'zero' in registry.known('methods')
  assert registry.parameters('methods', 'zero')['weight'].default == 2.0
  assert callable(registry.build('methods', 'zero', {'weight': 1.0}))


def test_a_plug_in_must_not_have_the_name_of_one_of_ours(tmp_path, monkeypatch):
  (tmp_path / 'methods').mkdir()
  (tmp_path / 'methods' / 'uda.py').write_text(PLUG_IN)
  with pytest.raises(UserError, match=r'uda.py has the name of a file in ssl_jax/methods; rename'):
    registry.add_plugins(tmp_path)


def test_a_folder_without_plug_ins_is_refused(tmp_path):
  with pytest.raises(UserError, match='holds none of methods/'):
    registry.add_plugins(tmp_path)


def test_names_and_parameters_are_known_without_jax():
  code = (
    'import sys; from ssl_jax import registry; registry.known("methods"); '
    'registry.parameters("models", "unet"); sys.exit("jax" in sys.modules)'
  )
  assert subprocess.run([sys.executable, '-c', code], cwd=ROOT).returncode == 0
