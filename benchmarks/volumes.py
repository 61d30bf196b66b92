"""Peak memory and time of finding organs in whole volumes, by size of the volume.

  python benchmarks/volumes.py [--sides 96 160 256] [--window 64] [--batch 1] [--widths 8 16 32]

Every row is a process of its own: a volume of so many voxels along each side goes through the U-Net
of `models/nnunet.py` with 14 classes. `more` is what the peak of the process is above what it held
when its volume was there and the network had answered one window. Beside it stand what the answer
itself takes (a byte a voxel), the slab of probabilities that the host keeps (window x side x side x
14 float32), and what the probabilities of the whole volume would take.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from ssl_jax.evaluation import resource_meter

sys.path.insert(0, str(Path(__file__).parent.parent))
CLASSES, MIB = 14, 2**20
HEADER = '{:>6} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}'
ROW = '{side:6} {seconds:9.1f} {peak:9.0f} {more:9.0f} {answer:9.0f} {slab:9.0f} {whole:9.0f}'


def measure(side: int, window: int, batch: int, widths: list[int]) -> dict[str, float]:
  """The row of one volume, in MiB and seconds."""
  import jax
  import jax.numpy as jnp

  from ssl_jax.inference import sliding_window
  from ssl_jax.models import nnunet

  model = nnunet.Model(CLASSES, widths=widths)
  params = model.init(jax.random.key(0), jnp.zeros((1, *(16,) * 3, 1)))
  answer = jax.jit(lambda shown: jax.nn.softmax(model.apply(params, shown)))
  shape = (side,) * 3
  volume = np.random.default_rng(0).random((*shape, 1), np.float32)
  answer(jnp.zeros((batch, *(window,) * 3, 1))).block_until_ready()
  with resource_meter.ResourceMeter() as meter:
    pass
  before, start = meter.cost['peak_mib'], time.perf_counter()
  found = sliding_window.predict_volume(
    lambda shown: np.asarray(answer(shown)), volume, (window,) * 3, batch=batch
  )
  assert found.shape == shape
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
  return {
    'side': side,
    'seconds': time.perf_counter() - start,
    'peak': peak,
    'more': max(peak - before, 0),
    'answer': side**3 / MIB,
    'slab': 4 * CLASSES * window * side**2 / MIB,
    'whole': 4 * CLASSES * side**3 / MIB,
  }


def main() -> None:
  """Prints a row for each side."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--sides', type=int, nargs='+', default=[96, 160, 256])
  parser.add_argument('--window', type=int, default=64)
  parser.add_argument('--batch', type=int, default=1)
  parser.add_argument('--widths', type=int, nargs='+', default=[8, 16, 32])
  parser.add_argument('--row', type=int, help=argparse.SUPPRESS)
  asked = parser.parse_args()
  if asked.row:
    print(json.dumps(measure(asked.row, asked.window, asked.batch, asked.widths)))
    return
  print(HEADER.format('side', 'seconds', 'peak MiB', 'more', 'answer', 'slab', 'whole'))
  for side in asked.sides:
    command = [sys.executable, *sys.argv, f'--row={side}']
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(ROW.format(**json.loads(said)), flush=True)


if __name__ == '__main__':
  main()
