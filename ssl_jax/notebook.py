"""What the notebooks call: commands that run in the kernel, with curves, reports and downloads.

In the kernel, because a command after `!` is killed by Kernel > Interrupt before it has saved.
"""

import contextlib
import html
import importlib
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from IPython.display import HTML, FileLink, display

from ssl_jax import cli, inspect, predict, run_folder
from ssl_jax.datasets import synthetic
from ssl_jax.evaluation import report_figures
from ssl_jax.evaluation.report_figures import Curve
from ssl_jax.io import run_log
from ssl_jax.io.images import write_image
from ssl_jax.reports.inspection import inspection_page

SECONDS = 10.0
"""Between two drawings of the curves."""

CHARTS = {
  'loss/supervised/labeled': 'Loss on the labeled images',
  'fixmatch/mask_rate': 'Fraction of unlabeled pixels learned from',
  'val/miou': 'mIoU of the validation images during training, %',
}


class CellStopped(Exception):
  """Keeps `Run all` from going on after a command that has not ended well and has said why."""

  def _render_traceback_(self) -> list[str]:
    """What IPython shows in place of a traceback."""
    return [str(self)]


def train(workdir: str, *words: str) -> None:
  """Runs a page, as `python main.py --workdir=WORKDIR WORDS` does, and draws curves meanwhile.

  Kernel > Interrupt saves; the same call goes on.

  Raises:
    CellStopped: if it was interrupted, or something is wrong.
  """
  # While the command line imports it, an interrupt would end the kernel.
  importlib.import_module('ssl_jax.run')
  with _live_curves(Path(workdir)):
    _call(lambda: cli.train([f'--workdir={workdir}', *words]), 'Run it again to go on.')


def look(labeled: str, unlabeled: str, out: str = 'inspection') -> None:
  """Inspects folders (`python -m ssl_jax.inspect`), and shows what was found with pictures."""
  inspect.main([f'--labeled={labeled}', f'--unlabeled={unlabeled}', f'--out={out}'])
  show(Path(out) / inspection_page.FILES[1])


def segment(run: str, images: str, out: str) -> None:
  """Writes the masks of a folder of images (`python -m ssl_jax.predict`); done ones are kept.

  Raises:
    CellStopped: if it was interrupted, or an image could not be predicted.
  """
  words = [f'--run={run}', f'--images={images}', f'--out={out}', '--resume']
  _call(lambda: predict.main(words), 'Run it again to do the rest.')


def write_demo(folder: str) -> str:
  """Writes labeled/ and unlabeled/ with synthetic images; returns the folder."""
  cells = synthetic.load(labeled=12, unlabeled=40, test=0, size=96)
  files = {}
  for i in range(12):
    files[f'labeled/images/cell{i:02d}.png'] = cells.labeled[i]['image']
    files[f'labeled/masks/cell{i:02d}.png'] = cells.labeled[i]['label'][..., None]
  for i in range(40):
    files[f'unlabeled/more{i:02d}.png'] = cells.unlabeled[i]['image']
  for name, pixels in files.items():
    path = Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, pixels)
  return folder


def show(page: str | Path, height: int = 600) -> None:
  """Shows an HTML file, such as the report of a run, in the notebook."""
  text = html.escape(Path(page).read_text(encoding='utf-8'), quote=True)
  # A frame keeps its styles apart from the notebook's, and srcdoc needs no server.
  # White, because a report is not made for the dark themes of notebooks.
  style = 'border:0;background:white'
  frame = f'<iframe srcdoc="{text}" width="100%" height="{height}" style="{style}"></iframe>'
  # IPython warns of HTML that begins with a frame.
  display(HTML(f'<div>{frame}</div>'))


def download(folder: str) -> None:
  """Packs a folder as a ZIP file; Colab downloads it, other notebooks show a link."""
  path = shutil.make_archive(folder, 'zip', folder)
  if 'google.colab' in sys.modules:
    importlib.import_module('google.colab.files').download(path)
  else:
    display(FileLink(f'{folder}.zip'))


def curves(run: Path) -> str:
  """Returns HTML with a chart of each kind of curve of a run so far; '' before there are any."""
  page = run_folder.read_page(run) or {}
  charts = []
  for figure, title in CHARTS.items():
    lines: list[Curve] = []
    for place, stage in enumerate(page.get('stages') or ({'name': ''},)):
      lines += _lines(run / stage['name'], stage['name'] or 'network', place, figure)
    if lines:
      chart = report_figures.curves(lines)
      charts.append(f'<div style="width:420px"><b>{title}</b>{chart}</div>')
  return f'<div style="display:flex;flex-wrap:wrap;background:white">{"".join(charts)}</div>'


def _lines(stage: Path, name: str, place: int, figure: str) -> list[Curve]:
  """The curves of a stage: of the seeds that have got as far as the first, and of the next one."""
  seeds: list[dict[int, float]] = []
  for folder in run_folder.seed_folders(stage):
    log = run_log.read_log(folder)
    values = {line['step']: line[figure] for line in log if figure in line}
    # A single point is no line.
    if len(values) > 1:
      seeds.append(values)
  whole = [seed for seed in seeds if max(seed) == max(seeds[0])]
  running = [seed for seed in seeds if max(seed) < max(seeds[0])]
  lines = [Curve(name, whole, place)] if whole else []
  if running:
    # A color of its own; so far the later stages have not begun.
    lines.append(Curve(f'{name}, seed that is running', running[-1:], place + 1))
  return lines


def _call(command: Callable[[], int], advice: str) -> None:
  """Runs a command, which prints its mistakes itself."""
  # The command line takes SIGTERM over for good; a kernel needs its own to be shut down.
  before = signal.getsignal(signal.SIGTERM)
  try:
    code = command()
  except SystemExit as end:
    code = end.code
  finally:
    # None: a library has set it without Python.
    if before is not None:
      signal.signal(signal.SIGTERM, before)
  if code:
    raise CellStopped(f'This cell has stopped; the reason stands above. {advice}')


@contextlib.contextmanager
def _live_curves(run: Path) -> Iterator[None]:
  """Draws the curves of a run again every few seconds, and once more at the end."""
  shown: Any = display(HTML(''), display_id=True)
  ended = threading.Event()

  def draw() -> None:
    # A line of a log that is just being written is whole the next time.
    with contextlib.suppress(ValueError, OSError):
      shown.update(HTML(curves(run)))

  def follow() -> None:
    while not ended.wait(SECONDS):
      draw()

  # The main thread trains.
  thread = threading.Thread(target=follow, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    draw()
