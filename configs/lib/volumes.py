"""What the pages of volumes share: views and optimizer of Gao et al., and rounds of pseudo-labels.

Gao, Xu, Fei, "A Pseudo-labeling Approach to Semi-supervised Organ Segmentation" (FLARE22).
"""

from ssl_jax import settings

# Sigma is in voxels, the same along all axes; mean, std and offset are fractions of the window of
# raw values. Noisy and shifted values are clipped to [0, 1], which the paper does not do.
INTENSITY = dict(
  blur=dict(p=0.1, sigma=(0.5, 1.15)),
  noise=dict(p=0.1, mean=(0.0, 0.5), std=(0.0, 1.0)),
  gamma=dict(p=0.1, power=(0.5, 2.5)),
  shift=dict(p=0.1, offset=(0.0, 0.3)),
)
"""Changes of intensity of a view, with the ranges of the paper."""

FLIPS = dict(flip=0.2, flip_vertical=0.2)


def page():
  """A page without data, views, network and stages; half of all crops show an organ."""
  config = settings.defaults()
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0, shown=('labeled',)))
  # A crop anywhere would often miss the small organs.
  config.foreground_prob = 0.5
  config.optimizer.lr = 1e-4
  config.optimizer.weight_decay = 0.0
  config.schedule.name = 'poly'
  return config


def fine_tuning(rounds, teacher, steps, lr, batch, min_voxels, agreement, schedule='poly'):
  """Stages: the unlabeled volumes are labeled, and `teacher` fine-tuned on them, `rounds` times.

  Only volumes with `min_voxels` voxels of each organ are learned from, and from the second round on
  only those whose labels stayed as they were (a Dice of `agreement`). The network of each round
  labels for the next. The control is fine-tuned for as long on drawn masks alone, with as many
  volumes a step.
  """
  # Each round begins with the teacher's weights again; only labels pass from round to round.
  fields = {
    'init_from': teacher,
    'steps': steps,
    'eval_every': steps,
    'optimizer.lr': lr,
    'schedule.name': schedule,
    'batch': batch,
    'views': {stream: dict(source=stream) for stream in batch},  # no augmentations
    'methods.supervised.shown': tuple(batch),
  }
  # The control replaces pseudo-labeled volumes by more drawn ones: it takes as many updates on as
  # many volumes.
  volumes_a_step = sum(batch.values())
  stages = [{'name': 'control', 'control_of': 'tuned1', 'batch.labeled': volumes_a_step}]
  source = teacher
  # The first round has no earlier labels to agree with.
  stable = {}
  for number in range(1, rounds + 1):
    labels = f'labels{number}'
    tuned = f'tuned{number}'
    # A single prediction for each volume, without averaging over scales and flips.
    label = dict(of=source, min_voxels=min_voxels, scales=(1.0,), flip=False, **stable)
    stages.append(dict(name=labels, run='pseudo_label', **label))
    stages.append(dict(name=tuned, pseudo=labels, **fields))
    source = tuned
    stable = dict(stable=labels, agreement=agreement)
  return stages


def verdict(name, of):
  """A stage that compares a fine-tuned network with the control, which sees more drawn masks."""
  return dict(name=name, run='compare', of=of, against='control', differences=('batch.labeled',))


def organs(names, **fields):
  """Stages that segment the whole test volumes with each of the networks `names`."""
  return [dict(name=f'{name}-organs', run='segment', of=name, **fields) for name in names]
