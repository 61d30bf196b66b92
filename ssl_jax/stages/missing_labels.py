"""What a network makes of its own training images, whose masks may lack instances."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ssl_jax import parallel
from ssl_jax.data import dataset_stats
from ssl_jax.evaluation import figures
from ssl_jax.evaluation.evaluate import Evaluation, evaluate
from ssl_jax.io import images, mask_store
from ssl_jax.stages.seed_scores import keep
from ssl_jax.types import IGNORE, PredictFn, Source, Splits

ROWS = 3
"""Images that a picture shows."""
BARS = ('dice', 'jaccard', 'precision', 'recall')
COVERED = 0.5
"""The part of an instance's pixels by which it counts as found."""


def score(
  answer: PredictFn, found: Splits, facts: dataset_stats.DatasetStats, folder: Path
) -> dict[str, float]:
  """Scores on training images, in percent: train/..., complete/... and removed/...

  `train` is against the masks that were learnt from, `complete` against those without gaps.
  """
  given = evaluate(answer, found.labeled, facts.classes)
  scores = keep(given, folder, 'train', facts.classes)
  if found.complete is None:
    return scores
  whole = evaluate(answer, found.complete, facts.classes)
  scores |= keep(whole, folder, 'complete', facts.classes)
  return scores | filled_in(whole, found.complete)


def filled_in(found: Evaluation, complete: Source) -> dict[str, float]:
  """How much of the removed instances is found, in percent: pixels (recall) and instances (found).

  An instance counts as found where at least half of its pixels have its class. kept/recall is the
  recall of what was not removed. No figure where nothing was removed.
  """
  gone, kept, instances = [], [], []
  for record in (complete[i] for i in range(len(complete))):
    label, removed = record['label'], record['removed']
    right = found.masks[record['name']] == label
    here = removed > 0
    gone.append(right[here])
    kept.append(right[(label > 0) & (label != IGNORE) & ~here])
    hits = np.bincount(removed[here], right[here], minlength=1)[1:]
    instances.append(hits / np.maximum(np.bincount(removed[here], minlength=1)[1:], 1))
  gone, kept, instances = map(np.concatenate, (gone, kept, instances))
  if not len(gone):
    return {}
  return {
    'removed/recall': float(100 * gone.mean()),
    'removed/found': float(100 * (instances >= COVERED).mean()),
    'removed/instances': float(len(instances)),
    **({'kept/recall': float(100 * kept.mean())} if len(kept) else {}),
  }


def draw(folder: Path, done: Mapping[int, Mapping], found: Splits, first: Path) -> None:
  """Draws bars.png (means over seeds, by split) and picture.png (training images, first seed)."""
  if not parallel.is_main():
    return
  splits = [s for s in ('train', 'complete', 'val', 'test') if f'{s}/miou' in done[min(done)]]
  each = {s: {bar: _over_seeds(done, s, bar) for bar in BARS} for s in splits}
  figures.bars(folder / 'bars.png', each, 'mean over images, %')
  rows = []
  for i in np.unique(np.linspace(0, len(found.labeled) - 1, ROWS).astype(int)):
    record = found.labeled[int(i)]
    mask = mask_store.read(first / 'train', record['name'])
    image, label, mask = figures.flat(record['image'], record['label'], mask)
    image = images.to_channels(images.to_uint8(image), 3)
    rows.append([image, images.coloured(label), images.coloured(mask), images.overlay(image, mask)])
  titles = ['image', 'mask it learnt from', 'output', 'overlay']
  figures.beside(folder / 'picture.png', rows, titles)
  print(f'Pictures: {folder}/picture.png, bars.png')


def _over_seeds(done: Mapping[int, Mapping], split: str, bar: str) -> float:
  """The mean of a score per image, over seeds and classes."""
  start = f'{split}/{bar}_per_image/'
  return float(np.mean([v for own in done.values() for n, v in own.items() if n.startswith(start)]))
