r"""HydraMix-Net on your own cells: images with marked cells in, detected and classified cells out.

Data: a folder with images/ and points/ (NAME.csv for NAME.png: x from the left, y from the top, in
pixels, and class), and a folder with images alone. A quarter of the labeled images is kept for the
test, unless --config.data.test=DIR (laid out like `labeled`) gives others. README says more.
What the page leaves open is chosen for your patches; configuration.md in the run folder says why.
Run:  python main.py --config=configs/your_cells.py \
        --config.data.labeled=DIR --config.data.unlabeled=DIR
"""

from configs.lib import cells
from ssl_jax import open_fields, settings


def get_config():
  """The page; for patches of 31 pixels: --config.data.size=31 --config.crop_size='(31,31)'."""
  config = cells.page()

  # Data: --config.data.labeled and .unlabeled name your folders; .val, .test and .classes may.
  # If several images are of one patient: --config.data.group='^(p[0-9]+)_' or FILE.csv.
  # Patches are `size` pixels a side, their cell up to `jitter` pixels off the middle. As many
  # patches (times `background`) show no cell within `min_distance` pixels.
  config.data = dict(
    name='points', size=41, jitter=6, background=1.0, min_distance=10.0, test_fraction=0.25
  )

  # Methods: as on configs/lib/cells.py. The moving average of the student teaches and predicts.
  config.teacher = 'ema'
  config.ema_decay = 0.99

  # Network and optimizer.
  config.model.depth = 10

  # Chosen for your patches, where you do not set them. One training takes about so many minutes.
  chosen = ('batch', 'steps', 'eval_every', 'checkpoint_every', 'methods.hydramix.ramp_up_steps')
  open_fields.leave_open(config, chosen, minutes=20)

  # In four repetitions each labeled image is tested once.
  config.num_seeds = 4
  # Stages: the same network on the labels alone, HydraMix-Net, their comparison, and the cells
  # that HydraMix-Net detects in the whole test images.
  config.stages = (
    dict(name='control', control_of='hydramix'),
    dict(name='hydramix'),
    dict(name='verdict', run='compare', of='hydramix', against='control'),
    dict(name='cells', run='detect', of='hydramix', stride=8),
    # The network that is kept, for `predict`: it learns from all labeled images.
    {'name': 'final', 'num_seeds': 1, 'data.test_fraction': 0.0},
  )
  return settings.complete(config)
