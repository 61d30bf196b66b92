"""Rounds of self-training after any training: its network labels images for a new one."""


def rounds(
  name, first, pseudo_view, batch, common=None, without=(), count=1, threshold=0.0, scales=(1.0,)
):
  """Stages: a training, and `count` times pseudo-labels of it and a training on labels and those.

  The last training is called `name`, the first one NAME-first. Each begins with the weights of the
  page, so that only pseudo-labels are passed on.

  Args:
    name: of the last training.
    first: fields of the first training.
    pseudo_view: view of a pseudo-labeled image, without its source.
    batch: pseudo-labeled images a step.
    common: fields of all stages.
    without: what the later trainings take away from the page: views and batches of images without
      labels.
    count: number of rounds.
    threshold: pixels whose probability is below it have no label.
    scales: of an image, over which its probabilities are averaged.
  """
  common = common or {}
  teacher = f'{name}-first'
  stages = [{'name': teacher, **first, **common}]
  student = {
    'without': tuple(without),
    'methods.supervised.shown': ('labeled', 'pseudo'),
    'views.pseudo': {'source': 'pseudo', **pseudo_view},
    'batch.pseudo': batch,
  }
  label = dict(run='pseudo_label', threshold=threshold, scales=scales)
  for number in range(1, count + 1):
    labels = f'{name}-labels{number}'
    trained = name if number == count else f'{name}-again{number}'
    stages.append({'name': labels, 'of': teacher, **label, **common})
    stages.append({'name': trained, 'pseudo': labels, **student, **common})
    teacher = trained
  return stages
