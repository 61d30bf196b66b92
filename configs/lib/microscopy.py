"""What the pages of microscopy share: data sets, and the U-Net as first published."""

from ssl_jax import settings

SETS = {  # the fields of a stage that put a data set into the page
  'bbbc039': {'data.name': 'bbbc039'},
  'u373': {'data.name': 'ctc', 'data.set': 'ctc_phc_u373'},
  'gfp': {'data.name': 'ctc', 'data.set': 'ctc_fluo_gfp'},
}


def page():
  """A page of BBBC039 with a tenth of the labels, without views, methods, network and stages."""
  config = settings.defaults()
  # No stretching by percentiles: 0 and 100 are the smallest and the largest value.
  config.data = dict(name='bbbc039', labeled=0.1, val=0.0, percentiles=(0, 100))
  return config


def use_published_unet(config):
  """Puts the U-Net as first published (31 million parameters) into a page."""
  # It has no normalization layers.
  config.model = dict(name='unet', widths=(64, 128, 256, 512, 1024), norm='none')
  config.optimizer.weight_decay = 0.0
