"""Your own volumes (CT, MRI, ...): two folders of NIfTI files in, masks, a table and a verdict out.

Data: a folder with images/ and masks/ (.nii.gz, class ids) and one with images alone. A volume is
resampled to `data.spacing` (mm along x, y, z) and scaled by `data.window` (raw values that become 0
and 1; of CT: --config.data.window='(-300,300)'), or without it by its own percentiles; `data.above`
crops to what is brighter. `size` is the window in voxels (z, y, x).
Run:  python main.py --config=configs/your_volumes.py \\
        --config.data.labeled=DIR --config.data.unlabeled=DIR
"""

from ml_collections.config_dict import placeholder

from configs import _volumes

WEAK = dict(_volumes.TURN, rotate=15.0, scale=(0.85, 1.2))


def get_config():
  """One page; every field can be set from the shell, as in --config.steps=100."""
  config = _volumes.page()
  config.data = dict(name='nifti', labeled=placeholder(str), unlabeled=placeholder(str))
  config.data.update(val=placeholder(str), test=placeholder(str), classes=placeholder(int))
  config.data.update(labels=placeholder(int), holdout=0.25, seed=0, cache=placeholder(str))
  config.data.update(spacing=(1.0, 1.0, 1.0), window=placeholder(tuple), clip=True)
  config.data.update(above=placeholder(float), percentiles=(0.5, 99.5))
  config.update(steps=4000, eval_every=2000, checkpoint_every=100, log_every=20)
  config.update(batch=dict(labeled=2, unlabeled=2), size=(64, 64, 64))
  config.update(teacher='average', average=0.99)
  config.model = dict(name='nnunet', widths=(16, 32, 64, 128), residual=True, dropout=0.0)
  config.optimizer.update(lr=3e-3, clip=1.0)
  labeled = dict(of='labeled', **WEAK, **_volumes.PAINT)
  weak, strong = dict(of='unlabeled', **WEAK), dict(of='weak', **_volumes.PAINT)
  config.views = dict(labeled=labeled, weak=weak, strong=strong)
  config.methods.mean_teacher = dict(weight=10.0, ramp=2000)
  control = dict(batch=dict(labeled=2), views=dict(labeled=labeled))
  control |= dict(methods=dict(supervised=_volumes.SUPERVISED))
  verdict = dict(name='verdict', run='compare', of='mean-teacher', against='control')
  networks = dict(name='control', **control), dict(name='mean-teacher')
  organs = _volumes.organs(['control', 'mean-teacher'], overlap=0.5, blend='gaussian')
  config.stages = (*networks, verdict, *organs)
  return config.lock()
