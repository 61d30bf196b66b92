"""A method against itself, with other weights and another order of the images: no verdict may come.

Data: synthetic, as of the quickstart.
Run:  python main.py --config=benchmarks/null_page.py
      python benchmarks/verdicts.py --real runs/null_page
Time: forty minutes on two cores that had other work as well.
"""

import runpy
from pathlib import Path

from ssl_jax import settings

QUICKSTART = Path(__file__).resolve().parent.parent / 'configs' / 'quickstart.py'


def get_config():
  """The quickstart's control twice, in twenty repetitions."""
  config = runpy.run_path(str(QUICKSTART))['get_config']()
  config.unlock()
  config.num_seeds = 20
  config.data.unlabeled = 0
  del config.views['weak'], config.views['strong'], config.batch['unlabeled']
  del config.methods['fixmatch']
  # Both see the same labels in a repetition; only what the seed decides differs.
  config.stages = (
    dict(name='one'),
    dict(name='other', member=1),
    dict(name='verdict', run='compare', of='other', against='one', differences=('member',)),
  )
  return settings.complete(config)
