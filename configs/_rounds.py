"""Rounds of ensemble self-training, as a list of stages: a `for` over rounds (Hann)."""

AUGMENT = dict(scale=(0.9, 1.1), rotate=180.0, shear=0.1, flip=0.5, flip_vertical=0.5)
CROP = dict(of='labeled', **AUGMENT, blur=dict(p=0.1, sigma=(0.5, 1.0), noise=0.03))
TURNED = dict(flip=0.5, flip_vertical=0.5)
STREAMS = {'real': dict(labeled=4, pseudo=4), 'made': dict(labeled=4, pseudo=2, made=2)}
"""By source of a later round, what its batches are made of: as many as those of round 0."""
FIGURES = {  # tables -> what they show
  'Dice on test sections': 'dice/mitochondrion',
  'Dice on training sections, by whole masks': 'complete/dice/mitochondrion',
  'Recall of what was taken out of the masks, pixels': 'removed/recall',
  'Recall of what was taken out of the masks, instances': 'removed/found',
}


def first(members, prominence, **later):
  """Networks that learn from the masks as they are, from crops marked enough; scored as one."""
  view = dict(CROP, prominence=dict(least=prominence[0], tries=4))
  stages = [dict(name=f'r0-{i}', member=i, views=dict(labeled=view)) for i in range(members)]
  return [*stages, _scored('r0', members)]


def generator(steps, batch, size):
  """A game on training sections of half the scale, and what its generator paints."""
  play = dict(steps=steps, eval_every=steps // 5, batch=dict(labeled=batch), size=size // 2)
  play |= {'schedule': dict(name='constant'), 'average': 0.995, 'optimizer.lr': 1e-3}
  play |= {'optimizer.momentum': 0.5, 'optimizer.weight_decay': 0.0, 'optimizer.clip': 0.0}
  play |= dict(views=dict(real=dict(of='labeled', scale=(0.5, 0.5), **TURNED)))
  painted = dict(run='synthesize', of='gan', judge='r0-0', count=256, enlarge=2)
  return [dict(name='gan', run='train_gan', **play), dict(name='paint', **painted)]


def later(source, members, prominence, pairs, buffer, renew, union, inertia, painted=0.25):
  """Rounds whose parents label real crops ('real'), or generated ones as well ('made').

  Of what a generator painted only the share `painted` of the prominence is asked: it paints less of
  what is looked for, and what is asked of is the new mask.
  """
  stages, parents, batch = [], 'r0', STREAMS[source]
  views = {stream: dict(of=stream, **TURNED) for stream in batch}
  views |= dict(labeled=dict(CROP, prominence=dict(least=prominence[0], tries=4)))
  learn = dict(batch=batch, views=views, buffer=buffer, renew=renew)
  learn |= {'methods.supervised.shown': tuple(batch)}
  for number, least in enumerate(prominence[1:], start=1):
    own = f'{source}{number}'
    label = dict(run='label_crops', of=_names(parents, members), prominence=least)
    label |= dict(count=pairs, inertia=inertia, most=20)
    stages.append(dict(name=f'{own}-pseudo', views=dict(crop=CROP), union=union, **label))
    if source == 'made':
      crops = dict(batch=dict(generated=8), views=dict(crop=dict(of='generated', **TURNED)))
      label |= dict(prominence=painted * least)
      stages.append(dict(name=f'{own}-made', generated='paint', **label, **crops))
    replay = {stream: f'{own}-{stream}' for stream in batch if stream != 'labeled'}
    trained = [
      dict(name=name, member=i, replay=replay, **learn)
      for i, name in enumerate(_names(own, members))
    ]
    verdict = dict(name=f'{own}-verdict', run='compare', of=own, against='r0')
    stages += [*trained, _scored(own, members), verdict]
    parents = own
  if source == 'made':
    stages.append(dict(name='made-verdict', run='compare', of=parents, against=f'real{number}'))
  return stages


def cells(rounds):
  """Tables of each figure: round by round, without and with generated images."""
  each = []
  for title, figure in FIGURES.items():
    for source in STREAMS:
      for i in range(rounds):
        at = dict(row=source, column=f'round {i}', stage=f'{source}{i}' if i else 'r0')
        each.append(dict(table=title, figure=figure, control='r0', only='*', **at))
  return tuple(each)


def _names(parents, members):
  return tuple(f'{parents}-{i}' for i in range(members))


def _scored(name, members):
  return dict(name=name, run='score', of=_names(name, members), train=True)
