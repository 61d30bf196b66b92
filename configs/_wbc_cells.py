"""The stages of SupOnly, ST and ST++ for one set, network and first stage (see wbc_table1.py)."""

from configs.fixmatch_lisc import PAINT, WEAK

SETS = {  # steps: SupOnly, SupOnly with FixMatch, ST++'s first student, the last student
  'zheng1': (dict(base=128), 0.90, dict(p=0.8, contrast=(0.5, 1.5)), 16, (700, 1100, 1900, 2200)),
  'zheng2': (dict(base=320), 0.95, dict(p=0.8, contrast=(0.5, 1.5)), 8, (200, 300, 600, 700)),
  'lisc': (dict(base=128), 0.95, dict(p=0.4, contrast=(2.0, 2.0)), 8, (600, 1000, 1800, 2400)),
}


def stages(prefix, which, model, fixmatch, honest):
  """A teacher, ST and ST++ (PREFIX-teacher, -st and -stpp); every network begins afresh.

  `honest` gives all of them the steps of the last student, for an equal budget, and learns from no
  pixel that padding made; else steps and pixels are the paper's. A student sees as many labeled as
  pseudo-labeled images, which the paper reaches by repeating the labeled ones.
  """
  base, threshold, jitter, many, steps = SETS[which]
  common = {'data.set': which, 'size': (base['base'],) * 2, **model}
  common |= {'data.resize': 128} if which == 'lisc' and not honest else {}
  weak = WEAK | base
  strong = dict(jitter=dict(brightness=0.5, saturation=0.5, hue=0.25, **jitter), **PAINT)
  labeled = dict(labeled=dict(of='labeled', **weak))
  unlabeled = dict(weak=dict(of='unlabeled', **weak), strong=dict(of='weak', **strong))
  loss = dict(threshold=threshold, weight=0.125, all_pixels=not honest)
  plain = dict(views=labeled, batch=dict(labeled=16), methods=dict(supervised=dict()))
  sure = dict(views=labeled | unlabeled, batch=dict(labeled=16, unlabeled=many))
  sure |= dict(methods=dict(supervised=dict(weight=0.5), fixmatch=loss))
  student = dict(views=labeled | dict(pseudo=dict(of='pseudo', **weak, **strong)))
  student |= dict(batch=dict(labeled=8, pseudo=8))
  student |= dict(methods=dict(supervised=dict(shown=('labeled', 'pseudo'))))

  def train(name, part, **more):
    count = steps[3 if honest else part]
    every = count // (10 if honest else 100)
    return dict(steps=count, eval_every=every, checkpoint_every=every, name=name, **common, **more)

  at = {name: f'{prefix}-{name}' for name in ('teacher', 'labels', 'ranking', 'reliable', 'rest')}
  part = dict(run='pseudo_label', ranking=at['ranking'], **common)
  return (
    train(at['teacher'], int(fixmatch), snapshots=3, **(sure if fixmatch else plain)),
    dict(name=at['labels'], run='pseudo_label', of=at['teacher'], **common),
    train(f'{prefix}-st', 3, pseudo=at['labels'], **student),
    dict(name=at['ranking'], run='rank', of=at['teacher'], share=0.75, **common),
    dict(name=at['reliable'], of=at['teacher'], part='reliable', **part),
    train(f'{prefix}-first', 2, pseudo=at['reliable'], **student),
    dict(name=at['rest'], of=f'{prefix}-first', part='rest', **part),
    train(f'{prefix}-stpp', 3, pseudo=(at['reliable'], at['rest']), **student),
  )
