"""HydraMix-Net on nuclei of colorectal cancer: accuracy against number of labels (its Table 1).

Data: the folder crchisto (images/, points/) in --config.data.root: four classes of nuclei and
background, split by image. It stands for the paper's private set of lymphoma.
Run:  python main.py --config=configs/hydramix_crchisto.py --config.data.root=FOLDER --only='100-*'
      python -m ssl_jax.table runs/hydramix_crchisto
Time: hours on an accelerator; docs/results.md has a shorter command.
Score: with that command no difference shown at 50 and 100 labels (results/); 300 labels, the most
that was tried, not run since the interval covers labels too.

The weight of the unlabeled losses and the kind of WideResNet are ours (configs/lib/cells.py).
"""

from configs.lib import cells
from ssl_jax import settings

PUBLISHED = {  # labels: plain CNN, HydraMix-Net without SCE, HydraMix-Net; on the paper's own set
  50: (62, 66, 66),
  100: (70, 70, 80),
  300: (76, 70, 81),
  500: (83, 35, 85),
  700: (85, 35, 85),
  1000: (84, 35, 85),
  3000: (90, None, 88),
}
DETECTION_FIGURES = {'F1 of cells': 'f1', 'F1 of detection': 'detection_f1'}


def get_config():
  """The page: for each number of labels three networks, their comparisons, and detections."""
  config = cells.page()

  # Data: --config.data.root names the folder; each stage sets data.num_labeled.
  # Patches of 41 pixels, with the cell up to 6 pixels off the middle.
  config.data = dict(name='crchisto', num_labeled=100, test_fraction=0.3, size=41, jitter=6)
  # As many patches of background as of cells, at least 10 pixels from any cell.
  config.data.update(background=1.0, min_distance=10.0, balance='labeled')

  # Stages: a plain CNN on labels alone, HydraMix-Net with cross-entropy and squared error in place
  # of its symmetric loss, and HydraMix-Net. The last two are also compared with each other.
  # Squared error is bounded, so it keeps the weight 1; 0.05 is for the symmetric loss.
  squared_error = {'methods.hydramix.symmetric': False, 'methods.hydramix.lambda_u': 1.0}
  stages = []
  for labels in PUBLISHED:
    data = {'data.num_labeled': labels}
    cnn, nosce, hydramix = (f'{labels}-{name}' for name in ('cnn', 'nosce', 'hydramix'))
    stages += [
      dict(name=cnn, control_of=hydramix),
      dict(name=nosce, **squared_error, **data),
      dict(name=hydramix, **data),
      dict(name=f'{labels}-verdict', run='compare', of=hydramix, against=cnn, **data),
      dict(
        name=f'{labels}-sce',
        run='compare',
        of=hydramix,
        against=nosce,
        # The loss is the difference to be measured, so compare must allow it.
        differences=tuple(squared_error),
        **data,
      ),
      # Every 10 pixels a patch of the whole test images is classified.
      dict(name=f'{cnn}-cells', run='detect', of=cnn, stride=10, **data),
      dict(name=f'{hydramix}-cells', run='detect', of=hydramix, stride=10, **data),
    ]
  config.stages = tuple(stages)

  # Tables: balanced accuracy of patches beside the published one, and two F1 of whole images.
  table = []
  for labels, published in PUBLISHED.items():
    common = dict(column=str(labels), only=f'{labels}-*')
    for network, score in zip(('cnn', 'nosce', 'hydramix'), published, strict=True):
      table.append(
        dict(
          table='Accuracy',
          figure='balanced_accuracy',
          row=network,
          stage=f'{labels}-{network}',
          control=f'{labels}-cnn',
          published=score,
          **common,
        )
      )
    # Nothing is published on detection.
    for network in ('cnn', 'hydramix'):
      for title, figure in DETECTION_FIGURES.items():
        table.append(
          dict(
            table=title,
            figure=figure,
            row=network,
            stage=f'{labels}-{network}-cells',
            control=f'{labels}-cnn-cells',
            **common,
          )
        )
  config.table = tuple(table)
  return settings.complete(config)
