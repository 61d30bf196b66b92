"""Does unlabeled data help? Five systems on Zheng 1 and LISC at all and at 15 labels, on two cores.

Luu et al.'s systems with their views and losses, and a recipe of our own with a supervised control
of its own, under the honest protocol: five paired seeds, equal updates, the last checkpoint, test
images that choose nothing. The recipe was found on other labeled images, never on the test. From
random weights; a U-Net of 1.0 million parameters, 96 pixels. About an hour and a half on two cores.
Run:  python main.py --config=configs/wbc_study.py [--only='zheng1-*']
      python -m ssl_jax.table runs/wbc_study
"""

from configs import _wbc_cells, fixmatch_zheng1

STEPS, SCALES = 600, (0.5, 0.75, 1.0, 1.25)
ALL = dict(size=96, steps=STEPS, eval_every=STEPS, checkpoint_every=STEPS // 4)
ROWS = {
  'without-teacher': ('SupOnly', ''),
  'with-teacher': ('FixMatch', 'without-teacher'),
  'without-st': ('ST', 'without-teacher'),
  'without-stpp': ('ST++', 'without-teacher'),
  'control': ('Our recipe, supervised', 'without-teacher'),
  'ours': ('Our recipe', 'control'),
}
FREE = dict(base=128, scale=(0.7, 1.5), flip=0.5, flip_vertical=0.5, rotate=180.0)  # no up in cells


def smaller(stage):
  """A stage of the paper's tables in the size of this study."""
  batch = {stream: size // 4 for stream, size in stage.get('batch', {}).items()}
  stage = {**stage, **ALL, **(dict(batch=batch) if batch else {})}
  return {**stage, 'scales': SCALES} if stage.get('run') == 'pseudo_label' else stage


def get_config():
  """The page of Zheng 1 with a small network, a list of stages and the cells of a table."""
  config = fixmatch_zheng1.get_config().unlock()
  config.update(replicas=5, normalize='data')
  config.model = dict(name='unet', widths=(8, 16, 32, 64, 256), norm='group')
  config.optimizer = dict(name='adam', lr=0.01, weight_decay=1e-4, clip=1.0)
  config.schedule = dict(name='cosine', warmup=40)
  stages, cells = [], []
  for which in ('zheng1', 'lisc'):
    for labels in (None, 15):
      prefix = f'{which}-{labels or "all"}-'
      here = {'data.set': which, 'data.labeled': labels}
      paper = [
        *_wbc_cells.stages(f'{prefix}without', which, here, fixmatch=False, honest=True),
        _wbc_cells.stages(f'{prefix}with', which, here, fixmatch=True, honest=True)[0],
      ]
      stages += [smaller(stage) for stage in paper]
      stages += ours(prefix, here)
      for name, (row, control) in ROWS.items():
        column = f'{which}, {labels or "all"} labels'
        cell = dict(table='White blood cells', row=row, column=column, stage=prefix + name)
        cells.append(dict(control=control and prefix + control, only=f'{prefix}*', **cell))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
