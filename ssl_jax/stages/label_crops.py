"""A stage in which an ensemble labels crops, and keeps those with low enough entropy."""

import csv
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from ssl_jax import build, parallel, run_folder
from ssl_jax.data.replay_buffer import CANDIDATES, StoredPairs
from ssl_jax.data.stream import Stream
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import figures
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.io import images
from ssl_jax.io.run_log import replace_text
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Inputs, Seeds, Settings, range_text
from ssl_jax.stages.comparing.seed_scores import mean_over_seeds
from ssl_jax.stages.labeling.ensembles import check_members
from ssl_jax.types import IGNORE, NOTHING, Figures, PredictFn, Splits
from ssl_jax.views import make_views

INPUT_STAGES = {'of': 'train', 'generated': 'synthesize'}
USES = (
  'seed',
  'num_seeds',
  'data',
  'batch',
  'views',
  'crop_size',
  'shuffle_unlabeled',
  'foreground_prob',
)

ROWS = 4
"""Crops that the picture shows."""

# Inclusive ranges of the arguments below.
RANGES = {'prominence': (0, 1), 'inertia': (0, 1), 'count': (1, 10**6), 'max_tries': (1, 10**6)}


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that there are crops to label, and that limits make sense.

  Raises:
    UserError: if not.
  """
  stage_kwargs = spec.stage_kwargs
  settings = spec.settings
  where = f'stages.{spec.name}'
  check_members(spec, earlier)
  if [*settings.views] != ['crop'] or len(settings.batch) != 1:
    raise UserError(f"{where} labels one view, called 'crop', of one stream; give it no other.")
  # A stream without a stage to fill it, or a stage whose images nothing draws.
  if ('generated' in settings.batch) != bool(stage_kwargs.get('generated')):
    raise UserError(f'{where}: generated (a synthesize stage) and batch.generated need each other.')
  for key, (low, high) in RANGES.items():
    # An argument that the page leaves out is read as its upper end, which is in range.
    value = stage_kwargs.get(key, high)
    if not low <= value <= high:
      raise UserError(f'{where}: {key}={value} is not in the range {range_text(low, high)}.')
  if stage_kwargs.get('union') and stage_kwargs.get('generated'):
    raise UserError(f'{where}: generated images have no mask of which to make a union.')


CropMaker = Callable[[int], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""The number of a batch -> its images, masks (0 where none are known), and valid pixels."""


class Candidate(NamedTuple):
  """A crop that was considered: a line of candidates.csv."""

  candidate: int
  prominence: float
  entropy: float
  threshold: float  # after it
  accepted: int  # 0 or 1


class CropRecord(NamedTuple):
  """The candidates so far, which is all that the next decision depends on."""

  candidates: tuple[Candidate, ...] = ()

  @property
  def threshold(self) -> float:
    """The running mean of the entropy."""
    return self.candidates[-1].threshold if self.candidates else 0.0

  @property
  def accepted(self) -> int:
    """The number of accepted candidates."""
    return sum(candidate.accepted for candidate in self.candidates)


def with_candidate(
  record: CropRecord,
  prominence: float | int,
  entropy: float | int,
  min_prominence: float | int,
  inertia: float | int,
) -> CropRecord:
  """Returns the record with one more candidate (Hann 2021, sections 4.2 and 4.4).

  A candidate below `min_prominence` is rejected at once. Any other moves the threshold,
  T = inertia T + (1 - inertia) entropy, and is accepted if its entropy is not above it.
  """
  # The threshold begins at 0 and moves before the comparison; the paper leaves this open. If it
  # moved on acceptance alone, it would stay at 0 and accept nothing.
  threshold = record.threshold
  prominent = prominence >= min_prominence
  if prominent:
    threshold = inertia * threshold + (1 - inertia) * entropy
  # A crop is accepted if the networks are no less certain about it than they usually are.
  accepted = int(prominent and entropy <= threshold)
  number = len(record.candidates)
  candidate = Candidate(number, prominence, entropy, threshold, accepted)
  return CropRecord((*record.candidates, candidate))


def foreground_entropy(probs: np.ndarray) -> np.ndarray:
  """Returns -sum p ln p over all pixels and classes of probabilities [B, ...], per image.

  `probs` are those of the classes without the background; there is no (1 - p) term.
  """
  # Sums of thousands of small terms decide near the threshold, so they are added in float64.
  probs = np.asarray(probs, np.float64)
  # p ln p goes to 0 with p; the maximum keeps NumPy from warning about ln 0.
  terms = np.where(probs > 0, probs * np.log(np.maximum(probs, 1e-300)), 0.0)
  return -terms.reshape(len(probs), -1).sum(1)


