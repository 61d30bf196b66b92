"""Scores a network on a split: masks image by image at native size, cells patch by patch."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from ssl_jax.data.dataset_stats import to_float
from ssl_jax.evaluation import confusion, instances
from ssl_jax.evaluation.calibration import Calibration
from ssl_jax.inference import instances as instance_predictions
from ssl_jax.inference import slices
from ssl_jax.inference.images import of_sizes, predict_labels
from ssl_jax.inference.patches import predict_source
from ssl_jax.io import mask_store
from ssl_jax.io.run_log import replace_text
from ssl_jax.types import CELLS, MASKS, NOTHING, Draw, PredictFn, Record, Source

MATRICES_FILE = 'matrices.npz'
PATCHES_FILE = 'patches.csv'


class Evaluation(NamedTuple):
  """The scores of a split, and what they were computed from."""

  scores: dict[str, float]  # in percent; distances in pixels, errors of counts in instances
  matrices: Integer[np.ndarray, 'images classes classes']  # counts of pixels or patches
  names: Sequence[str]  # of the images
  task: str
  masks: Mapping[str, np.ndarray] = NOTHING  # predicted class ids [*space] by image name
  patches: Sequence[dict[str, Any]] = ()  # of CELLS a row for each patch
  objects: Integer[np.ndarray, 'images t 2 2'] | None = None  # see evaluation/instances.py

  def write(
    self,
    folder: Path,
    draw: Draw | None = None,
    checksum: int = 0,
    classes: Sequence[str] = (),
  ) -> None:
    """Writes matrices.npz, and masks/NAME.png or patches.csv.

    Args:
      folder: of the split.
      draw: how its images, and those that were trained on, were drawn.
      checksum: of all the data, by which repetitions on the same data are told.
      classes: names.
    """
    draw = draw or Draw()
    folder.mkdir(parents=True, exist_ok=True)
    more = {} if self.objects is None else {'objects': self.objects}
    np.savez(
      folder / MATRICES_FILE,
      **more,
      matrices=self.matrices,
      names=list(self.names),
      groups=[draw.groups.get(name, name) for name in self.names],
      # NaN: the labeled images are not drawn.
      overlap=np.nan if draw.overlap is None else draw.overlap,
      own_test=draw.own_test,
      checksum=checksum,
      classes=list(classes),
      task=self.task,
    )
    for name, mask in self.masks.items():
      mask_store.write_mask(folder, name, mask)
    if self.patches:
      text = io.StringIO()
      table = csv.DictWriter(text, list(self.patches[0]))
      table.writeheader()
      table.writerows(self.patches)
      replace_text(folder / PATCHES_FILE, text.getvalue())


def evaluate(
  predict_fn: PredictFn,
  source: Source,
  classes: Sequence[str],
  task: str = MASKS,
  count_absent: bool = False,
  of_instances: Mapping[str, Any] | None = None,
) -> Evaluation:
  """Returns the evaluation of a labeled split: every image at its native size, or every patch.

  Args:
    predict_fn: gives class probabilities.
    source: with labels.
    classes: names.
    task: of the data.
    count_absent: see confusion.per_image.
    of_instances: as Splits has it; where it is given, instances are scored as well.
  """
  if task == CELLS:
    return _evaluate_cells(predict_fn, source, classes)
  return _evaluate_masks(predict_fn, source, classes, count_absent, of_instances)


def _evaluate_masks(
  predict_fn: PredictFn,
  source: Source,
  classes: Sequence[str],
  count_absent: bool,
  of_instances: Mapping[str, Any] | None,
) -> Evaluation:
  records = [source[i] for i in range(len(source))]
  # By index, because predictions do not come in order.
  predictions: dict[int, np.ndarray] = {}
  calibration = Calibration()
  # A generator: images become float32 one at a time, four times the size of their bytes.
  images = (to_float(record['image']) for record in records)
  # A volume that a network of two dimensions scores says so.
  sliced = bool(records) and 'slice_size' in records[0]
  predict_fn = of_sizes(predict_fn, _sizes(records))
  matches: dict[int, instances.Matches] = {}
  if of_instances is not None:
    size = records[0].get('slice_size') if records else None
    found = instance_predictions.predict(predict_fn, images, of_instances['min_size'], size, sliced)
    predicted = _match_each(found, records, matches)
  elif sliced:
    predicted = slices.predict_volumes(predict_fn, images, records[0]['slice_size'])
  else:
    predicted = predict_labels(predict_fn, images)
  for index, ids, confidence in predicted:
    predictions[index] = ids
    calibration.add(np.asarray(records[index]['label']), ids, confidence)
  masks = {record['name']: predictions[i] for i, record in enumerate(records)}
  matrices = []
  for i, record in enumerate(records):
    label = np.asarray(record['label'])
    matrices.append(confusion.confusion_matrix(label, predictions[i], len(classes)))
  # One matrix for each image, [n, k, k]: the bootstrap over test images needs them apart.
  matrices = np.stack(matrices)
  # Pooled over the set, and as means over images.
  scores = confusion.scores(matrices.sum(0), classes)
  scores |= confusion.per_image(matrices, classes, count_absent)
  scores['ece'] = calibration.error()
  if not matches:
    return Evaluation(scores, matrices, list(masks), MASKS, masks)
  in_order = [matches[i] for i in range(len(records))]
  objects = np.stack([one.counts for one in in_order])
  scores |= instances.scores(in_order)
  return Evaluation(scores, matrices, list(masks), MASKS, masks, objects=objects)


def _sizes(records: Sequence[Record]) -> Iterator[Sequence[int]]:
  """The size of each image, or slice, as a network of two dimensions sees it."""
  for record in records:
    shape = np.shape(record['image'])
    if 'slice_size' not in record:
      yield shape
    else:
      yield from [record['slice_size'] or shape[1:]] * shape[0]


def _match_each(
  predictions: Iterable[tuple[int, instance_predictions.Prediction]],
  records: Sequence[Record],
  matches: dict[int, instances.Matches],
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """Passes class ids and their probabilities on; puts what instances match into `matches`."""
  for index, prediction in predictions:
    truth = np.asarray(records[index]['instances'])
    matches[index] = instances.match(truth, prediction.instances)
    yield index, prediction.ids, prediction.confidence


def _evaluate_cells(predict_fn: PredictFn, source: Source, classes: Sequence[str]) -> Evaluation:
  """Adds the mean distance in pixels to the cell: pixels_off; of the patch's center, _middle."""
  rows, errors, errors_of_middle = [], [], []
  for record, probs, x, y in predict_source(predict_fn, source):
    side = len(record['image'])
    true_y, true_x = record['point'] + 0.5  # of the patch's edge, not of its first pixel's center
    rows.append(
      {
        'name': record['name'],
        'of': record['of'],
        'class': classes[int(record['label'])],
        'predicted': classes[int(probs.argmax())],
        'probability': round(float(probs.max()), 4),
        # Fractions of the side become pixels from the edge.
        'x': round(float(x) * side, 2),
        'y': round(float(y) * side, 2),
        'true_x': round(float(true_x), 2),
        'true_y': round(float(true_y), 2),
      }
    )
    # Patches of background show no cell.
    if not np.isnan(true_y):
      errors.append(np.hypot(x * side - true_x, y * side - true_y))
      # What a network that always points at the middle would get.
      errors_of_middle.append(np.hypot(side / 2 - true_x, side / 2 - true_y))
  # The images that the patches are from, in order and once each.
  names = list(dict.fromkeys(row['of'] for row in rows))
  matrices = np.zeros((len(names), len(classes), len(classes)), np.int64)
  for row in rows:
    # One matrix for each image, as of masks: patches of one image are not independent.
    image, true = names.index(row['of']), classes.index(row['class'])
    matrices[image, true, classes.index(row['predicted'])] += 1
  scores = confusion.cell_scores(matrices.sum(0), classes)
  if errors:
    scores['pixels_off'] = float(np.mean(errors))
    scores['pixels_off_middle'] = float(np.mean(errors_of_middle))
  return Evaluation(scores, matrices, names, CELLS, patches=rows)
