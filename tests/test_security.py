"""What a file, a name or a network that nobody vouches for cannot do."""

import ast
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from ssl_jax import inspect, run_folder
from ssl_jax.errors import UserError
from ssl_jax.evaluation import organs
from ssl_jax.io import markdown_tables, memmap_arrays
from ssl_jax.reports import html_pages, report_page
from ssl_jax.training.pretrained import read_arrays

PACKAGE = ROOT / 'ssl_jax'

FORBIDDEN_CALLS = {
  # Defaults of arguments, taken from the source of a plug-in that is imported anyway.
  'eval': ('registry.py',),
  'compile': ('registry.py',),
  # What a worker of Dask is asked is our own text and our own module, which it may lack.
  'exec': ('running/dask_cluster.py',),
  '__import__': ('running/dask_cluster.py',),
}

# Messages to the workers of a Dask cluster, and not files: whoever can send them runs code there
# anyway, which is what Dask is for.
MESSAGES = (
  'running/dask_cluster.py',
  'running/dask_stages.py',
  'running/dask_worker.py',
  'inference/blocks/dask_predict.py',
  'inference/blocks/dask_stack.py',
  'inference/blocks/dask_tasks.py',
)

# Names that unpickle, unpack or start a shell, and the only files that may use them: of those that
# read files, one, which unpickles with a class that knows tensors alone.
FORBIDDEN = {
  'pickle': ('io/torch_state_dict.py', *MESSAGES),
  'marshal': (),
  'shelve': (),
  'dill': (),
  'joblib': (),
  'tarfile': (),
  'yaml': (),
  'extractall': (),
  'extract': (),
  'unpack_archive': (),
  'allow_pickle': (),
  'os.system': (),
  'os.popen': (),
  'shell': (),
}


def _names(tree):
  """Line and name of all that is imported, called, or given as a keyword."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from ((node.lineno, alias.name.split('.')[0]) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.lineno, (node.module or '').split('.')[0]
    elif isinstance(node, ast.Call):
      function = node.func
      name = function.attr if isinstance(function, ast.Attribute) else getattr(function, 'id', '')
      yield node.lineno, name
      if isinstance(function, ast.Name):
        yield node.lineno, f'{name}()'
      elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        yield node.lineno, f'{function.value.id}.{name}'
      yield from ((node.lineno, keyword.arg) for keyword in node.keywords)


def test_nothing_unpickles_unpacks_or_runs_what_a_file_says():
  allowed = FORBIDDEN | {f'{call}()': files for call, files in FORBIDDEN_CALLS.items()}
  found = []
  for path in sorted(PACKAGE.rglob('*.py')):
    name = path.relative_to(PACKAGE).as_posix()
    for line, word in _names(ast.parse(path.read_text())):
      if word in allowed and name not in allowed[word]:
        found.append(f'{name}:{line} {word}')
  assert found == []


class _Trap:
  """Unpickling it would make a file."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return open, (str(self.path), 'w')


@pytest.mark.parametrize('kind', ['zip', 'old', 'npz', 'npy'])
def test_a_trap_in_a_file_of_weights_or_arrays_is_not_sprung(tmp_path, kind):
  sprung = tmp_path / 'sprung'
  pickled = pickle.dumps({'a': _Trap(sprung)}, 2)
  path = tmp_path / {'zip': 'w.pth', 'old': 'w.pt', 'npz': 'w.npz', 'npy': 'label.npy'}[kind]
  if kind == 'zip':
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr('x/data.pkl', pickled)
  elif kind == 'old':
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickled)
  elif kind == 'npz':
    np.savez(path, a=np.array([_Trap(sprung)], dtype=object))
  else:
    np.save(path, np.array([_Trap(sprung)], dtype=object))
    with pytest.raises(ValueError, match=r'[Pp]ython object|pickle'):
      memmap_arrays.read_arrays(tmp_path)
    assert not sprung.exists()
    return
  with pytest.raises(UserError, match=path.name):
    read_arrays(path)
  assert not sprung.exists()


def test_a_file_of_weights_that_would_fill_the_memory_is_refused(tmp_path):
  path = tmp_path / 'bomb.pth'
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as archive:
    archive.writestr('x/data.pkl', pickle.dumps({}, 2))
    archive.writestr('x/data/0', bytes(10**8))
  assert path.stat().st_size < 10**6
  with pytest.raises(UserError, match=r'bomb\.pth .*is compressed, which torch\.save never does'):
    read_arrays(path)


NAME = '<script>alert(1)</script>|x'


def test_the_html_of_a_page_escapes_every_name(finished, tmp_path):
  copied = shutil.copytree(finished, tmp_path / 'run')
  # The verdict of this run names a class.
  verdict = copied / 'verdict' / run_folder.VERDICT
  assert 'nucleus' in verdict.read_text()
  verdict.write_text(verdict.read_text().replace('nucleus', NAME))
  html = report_page.write(copied).read_text()
  assert '<script>alert' not in html
  assert '&lt;script&gt;alert(1)' in html


def test_every_template_is_escaped():
  for template in html_pages.TEMPLATES.glob('*.html'):
    text = template.read_text()
    # `safe` switches escaping off: for styles of ours, and charts, whose texts matplotlib escapes.
    marked = [line.strip() for line in text.splitlines() if '| safe' in line or '|safe' in line]
    assert all('style' in line or 'chart' in line for line in marked), marked


def test_an_inspected_file_with_a_name_of_html_stays_text(tmp_path):
  odd = '<img src=x onerror=alert(1)>'
  for kind, colors in (('images', 250), ('masks', 2)):
    (tmp_path / 'd' / kind).mkdir(parents=True)
    for name in ('a', 'b', odd):
      pixels = np.random.default_rng(len(name)).integers(0, colors, (16, 16)).astype(np.uint8)
      Image.fromarray(pixels).save(tmp_path / 'd' / kind / f'{name}.png')
  inspect.main([f'--labeled={tmp_path / "d"}', f'--out={tmp_path / "out"}'])
  texts = [path.read_text() for path in (tmp_path / 'out').rglob('*.html')]
  assert any('&lt;img src=x' in text for text in texts)
  assert not any('<img src=x' in text for text in texts)


def test_a_pipe_in_a_name_does_not_end_a_cell():
  assert markdown_tables.row(['a|b', 'c\nd', 3]) == r'| a\|b | c d | 3 |'
  cases = [{'dsc/a|b': 90.0, 'nsd/a|b': 80.0, 'dsc': 90.0, 'nsd': 80.0}]
  costs = dict.fromkeys(organs.COSTS, 1.0)
  text = organs.organ_table([case | costs for case in cases], ['background', 'a|b'])
  (line,) = [line for line in text.splitlines() if line.startswith(r'| a\|')]
  assert line.startswith(r'| a\|b |')
  assert line.replace(r'\|', '').count('|') == 5
