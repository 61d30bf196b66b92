"""Tables 1 and 2 of Luu et al., as printed, and the stages and cells that repeat them."""

from configs.lib import white_blood_cells

PUBLISHED = {  # network: without and with FixMatch, each SupOnly ST ST++ of zheng1 zheng2 lisc
  ('deeplabv3plus', 'resnet50'): (
    (89.49, 90.71, 90.02, 86.19, 86.43, 87.34, 75.20, 76.67, 77.64),
    (87.81, 90.04, 90.69, 84.19, 87.02, 87.37, 73.96, 76.48, 76.49)),
  ('deeplabv3plus', 'resnet101'): (
    (88.86, 89.83, 89.99, 86.03, 86.35, 87.22, 75.95, 75.87, 76.55),
    (86.61, 89.80, 90.29, 85.15, 87.28, 87.09, 75.09, 77.02, 76.60)),
  ('deeplabv2', 'resnet101'): (
    (82.54, 84.21, 85.01, 74.46, 79.70, 78.74, 72.20, 75.27, 74.84),
    (80.08, 85.05, 85.07, 71.47, 79.32, 80.38, 70.47, 74.71, 75.75)),
  ('pspnet', 'resnet50'): (
    (80.27, 83.08, 83.64, 75.76, 80.20, 80.92, 71.17, 74.69, 75.12),
    (79.02, 83.44, 83.76, 74.95, 80.31, 81.79, 71.53, 75.50, 75.39)),
  ('pspnet', 'resnet101'): (
    (81.56, 83.93, 84.30, 77.76, 80.39, 81.35, 72.91, 75.19, 75.17),
    (80.69, 84.56, 84.58, 77.33, 79.80, 80.11, 71.35, 74.96, 74.82)),
}  # fmt: skip
"""Test mIoU in percent of one run."""

SYSTEMS = {'teacher': 'SupOnly', 'st': 'ST', 'stpp': 'ST++'}

STEPS = {  # of SupOnly, of SupOnly with FixMatch, of ST++'s first student, of the last student
  'zheng1': dict(supervised=700, fixmatch=1100, first=1900, last=2200),
  'zheng2': dict(supervised=200, fixmatch=300, first=600, last=700),
  'lisc': dict(supervised=600, fixmatch=1000, first=1800, last=2400),
}
"""The numbers of updates of the paper's code."""


def stages(honest):
  """The stages of all cells, 8 for each network, set, and way (without and with FixMatch).

  `honest`: all networks train as long as the last student, and padding is not counted among the
  pixels; else as the paper has it.
  """
  result = []
  for network, backbone in PUBLISHED:
    model = {'model.name': network, 'model.backbone': backbone}
    # The paper's code gives its head the learning rate of the backbone, not ten times as much.
    if network == 'deeplabv2':
      model['optimizer.head_lr_multiplier'] = 1.0
    for way in ('without', 'with'):
      # FixMatch trains the teacher alone; students only get its pseudo-labels.
      for name, counts in STEPS.items():
        fields = white_blood_cells.fixmatch(name, all_pixels=not honest)
        result += white_blood_cells.self_training(
          f'{name}-{network}_{backbone}-{way}',
          teacher=fields if way == 'with' else {},
          # 16 images a step, as for the teacher.
          student=white_blood_cells.student(name, labeled=8, pseudo=8),
          common={**_data(name, honest), **model},
          steps=_steps(counts, 'fixmatch' if way == 'with' else 'supervised', honest),
        )
  return tuple(result)


def _data(name, honest):
  """The fields that put a set into the page of LISC."""
  # The page is that of LISC, so only what differs from it is set.
  fields = {'data.set': name}
  side = white_blood_cells.SETS[name]['side']
  if side != white_blood_cells.SIDE:
    fields['crop_size'] = (side, side)
    fields['views.labeled.resize_long_side'] = side
  # In the paper the files themselves become 128 x 128, and are scored at that size.
  if name == 'lisc' and not honest:
    fields['data.resize'] = 128
  return fields


def _steps(counts, teacher, honest):
  """The fields of each training that say how long it is, and how often it is evaluated."""
  fields = {}
  for training, key in (('teacher', teacher), ('first', 'first'), ('last', 'last')):
    # Equal updates for all, or a longer training alone could make a student look better.
    steps = counts['last' if honest else key]
    # The paper evaluates after each of its 100 epochs. The honest protocol scores the last
    # checkpoint, so evaluations only draw a curve.
    every = steps // (10 if honest else 100)
    fields[training] = dict(steps=steps, eval_every=every, checkpoint_every=every)
  return fields


def cells():
  """The cells of Tables 1 and 2."""
  result = []
  for (network, backbone), rows in PUBLISHED.items():
    for way, scores in zip(('without', 'with'), rows, strict=True):
      # In the order of a row of PUBLISHED: set by set, and system by system.
      published = iter(scores)
      for name in STEPS:
        prefix = f'{name}-{network}_{backbone}-'
        for system, title in SYSTEMS.items():
          cell = dict(
            stage=f'{prefix}{way}-{system}',
            # Everything is compared with SupOnly without FixMatch.
            control=f'{prefix}without-teacher',
            published=next(published),
            only=f'{prefix}*',
          )
          row = f'{network} {backbone}'
          result.append(
            dict(
              cell,
              table='Table 1',
              row=f'{row} {way} FixMatch',
              column=f'{name} {title}',
            )
          )
          # Table 2 repeats the two SupOnly columns of Table 1, side by side.
          if system == 'teacher':
            result.append(dict(cell, table='Table 2', row=row, column=f'{name} {way} FixMatch'))
  return tuple(result)
