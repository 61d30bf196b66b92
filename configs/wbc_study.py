"""Does unlabeled data help? Five systems on Zheng 1 and LISC at all and at 15 labels, on two cores.

Luu et al.'s systems with their views and losses, and a recipe of our own with a supervised control
of its own, under the honest protocol: five paired seeds, equal updates, the last checkpoint, test
images that choose nothing. The recipe was found on other labeled images, never on the test. From
random weights; a U-Net of 1.0 million parameters, 96 pixels. Two hours on two cores.
Run:  python main.py --config=configs/wbc_study.py [--only='zheng1-*']
      python -m ssl_jax.table runs/wbc_study
"""

from configs import _wbc_cells, _wbc_small, fixmatch_zheng1

ROWS = {
  'without-teacher': ('SupOnly', ''),
  'with-teacher': ('FixMatch', 'without-teacher'),
  'without-st': ('ST', 'without-teacher'),
  'without-stpp': ('ST++', 'without-teacher'),
  'control': ('Our recipe, supervised', 'without-teacher'),
  'ours': ('Our recipe', 'control'),
}


def get_config():
  """The page of Zheng 1 with a small network, a list of stages and the cells of a table."""
  config = fixmatch_zheng1.get_config().unlock()
  config.replicas = 5
  _wbc_small.small_network(config)
  stages, cells = [], []
  for which in ('zheng1', 'lisc'):
    for labels in (None, 15):
      data = {'data.set': which, 'data.labeled': labels}
      prefix, column = f'{which}-{labels or "all"}-', f'{which}, {labels or "all"} labels'
      paper = [
        *_wbc_cells.stages(f'{prefix}without', which, data, fixmatch=False, honest=True),
        _wbc_cells.stages(f'{prefix}with', which, data, fixmatch=True, honest=True)[0],
      ]
      stages += map(_wbc_small.smaller, paper)
      sides = dict(of=f'{prefix}with-teacher', against=f'{prefix}without-teacher')
      stages.append(dict(name=f'{prefix}with-verdict', run='compare', **sides, **data))
      stages += _wbc_small.recipe(prefix, data)
      for name, (row, control) in ROWS.items():
        cell = dict(stage=prefix + name, control=control and prefix + control, only=f'{prefix}*')
        cells.append(dict(table='White blood cells', row=row, column=column, **cell))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
