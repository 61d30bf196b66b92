"""The notebooks run from top to bottom on a CPU, and what they call does what they promise."""

import asyncio
import json
import re
import sys
import threading
import time

import pytest
from conftest import ROOT
from tiny_pages import DATA

from ssl_jax import notebook_setup
from ssl_jax.io import run_log

nbformat = pytest.importorskip('nbformat')
nbclient = pytest.importorskip('nbclient')

NOTEBOOKS = sorted((ROOT / 'notebooks').glob('*.ipynb'))
NAMES = [path.stem for path in NOTEBOOKS]

# Put before a page by the same path, so that a notebook is executed as it is committed.
SMALL_PAGE = """
import runpy
def get_config():
  config = runpy.run_path({page!r})['get_config']()
  config.unlock()
  config.model = dict(name='unet', widths=(4, 8))
  config.update(num_seeds=1, steps={steps}, eval_every={steps}, checkpoint_every={steps})
  config.log_every = 1
  config.crop_size = (32, 32)
  for name in config.batch or ('labeled', 'unlabeled'):
    config.batch[name] = 2
  config.update_from_flattened_dict({fields!r})
  {more}
  return config
"""

# Stages of the table page set their own steps.
SELF_TRAINING = """
  from configs.lib import white_blood_cells
  prefix = 'lisc-deeplabv3plus_resnet50-without'
  student = white_blood_cells.student('lisc', labeled=2, pseudo=2)
  stages = white_blood_cells.self_training(prefix, {}, student, {}, scales=(1.0,))
  config.stages = tuple(stages)
  names = [stage['name'] for stage in stages]
  config.table = tuple(cell for cell in config.table if cell['stage'] in names)
"""

PAGES = {
  'quickstart': {'quickstart': ('synthetic', '')},
  'your_images': {'your_images': (None, 'config.batch = dict(labeled=2, unlabeled=2)')},
  'wbc_tpu': {'fixmatch_lisc': ('wbc', ''), 'wbc_table1': ('wbc', SELF_TRAINING.strip())},
}
"""The pages that a notebook runs, with their data and what else makes them small."""


@pytest.fixture
def folder(tmp_path):
  """A folder that a notebook takes for a clone."""
  (tmp_path / 'configs').mkdir()
  (tmp_path / 'ssl_jax').symlink_to(ROOT / 'ssl_jax')
  return tmp_path


def _write_page(folder, name, data=None, more='', steps=2):
  fields = DATA[data](folder / 'data') if data else {}
  page = str(ROOT / 'configs' / f'{name}.py')
  text = SMALL_PAGE.format(page=page, steps=steps, fields=fields, more=more)
  (folder / 'configs' / f'{name}.py').write_text(text)


def _client(folder, cells):
  """What executes cells in a kernel of this Python, in a folder."""
  cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
  return nbclient.NotebookClient(
    nbformat.v4.new_notebook(cells=cells),
    timeout=900,
    kernel_name='python3',
    resources={'metadata': {'path': str(folder)}},
  )


def _printed(cell):
  return ''.join(output.get('text', '') for output in cell.outputs)


def _cells(path):
  return nbformat.read(path, as_version=4).cells


def _code(path):
  return [cell.source for cell in _cells(path) if cell.cell_type == 'code']


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_committed_without_outputs_and_links_to_itself(path):
  cells = _cells(path)
  nbformat.validate(nbformat.read(path, as_version=4))
  for cell in cells:
    if cell.cell_type == 'code':
      assert cell.outputs == []
      assert cell.execution_count is None
      assert len(cell.source.splitlines()) <= 15
  assert cells[0].source.startswith('[![Open in Colab]')
  badge = re.search(
    r'colab.research.google.com/github/(\S+?/\S+?)/blob/main/(\S+)\)', cells[0].source
  )
  assert badge.group(2) == f'notebooks/{path.name}'
  # The badge and the cell that clones name one repository.
  assert f"REPOSITORY = 'https://github.com/{badge.group(1)}'" in '\n'.join(c.source for c in cells)
  for cell in cells:
    for link in re.findall(r'\]\((?!http)([^)#]+)', cell.source):
      assert (path.parent / link).exists(), link


def test_notebooks_set_up_in_the_same_way():
  starts = [_code(path)[:2] for path in NOTEBOOKS]
  assert all(start == starts[0] for start in starts)


