"""HydraMix-Net on your own cells: images with marked cells in, a network that finds them out.

Data: a folder with images/ and points/ (NAME.csv for NAME.png: x from the left, y from the top, in
pixels, and class), and one with images alone. Without --config.data.test=DIR (like labeled) a
quarter of the labeled images is kept for the test. README tells the rest.
Run:  python main.py --config=configs/your_cells.py \\
        --config.data.labeled=DIR --config.data.unlabeled=DIR
"""

from ml_collections.config_dict import placeholder

from configs._cells import CONTROL, HYDRAMIX, page


def get_config():
  """One page; any field can be set from the shell: --config.data.size=31 --config.size=31."""
  config = page()
  config.update(steps=2000, eval_every=500, checkpoint_every=100)
  config.data = dict(name='points', labeled=placeholder(str), unlabeled=placeholder(str))
  config.data.update(val=placeholder(str), test=placeholder(str), classes=placeholder(tuple))
  config.data.update(labels=placeholder(int), holdout=0.25, seed=0)
  config.data.update(size=41, jitter=6, background=1.0, clear=10.0, balance='labeled')
  config.update(teacher='average', average=0.99)
  config.model.update(depth=10, width=2)
  config.methods = dict(hydramix=HYDRAMIX | dict(ramp=500))
  config.stages = (
    dict(name='control', **CONTROL),
    dict(name='hydramix'),
    dict(name='verdict', run='compare', of='hydramix', against='control'),
    dict(name='cells', run='detect', of='hydramix', stride=8),
  )
  return config.lock()