def marked_fraction(masks: np.ndarray) -> np.ndarray:
  """Returns the cell prominence of masks [B, H, W]: the fraction of foreground pixels."""
  return ((masks > 0) & (masks != IGNORE)).mean((1, 2))


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str | Sequence[str],
  generated: str = '',
  count: int = 64,
  prominence: float = 0.0,
  inertia: float = 0.99,
  union: bool = False,
  max_tries: int = 20,
) -> Figures:
  """Labels crops with the networks of `of`, averaged, and keeps those with low entropy.

  Crops are the view 'crop' of training images, or of generated ones. The likeliest class is the
  new mask. Of each seed it writes images/N.png and masks/N.png of the accepted crops, the record
  candidates.csv, in which a killed stage goes on, and picture.png. It returns crops/candidates,
  crops/accepted, crops/threshold, and crops/prominence in percent.

  Args:
    settings: of this stage.
    folder: of this stage.
    stop: asked after each batch whether to stop.
    of: training stages, whose probabilities are averaged.
    generated: synthesize stage whose images are cropped in place of training images.
    count: accepted crops to reach, for each seed.
    prominence: least fraction of pixels that the mask marks (of generated images the new mask),
      below which a crop is rejected.
    inertia: of the running mean that the entropy must not exceed.
    union: whether what the old mask marks is laid over the new one.
    max_tries: candidates considered for each accepted crop that is asked for, at most.

  Raises:
    UserError: if a checkpoint is missing, or no crop is accepted.
    Stopped: if it was asked to stop; what is done is saved.
  """
  inputs = settings.part(Inputs)
  seeds = settings.part(Seeds)
  # Networks are compiled once and serve all seeds.
  ensemble = Ensemble(folder.parent, of)
  done: dict[int, Figures] = {}
  for seed, seed_folder in run_folder.folders_of_seeds(seeds, folder).items():
    splits = build.splits_of_seed(settings, seed)
    predict_fn, _ = ensemble.predict_fn(seed)
    # By default crops are of the stream that `batch` names: 'labeled' or 'unlabeled'.
    made = NOTHING
    if generated:
      source_folder = run_folder.folders_of_seeds(seeds, folder.parent / generated)[seed]
      made = {'generated': StoredPairs(source_folder)}
    # Exactly one stream, as `check` has made sure.
    ((name, stream),) = build.streams(inputs, splits, seed, made).items()
    label = functools.partial(
      _label, predict_fn, _crops(inputs, name, stream, seed), union, bool(generated)
    )
    for kind in ('images', 'masks'):
      (seed_folder / kind).mkdir(parents=True, exist_ok=True)
    # A killed stage continues from its record: candidates depend on their number alone.
    record = read_record(seed_folder)
    bar = tqdm(total=count, initial=record.accepted, unit=' crops', desc=folder.name)
    # The second condition ends the stage where `count` is out of reach.
    while record.accepted < count and len(record.candidates) < max_tries * count:
      if stop():
        raise Stopped(f'{folder.name}: stopped and saved; the same command goes on.')
      before = record.accepted
      # The record holds whole batches only, so its length gives the number of the next one.
      labeled = label(len(record.candidates) // stream.batch)
      # One after another, because each candidate moves the threshold for the next.
      for i in range(len(labeled.images)):
        record = with_candidate(
          record, float(labeled.prominence[i]), float(labeled.entropy[i]), prominence, inertia
        )
        if record.candidates[-1].accepted and parallel.is_main():
          # Names are the candidates' numbers, as candidates.csv lists them.
          file = f'{record.candidates[-1].candidate:06d}.png'
          images.write_image(seed_folder / 'images' / file, as_uint8(labeled.images[i]))
          images.write_mask(seed_folder / 'masks' / file, labeled.masks[i])
      # Images of a batch that a kill keeps out of the record are written again.
      write_record(seed_folder, record)
      bar.update(record.accepted - before)
    bar.close()
    done[seed] = _finish(seed_folder, record, splits.classes, f'stages.{folder.name}')
  return mean_over_seeds(done)


class _Labeled(NamedTuple):
  """A batch of crops with their new masks, and what decides about them."""

  images: Float[np.ndarray, 'b h w c']
  masks: UInt8[np.ndarray, 'b h w']
  prominence: Float[np.ndarray, ' b']
  entropy: Float[np.ndarray, ' b']


def _label(
  predict_fn: PredictFn,
  crops: CropMaker,
  union: bool,
  by_new_mask: bool,
  number: int,
) -> _Labeled:
  """Labels the crops of a batch; their prominence is of the old masks, or `by_new_mask`."""
  # [B, H, W, C], and twice [B, H, W].
  shown, old, valid = crops(number)
  # Padded pixels are shown to the network but count neither for the entropy nor in the mask.
  probs = np.where(valid[..., None], predict_fn(shown), 0)
  new = np.where(valid, probs.argmax(-1), IGNORE).astype(np.uint8)
  # Generated images have no old mask to measure.
  prominence = marked_fraction(new if by_new_mask else old)
  # Pixels that were annotated stay annotated; the networks only add what the masks lack.
  if union:
    new = np.where((old > 0) & (old != IGNORE), old, new).astype(np.uint8)
  return _Labeled(shown, new, prominence, foreground_entropy(probs[..., 1:]))


def as_uint8(image: np.ndarray) -> np.ndarray:
  """Returns an image in [0, 1] as 0..255."""
  return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _crops(inputs: Inputs, name: str, stream: Stream, seed: int) -> CropMaker:
  """Returns what makes the crops of a batch from a stream."""
  key = jax.random.key(seed)

  @functools.partial(jax.jit, out_shardings=parallel.replicated())
  def make(batch: Any, number: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    # A key for each batch, so that a resumed stage draws the same crops.
    batch_key = jax.random.fold_in(key, number)
    view = make_views.make_views(inputs.views, batch, inputs.crop_size, batch_key)['crop']
    # Zeros of the shape of the mask.
    label = view.label if view.label is not None else 0 * view.valid
    return view.image, label, view.valid

  def crops(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch = parallel.shard({name: stream[number]})
    image, label, valid = make(batch, number)
    return np.asarray(image), np.asarray(label), np.asarray(valid)

  return crops


def read_record(folder: Path) -> CropRecord:
  """Returns what candidates.csv in a folder says; an empty record where there is none."""
  if not (folder / CANDIDATES).exists():
    return CropRecord()
  candidates = []
  with (folder / CANDIDATES).open(newline='') as file:
    for row in csv.DictReader(file):
      candidates.append(
        Candidate(
          int(row['candidate']),
          float(row['prominence']),
          float(row['entropy']),
          float(row['threshold']),
          int(row['accepted']),
        )
      )
  return CropRecord(tuple(candidates))


def write_record(folder: Path, record: CropRecord) -> None:
  """Writes candidates.csv; its numbers read back to the last bit."""
  text = io.StringIO()
  table = csv.writer(text)
  table.writerow(Candidate._fields)
  for candidate in record.candidates:
    number, *values, accepted = candidate
    # repr() is the shortest text that reads back as the same float.
    table.writerow([f'{number:06d}', *map(repr, values), accepted])
  replace_text(folder / CANDIDATES, text.getvalue())


def _finish(folder: Path, record: CropRecord, classes: Sequence[str], where: str) -> Figures:
  """Draws some of the accepted crops, and returns the figures of a seed."""
  if not record.accepted:
    raise UserError(
      f'{where} accepted none of {len(record.candidates)} crops; lower its prominence, or raise '
      f'max_tries.'
    )
  pairs = StoredPairs(folder)
  if parallel.is_main():
    # Evenly spaced from the first accepted crop to the last.
    chosen = np.unique(np.linspace(0, len(pairs) - 1, ROWS).astype(int)).tolist()
    rows = [[pairs[i]['image'], np.asarray(pairs[i]['label'])] for i in chosen]
    names = [pairs[i]['name'] for i in chosen]
    figures.picture(folder / 'picture.png', rows, ['crop', 'new mask'], names, classes=classes)
  fractions = marked_fraction(np.stack([pairs[i]['label'] for i in range(len(pairs))]))
  return {
    'crops/candidates': float(len(record.candidates)),
    'crops/accepted': float(record.accepted),
    'crops/threshold': record.threshold,
    'crops/prominence': float(100 * fractions.mean()),
  }
