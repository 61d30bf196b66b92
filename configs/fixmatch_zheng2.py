"""FixMatch with DeepLabV3+ R50 on Zheng 2, against its supervised control (Luu et al., system 1).

Data: 20 labeled, 60 unlabeled, 20 test images of white blood cells, 300 x 300 pixels; else as
fixmatch_lisc.py.
Run:  python main.py --config=configs/fixmatch_zheng2.py [--config.data.root=FOLDER]
"""

from configs import fixmatch_lisc


def get_config():
  """The page of LISC with the paper's settings for Zheng 2."""
  config = fixmatch_lisc.get_config()
  config.data.set = 'zheng2'
  config.update(steps=300, eval_every=100, size=320)
  config.views.labeled.base = config.views.weak.base = 320
  config.views.strong.jitter.update(p=0.8, contrast=(0.5, 1.5))
  return config
