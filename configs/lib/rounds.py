"""Rounds of ensemble self-training, without and with generated images, as lists of stages.

Hann 2021, "Self-Training and Generative Data Augmentation". In every round each of several networks
learns from the drawn masks and from crops that the networks of the round before labeled together.
"""

FLIPS = dict(flip=0.5, flip_vertical=0.5)
# Cells and mitochondria have no upright position, so every rotation and flip is drawn.
CROP = dict(
  source='labeled',
  scale=(0.9, 1.1),
  rotate=180.0,
  shear=0.1,
  blur=dict(p=0.1, sigma=(0.5, 1.0), noise=0.03),
  **FLIPS,
)
"""A crop of a training image."""

BATCHES = {
  'real': {'labeled': 4, 'pseudo': 4},
  'made': {'labeled': 4, 'pseudo': 2, 'made': 2},
}
"""By source of a later round, its images a step: as many as round 0 has."""

FIGURES = {  # table: what it shows
  'Dice on test sections': 'dice/mitochondrion',
  'Dice on training sections, by whole masks': 'complete/dice/mitochondrion',
  'Recall of what was taken out of the masks, pixels': 'removed/recall',
  'Recall of what was taken out of the masks, instances': 'removed/found',
}


def labeled_view(min_fraction):
  """A crop of which at least this fraction is marked: the first of four tries that is.

  Where none is, it is the last one, and its labels are ignored.
  """
  # Crops of background alone would teach little.
  return dict(CROP, prominence=dict(min_fraction=min_fraction, tries=4))


def first(members):
  """Stages: networks that learn from the masks as they are, and the score of their mean."""
  # `member` gives each network its own initial weights and its own random crops.
  trainings = [dict(name=f'r0-{i}', member=i) for i in range(members)]
  return [*trainings, _score('r0', members)]


def generator(steps, batch, crop_size):
  """Stages: a GAN trained on crops of half the scale, and 256 images of its generator."""
  # Crops cover as much of a section as those of the networks, with half the pixels a side;
  # `enlarge` brings the images back to that size.
  training = {
    'name': 'gan',
    'run': 'train_gan',
    'steps': steps,
    'eval_every': steps // 5,
    'batch': dict(labeled=batch),
    'crop_size': tuple(side // 2 for side in crop_size),
    'views': dict(real=dict(source='labeled', scale=(0.5, 0.5), **FLIPS)),
    'schedule': dict(name='constant'),
    'ema_decay': 0.995,
    'optimizer.lr': 1e-3,
    # Less momentum than for a network that segments, as is common for GANs.
    'optimizer.b1': 0.5,
    'optimizer.weight_decay': 0.0,
    'optimizer.clip': 0.0,
  }
  # The kernel distance to real images is measured on the features of r0-0.
  images = dict(name='paint', run='synthesize', of='gan', judge='r0-0', count=256, enlarge=2)
  return [training, images]


def later(source, members, prominence, pairs, buffer, renew, inertia, generated_prominence=0.25):
  """Stages of the later rounds: the networks of the round before label, new ones learn.

  They label crops of training images ('real'), or generated images as well ('made'). `prominence`
  is the fraction of a crop that must be marked, by round. Of generated images only the fraction
  `generated_prominence` of it is asked, and of the new mask: they show less of what is looked for.
  Each round labels `pairs` crops, drawn from a replay buffer of `buffer`, of which a draw renews
  one with the probability `renew`.
  """
  # Later trainings change the page's: more streams, a view for each, and losses on all of them.
  batch = BATCHES[source]
  training = {f'batch.{stream}': size for stream, size in batch.items()}
  for stream in batch:
    # Pseudo-labeled crops are augmented when they are cut; flips are all that is left to draw.
    if stream != 'labeled':
      training[f'views.{stream}'] = dict(source=stream, **FLIPS)
  training['methods.supervised.shown'] = tuple(batch)

  stages = []
  # The round whose networks label for the next one.
  parents = 'r0'
  # The first entry is of round 0, whose crops come from drawn masks.
  for number, min_marked in enumerate(prominence[1:], start=1):
    name = f'{source}{number}'
    label = dict(
      run='label_crops', of=_members(parents, members), count=pairs, inertia=inertia, max_tries=20
    )
    stages.append(
      # union: what was drawn stays, and the networks only add to it.
      dict(name=f'{name}-pseudo', views=dict(crop=CROP), prominence=min_marked, union=True, **label)
    )
    if source == 'made':
      stages.append(
        dict(
          # Generated images have no mask; all of it comes from the networks.
          name=f'{name}-made',
          generated='paint',
          batch=dict(generated=8),
          views=dict(crop=dict(source='generated', **FLIPS)),
          prominence=generated_prominence * min_marked,
          **label,
        )
      )
    # Which stage wrote the pairs of each stream.
    replay = {stream: f'{name}-{stream}' for stream in batch if stream != 'labeled'}
    # New networks from random weights: only pseudo-labels pass from round to round.
    for member, stage in enumerate(_members(name, members)):
      stages.append(
        dict(name=stage, member=member, replay=replay, buffer=buffer, renew=renew, **training)
      )
    stages.append(_score(name, members))
    # Round 0 sees as many images a step, all of them with drawn masks.
    stages.append(
      dict(
        name=f'{name}-verdict',
        run='compare',
        of=name,
        against='r0',
        differences=('batch.labeled',),
      )
    )
    parents = name
  if source == 'made':
    # Do generated images help? Both last rounds have had the same number of images and updates.
    last = len(prominence) - 1
    stages.append(
      dict(
        name='made-verdict',
        run='compare',
        of=f'made{last}',
        against=f'real{last}',
        differences=('batch', 'views.made', 'methods.supervised.shown', 'replay'),
      )
    )
  return stages


def cells(rounds):
  """The cells of a table for each figure: round by round, without and with generated images."""
  table = []
  for title, figure in FIGURES.items():
    for source in BATCHES:
      for number in range(rounds):
        table.append(
          dict(
            table=title,
            figure=figure,
            row=source,
            column=f'round {number}',
            # Round 0 is the same for both sources.
            stage=f'{source}{number}' if number else 'r0',
            control='r0',
            only='*',
          )
        )
  return tuple(table)


def _members(name, members):
  return tuple(f'{name}-{i}' for i in range(members))


def _score(name, members):
  return dict(name=name, run='score', of=_members(name, members), train=True)
