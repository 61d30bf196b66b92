"""Do unlabeled images help? Five systems on Zheng 1 and LISC, with all labels and with 15.

Luu et al.'s systems (SupOnly, FixMatch, ST, ST++) with their views and losses, and a recipe of our
own with a supervised control of its own. Five paired seeds, equal updates, the last checkpoint,
test images that are never used for model selection. The recipe was found on other labeled images.
Data: white blood cells: 60 labeled, 177 unlabeled, 60 test crops of Zheng 1; 53, 162, 56 of LISC.
Run:  python main.py --config=configs/wbc_study.py [--only='zheng1-*']
      python -m ssl_jax.table runs/wbc_study
Time: two hours on two cores; a U-Net of 1.0 million parameters from random weights, 96 pixels.
Score: from random weights no system gained from the unlabeled images, and most lost; not run since
the interval covers labels too.
"""

from configs.lib import white_blood_cells
from ssl_jax import settings

# Pseudo-labels are averages over these factors; the paper has 1.5 and 2 in place of 1.25.
SCALES = (0.5, 0.75, 1.0, 1.25)
# Our recipe differs from SupOnly by more than unlabeled images, so it has its own control.
ROWS = {  # stage: its row in the table, and its control
  'without-teacher': ('SupOnly', ''),
  'with-teacher': ('FixMatch', 'without-teacher'),
  'without-st': ('ST', 'without-teacher'),
  'without-stpp': ('ST++', 'without-teacher'),
  'control': ('Our recipe, supervised', 'without-teacher'),
  'ours': ('Our recipe', 'control'),
}


def get_config():
  """The page; any field can be set from the shell, as in --config.steps=100."""
  # Data, views, network and optimizer of all stages; each stage sets data.set and data.labeled.
  config = white_blood_cells.page('zheng1')
  white_blood_cells.use_small_unet(config)
  config.num_seeds = 5
  # A quarter of the paper's images a step, to be done on two cores.
  config.batch.labeled = 4
  config.steps = 600
  config.eval_every = 600
  config.checkpoint_every = 150

  stages = []
  cells = []
  for name in ('zheng1', 'lisc'):
    # None: all labels.
    for labels in (None, 15):
      data = {'data.set': name, 'data.labeled': labels}
      prefix = f'{name}-{labels or "all"}-'
      stages += stages_of(name, prefix, data)
      for stage, (row, control) in ROWS.items():
        cells.append(
          dict(
            table='White blood cells',
            row=row,
            column=f'{name}, {labels or "all"} labels',
            stage=prefix + stage,
            # SupOnly itself has no control.
            control=control and prefix + control,
            only=f'{prefix}*',
          )
        )
  config.stages = tuple(stages)
  config.table = tuple(cells)
  return settings.complete(config)


def stages_of(name, prefix, data):
  """The stages of one data set (`name`) and number of labels (`data`)."""
  stages = []

  # SupOnly, ST and ST++.
  # 2 + 2 images a step, as many as the teacher's 4.
  student = white_blood_cells.student(name, labeled=2, pseudo=2)
  stages += white_blood_cells.self_training(
    f'{prefix}without', teacher={}, student=student, common=data, scales=SCALES
  )

  # FixMatch, with a quarter of the paper's images a step, as all systems.
  supervised = f'{prefix}without-teacher'
  fixmatch = f'{prefix}with-teacher'
  fields = white_blood_cells.fixmatch(name)
  # The paper's batches are 16 and 8, so this is 4 and 2.
  fields['batch.unlabeled'] //= 4
  stages.append(dict(name=fixmatch, num_snapshots=3, **fields, **data))
  stages.append(
    dict(
      name=f'{prefix}with-verdict',
      run='compare',
      of=fixmatch,
      against=supervised,
      # FixMatch halves the loss on labels; its control keeps the weight 1.
      differences=('methods.supervised.weight',),
      **data,
    )
  )

  # Our recipe: self-training whose teacher is its control.
  control = f'{prefix}control'
  labels = f'{prefix}labels'
  ours = f'{prefix}ours'
  # Unlike the student above, it sees its 4 labeled images and 4 pseudo-labeled ones besides.
  pseudo = {
    'methods.supervised.shown': ('labeled', 'pseudo'),
    'views.pseudo': dict(
      source='pseudo', cutmix=white_blood_cells.CUTMIX, **white_blood_cells.FREE
    ),
    'batch.pseudo': 4,
  }
  stages += [
    dict(name=control, **white_blood_cells.RECIPE, **data),
    dict(name=labels, run='pseudo_label', of=control, scales=SCALES, **data),
    dict(name=ours, pseudo=labels, **white_blood_cells.RECIPE, **pseudo, **data),
    dict(name=f'{prefix}verdict', run='compare', of=ours, against=control, **data),
  ]
  return stages
