"""HydraMix-Net on nuclei of colorectal cancer: accuracy against number of labels (its Table 1).

Folder crchisto (images/, points/) in --config.data.root, for the paper's private lymphoma set: four
classes of nuclei and background, split by image. An accelerator's work; docs/results.md is smaller.
Run:  python main.py --config=configs/hydramix_crchisto.py --config.data.root=FOLDER --only='100-*'
      python -m ssl_jax.table runs/hydramix_crchisto
"""

from ml_collections.config_dict import placeholder

from configs._cells import CONTROL, page

PUBLISHED = {  # labels: plain CNN, HydraMix-Net without SCE, HydraMix-Net; on the paper's own set
  50: (62, 66, 66),
  100: (70, 70, 80),
  300: (76, 70, 81),
  500: (83, 35, 85),
  700: (85, 35, 85),
  1000: (84, 35, 85),
  3000: (90, None, 88),
}
NOSCE = {'methods.hydramix.symmetric': False, 'methods.hydramix.unlabeled': 1.0}
SYSTEMS = {'cnn': CONTROL, 'nosce': NOSCE, 'hydramix': {}}
FIGURES = {'Accuracy': 'balanced_accuracy', 'F1 of cells': 'f1', 'F1 of detection': 'detection_f1'}


def get_config():
  """A page; for each number of labels three systems, compared, and searches; three tables."""
  config = page()
  config.data = dict(name='crchisto', root=placeholder(str), labels=100, holdout=0.3, seed=0)
  config.data.update(size=41, jitter=6, background=1.0, clear=10.0, balance='labeled')
  stages, cells = [], []
  for labels, published in PUBLISHED.items():
    data = {'data.labels': labels}
    for (system, changes), score in zip(SYSTEMS.items(), published, strict=True):
      stages.append(dict(name=f'{labels}-{system}', **changes, **data))
      cell = dict(row=system, column=str(labels), only=f'{labels}-*')
      trained = dict(stage=f'{labels}-{system}', control=f'{labels}-cnn', published=score)
      cells.append(dict(table='Accuracy', figure=FIGURES['Accuracy'], **trained, **cell))
    for name, against in (('verdict', 'cnn'), ('sce', 'nosce')):
      sides = dict(of=f'{labels}-hydramix', against=f'{labels}-{against}')
      stages.append(dict(name=f'{labels}-{name}', run='compare', **sides, **data))
    for system in ('cnn', 'hydramix'):
      found = f'{labels}-{system}-cells'
      stages.append(dict(name=found, run='detect', of=f'{labels}-{system}', stride=10, **data))
      cell = dict(row=system, column=str(labels), only=f'{labels}-*', stage=found)
      cell |= dict(control=f'{labels}-cnn-cells')
      cells += [dict(table=name, figure=FIGURES[name], **cell) for name in [*FIGURES][1:]]
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
