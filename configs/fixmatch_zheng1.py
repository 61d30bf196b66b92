"""FixMatch with DeepLabV3+ R50 on Zheng 1, against its supervised control (Luu et al., system 1).

Data: 60 labeled, 177 unlabeled, 60 test crops of white blood cells; else as fixmatch_lisc.py.
Scores of shortened runs: README.
Run:  python main.py --config=configs/fixmatch_zheng1.py [--config.data.root=FOLDER]
"""

from configs import fixmatch_lisc


def get_config():
  """The page of LISC with the paper's settings for Zheng 1."""
  config = fixmatch_lisc.get_config()
  config.data.set = 'zheng1'
  config.update(steps=1100, eval_every=275)
  config.batch.unlabeled = 16
  config.methods.fixmatch.threshold = 0.90
  config.views.strong.jitter.update(p=0.8, contrast=(0.5, 1.5))
  return config
