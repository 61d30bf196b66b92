"""What the pages of volumes share: how Gao et al. (FLARE22) trained, self-training in rounds."""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

SUPERVISED = dict(weight=1.0, dice=1.0, shown=('labeled',))
PAINT = dict(
  blur=dict(p=0.1, sigma=(0.5, 1.15)),
  noise=dict(p=0.1, mean=(0.0, 0.5), std=(0.0, 1.0)),
  gamma=dict(p=0.1, power=(0.5, 2.5)),
  shift=dict(p=0.1, offset=(0.0, 0.3)),
)
TURN = dict(flip=0.2, flip_vertical=0.2)


def page():
  """A page without data, model, views, sizes and stages; half of all pieces show an organ."""
  config = ConfigDict()
  config.update(seed=0, replicas=3, together=placeholder(bool), shuffle_unlabeled=True)
  config.update(snapshots=1, select='last', tensorboard=False, precision='float32')
  config.update(foreground=0.5, normalize='data', methods=dict(supervised=SUPERVISED))
  config.optimizer = dict(name='adam', lr=1e-4, momentum=0.9, weight_decay=0.0, clip=0.0)
  config.schedule = dict(name='poly', warmup=0)
  return config


def rounds(count, teacher, steps, rate, batch, least, agreement):
  """Stages: the unlabeled volumes are labeled, and `teacher` tuned on them, `count` times.

  Kept are volumes with `least` voxels of each organ, and from the second round on those whose
  labels have stayed as they were (Dice of `agreement`). Each round labels anew with the network of
  the last; the control is tuned as long on masks alone.
  """
  tune = {'begin': teacher, 'steps': steps, 'eval_every': steps, 'optimizer.lr': rate}
  plain = {stream: dict(of=stream) for stream in batch}
  control = dict(batch=dict(labeled=sum(batch.values())), views=dict(labeled=plain['labeled']))
  learn = {'batch': batch, 'views': plain, 'methods.supervised.shown': tuple(batch)}
  stages, parent, before = [dict(name='control', **tune, **control)], teacher, {}
  for number in range(1, count + 1):
    labels, own = f'labels{number}', f'tuned{number}'
    ask = dict(of=parent, least=least, scales=(1.0,), flip=False)
    stages.append(dict(name=labels, run='pseudo_label', **ask, **before))
    stages.append(dict(name=own, pseudo=labels, **tune, **learn))
    parent, before = own, dict(stable=labels, agreement=agreement)
  return stages


def organs(names, **knobs):
  """Stages that find the organs of the test volumes with each of the networks `names`."""
  return [dict(name=f'{name}-organs', run='segment', of=name, **knobs) for name in names]
