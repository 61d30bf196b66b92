"""What the white-blood-cell pages for two cores share: a small network, and a recipe of our own."""

STEPS, SCALES = 600, (0.5, 0.75, 1.0, 1.25)
SMALL = dict(size=96, steps=STEPS, eval_every=STEPS, checkpoint_every=STEPS // 4)
FREE = dict(base=128, scale=(0.7, 1.5), flip=0.5, flip_vertical=0.5, rotate=180.0)  # no up in cells
AVERAGE = dict(teacher='average', average=0.97)
CUTMIX = dict(p=0.5, area=(0.1, 0.4))


def small_network(config):
  """Puts a U-Net of 1.0 million parameters, and what trains it in few steps, into a page."""
  config.model = dict(name='unet', widths=(8, 16, 32, 64, 256), norm='group')
  config.optimizer = dict(name='adam', lr=0.01, momentum=0.9, weight_decay=1e-4, clip=1.0)
  config.schedule = dict(name='cosine', warmup=40)
  config.normalize = 'data'


def smaller(stage):
  """A stage of the paper's tables with a quarter of the images a step, and fewer steps."""
  stage = {**stage, **SMALL}
  if 'batch' in stage:
    stage['batch'] = {stream: size // 4 for stream, size in stage['batch'].items()}
  return {**stage, 'scales': SCALES} if stage.get('run') == 'pseudo_label' else stage


def recipe(prefix, data):
  """Self-training with Dice, rotations, an average and CutMix; its teacher is its control."""
  common = dict(**AVERAGE, **data, **SMALL)
  control, labels, ours = (prefix + name for name in ('control', 'labels', 'ours'))
  views = dict(labeled=dict(of='labeled', **FREE))
  both = views | dict(pseudo=dict(of='pseudo', cutmix=CUTMIX, **FREE))
  learn = dict(batch=dict(labeled=4), views=views, methods=dict(supervised=dict(dice=1.0)))
  again = dict(batch=dict(labeled=4, pseudo=4), views=both)
  again |= dict(methods=dict(supervised=dict(dice=1.0, shown=('labeled', 'pseudo'))))
  return (
    dict(name=control, **learn, **common),
    dict(name=labels, run='pseudo_label', of=control, scales=SCALES, **data),
    dict(name=ours, pseudo=labels, **again, **common),
    dict(name=f'{prefix}verdict', run='compare', of=ours, against=control, **data),
  )