@pytest.mark.parametrize(
  'name',
  # Ten stages, of which five train.
  [pytest.param(name, marks=pytest.mark.slow if name == 'wbc_tpu' else ()) for name in NAMES],
)
def test_a_notebook_runs(name, folder):
  for page, (data, more) in PAGES[name].items():
    _write_page(folder, page, data, more)
  cells = _code(ROOT / 'notebooks' / f'{name}.ipynb')
  # ImageNet's weights are for the networks of the pages, and need a network.
  cells = [cell.replace("  '--config.model.pretrained=imagenet',\n", '') for cell in cells]
  executed = _client(folder, cells).execute()
  shown = [output for cell in executed.cells for output in cell.outputs if 'data' in output]
  html = ''.join(output['data'].get('text/html', '') for output in shown)
  assert 'Loss on the labeled images' in html
  assert '<div><iframe srcdoc="&lt;!' in html
  assert 'Verdict' in ''.join(map(_printed, executed.cells))
  if name == 'your_images':
    assert len(list((folder / 'predictions' / 'masks').iterdir())) == 40
    assert (folder / 'predictions.zip').exists()
    assert 'looks further' in ''.join(map(_printed, executed.cells))
  if name == 'wbc_tpu':
    assert '| ' in _printed(executed.cells[-1])


def test_an_interrupted_cell_saves_and_goes_on(folder):
  """Kernel > Interrupt is SIGINT; the cell's exception stops `Run all` without a traceback."""
  _write_page(folder, 'quickstart', 'synthetic', steps=400)
  train = "notebook.train('runs/a', '--config=configs/quickstart.py', '--only=control')"
  path = [f'import sys; sys.path.insert(0, {str(ROOT)!r})']
  client = _client(folder, [*path, 'from ssl_jax import notebook', train, train])
  record = folder / 'runs' / 'a' / 'control' / run_log.METRICS

  def interrupt():
    # Within the training: metrics are written after the first steps.
    while not record.exists() or not record.stat().st_size:
      time.sleep(0.05)
    asyncio.run(client.km.interrupt_kernel())

  with client.setup_kernel():
    for index in (0, 1):
      client.execute_cell(client.nb.cells[index], index)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(nbclient.exceptions.CellExecutionError):
      client.execute_cell(client.nb.cells[2], 2)
    saved = {path.name for path in (record.parent / run_log.CHECKPOINTS).iterdir()}
    client.execute_cell(client.nb.cells[3], 3)
  (error,) = (output for output in client.nb.cells[2].outputs if output.output_type == 'error')
  (line,) = error.traceback
  assert line.startswith('This cell has stopped; the reason stands above.')
  # Until the end no checkpoint is due: that of the interruption is where it went on.
  stop = int(
    re.search(r'stopped and saved at step (\d+) of', _printed(client.nb.cells[2])).group(1)
  )
  assert 0 < stop < 400
  assert saved == {str(stop)}
  steps = [line['step'] for line in run_log.read_log(record.parent) if 'loss' in line]
  assert steps == [*range(1, 401)]
  assert (record.parent / run_log.DONE).exists()


def test_a_mistake_is_a_sentence(folder):
  cells = [
    f'import sys; sys.path.insert(0, {str(ROOT)!r})',
    "from ssl_jax import notebook\nnotebook.train('runs/a', '--config=quickstrat')",
  ]
  client = _client(folder, cells)
  with pytest.raises(nbclient.exceptions.CellExecutionError):
    client.execute()
  assert 'did you mean quickstart' in _printed(client.nb.cells[1])
  assert 'Traceback' not in json.dumps(client.nb.cells[1].outputs)


# ---- Setting up


def test_a_machine_gets_the_jax_that_it_needs():
  assert notebook_setup.requirements('cpu')[0].startswith('jax>=')
  assert notebook_setup.requirements('tpu')[0].startswith('jax[tpu]>=')
  assert re.match(r'jax\[cuda1[23]\]>=', notebook_setup.requirements('gpu')[0])
  assert any(line.startswith('flax>=') for line in notebook_setup.requirements('gpu'))


@pytest.mark.parametrize(('device', 'kind'), [('0x0063', 'tpu'), ('0x0042', 'cpu')])
def test_a_tpu_is_found_and_a_network_card_of_google_is_none(tmp_path, monkeypatch, device, kind):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  monkeypatch.setenv('PATH', str(tmp_path))  # without nvidia-smi
  (tmp_path / '0000:00:04.0').mkdir()
  (tmp_path / '0000:00:04.0' / 'vendor').write_text('0x1ae0\n')
  (tmp_path / '0000:00:04.0' / 'device').write_text(f'{device}\n')
  assert notebook_setup.find_accelerator(tmp_path) == kind


@pytest.mark.skipif(sys.platform == 'win32', reason='the program is a shell script')
@pytest.mark.parametrize(('says', 'kind'), [('echo "GPU 0: Tesla T4"', 'gpu'), ('exit 9', 'cpu')])
def test_a_gpu_is_found_if_its_driver_answers(tmp_path, monkeypatch, says, kind):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  program = tmp_path / 'nvidia-smi'
  program.write_text(f'#!/bin/sh\n{says}\n')
  program.chmod(0o755)
  monkeypatch.setenv('PATH', str(tmp_path))
  assert notebook_setup.find_accelerator(tmp_path / 'none') == kind
