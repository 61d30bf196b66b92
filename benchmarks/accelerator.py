"""Speed, memory, compilation and correctness on a GPU, beside PyTorch where it is installed.

  python benchmarks/accelerator.py --minutes 4 [--parts a,c,e,f,d,r,b,x,t] [--rows 'unet31m*']
                                   [--cache DIR] [--out DIR] [--tiny]

docs/accelerators.md says what the parts are. They run in the order of --parts, one program at a
time, until the minutes end: what cannot be compiled in the time that is left is skipped. Each row
is printed at once and appended to accelerator.jsonl; accelerator.json and the tables at the end
have all rows. --tiny is for a CPU and says nothing about speed.
"""

import argparse
import json
import os
import platform
import sys
import threading
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
# Before JAX is imported: the rest of the memory is for PyTorch.
os.environ.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', '.45')

from accelerator_report import Clock, Report  # noqa: E402

ORDER = 'a,c,e,f,d,r,b,x,t'


def parse() -> argparse.Namespace:
  """The command line."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('--minutes', type=float, default=4, help='when to stop, wherever it is')
  parser.add_argument('--parts', default=ORDER, help='letters of parts in their order')
  parser.add_argument('--rows', default='*', help='patterns of the rows of parts b, c and t')
  parser.add_argument('--cache', default='', help="folder of JAX's compiled programs; none without")
  parser.add_argument('--out', type=Path, default=Path(os.environ.get('OUT', '.')))
  parser.add_argument('--tiny', action='store_true', help='tiny networks, for a test on a CPU')
  parser.add_argument('--first-step', default='', help=argparse.SUPPRESS)
  options = parser.parse_args()
  options.parts = options.parts.split(',')
  unknown = set(options.parts) - set(ORDER.split(','))
  if unknown:
    parser.error(f'--parts has {", ".join(sorted(unknown))}; there are {ORDER}')
  return options


def use_cache(folder: str) -> None:
  """Keeps compiled programs in a folder, with XLA's choices beside them; nowhere if it is empty."""
  import jax

  jax.config.update('jax_enable_compilation_cache', bool(folder))
  if folder:
    jax.config.update('jax_compilation_cache_dir', str(Path(folder).resolve()))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def main() -> None:
  """Prints rows, then tables."""
  options = parse()
  clock = Clock(options.minutes)
  use_cache(options.cache)
  import accelerator_parts as parts
  import jax
  from accelerator_bench import Bench
  from accelerator_torch import Rival

  if options.first_step:
    print(json.dumps(parts.first_step(options.first_step, options.tiny)))
    return
  device = jax.devices()[0]
  about = {
    'device': device.device_kind,
    'platform': device.platform,
    'jax': jax.__version__,
    'python': platform.python_version(),
    'tiny': options.tiny,
    'cache': bool(options.cache),
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
  }
  report = Report(options.out, about)
  print('  '.join(f'{key}={value}' for key, value in about.items()), flush=True)
  rival = Rival()

  def stop() -> None:
    report.add('end', 'minutes', note=f'they ended during {report.doing}')
    report.print_tables()
    rival.stop()
    # A compilation cannot be interrupted otherwise.
    os._exit(0)

  timer = threading.Timer(clock.left(), stop)
  timer.daemon = True
  timer.start()
  bench = Bench(report, clock, rival, options.tiny, options.rows)
  for letter in parts.run(bench, options.parts):
    report.doing = f'what follows part {letter}'
  timer.cancel()
  rival.stop()
  report.print_tables()


if __name__ == '__main__':
  main()
