"""A stage in which an ensemble labels crops, and keeps those of which it is sure enough."""

import csv
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from ssl_jax import build, parallel
from ssl_jax.data.replay_buffer import FILE, Pairs
from ssl_jax.errors import Stopped, UserError
from ssl_jax.evaluation import figures
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.io import images
from ssl_jax.io.run_log import replace_text
from ssl_jax.stages.ensembles import check_members
from ssl_jax.stages.seed_scores import mean_over_seeds
from ssl_jax.types import IGNORE, NOTHING, Splits, StageSpec
from ssl_jax.views import make_views

INPUT_STAGES = {'of': 'train', 'generated': 'synthesize'}
COLUMNS = ('candidate', 'prominence', 'entropy', 'threshold', 'accepted')
SHOWN = 4


def check(plan: StageSpec, earlier: Mapping[str, StageSpec], found: Splits) -> None:
  """Raises UserError where there are no crops to label, or a limit makes no sense."""
  own, where = plan.own, f'stages.{plan.name}'
  check_members(plan, earlier)
  if [*plan.config['views']] != ['crop'] or len(plan.config['batch']) != 1:
    raise UserError(f"{where} labels one view, called 'crop', of one stream; give it no other.")
  if ('generated' in plan.config['batch']) != bool(own.get('generated')):
    raise UserError(f'{where}: generated (a synthesize stage) and batch.generated need each other.')
  for knob, low, high in (('prominence', 0, 1), ('inertia', 0, 1), ('count', 1, 10**6)):
    if not low <= own.get(knob, high) <= high:
      raise UserError(f'{where}: {knob}={own[knob]} is not in {low}..{high}.')
  if own.get('union') and own.get('generated'):
    raise UserError(f'{where}: generated images have no mask of which to make a union.')


class State(NamedTuple):
  """What became of the candidates so far: all that the next one depends on."""

  rows: tuple[tuple, ...] = ()  # COLUMNS

  @property
  def threshold(self) -> float:
    return self.rows[-1][3] if self.rows else 0.0

  @property
  def accepted(self) -> int:
    return sum(row[4] for row in self.rows)


def judged(
  state: State,
  prominence: float | int,
  entropy: float | int,
  least: float | int,
  inertia: float | int,
) -> State:
  """The state after one more candidate (Hann 2021, sections 4.2 and 4.4).

  A candidate below `least` prominence is left out at once. Any other moves the threshold,
  T = inertia T + (1 - inertia) entropy, and is accepted where its entropy is not above it.
  """
  threshold, passed = state.threshold, prominence >= least
  if passed:
    threshold = inertia * threshold + (1 - inertia) * entropy
  row = (len(state.rows), prominence, entropy, threshold, int(passed and entropy <= threshold))
  return State((*state.rows, row))


def entropy(probs: np.ndarray) -> np.ndarray:
  """-sum X ln X over the pixels of maps [B, ...] of what is no background (no 1 - X term)."""
  sure = np.asarray(probs, np.float64)
  terms = np.where(sure > 0, sure * np.log(np.maximum(sure, 1e-300)), 0.0)
  return -terms.reshape(len(sure), -1).sum(1)


def stage(
  config: Mapping,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str | Sequence[str],
  generated: str = '',
  count: int = 64,
  prominence: float = 0.0,
  inertia: float = 0.99,
  union: bool = False,
  most: int = 20,
) -> dict[str, float]:
  """Writes images/N.png and masks/N.png of `count` accepted crops for each seed.

  Crops are the view 'crop' of training images, or of a synthesize stage's `generated` ones. One
  whose mask (of a generated image: the new mask) marks less than `prominence` of its pixels is
  passed over. The networks of the training stages `of` are averaged and the likeliest class is the
  new mask, with what the old one marks laid over it where `union` asks for it. The entropy of the
  probabilities must not exceed a running mean of the given `inertia`. At most `most` candidates are
  looked at for each that is asked for. candidates.csv is the record; a killed stage goes on in it.
  """
  found, ensemble, done = build.splits(config['data']), Ensemble(folder.parent, of), {}
  for seed, own in build.folders_of_seeds(config, folder).items():
    answer, _ = ensemble.at(seed)
    source = build.folders_of_seeds(config, folder.parent / generated)[seed]
    more = {'generated': Pairs(source)} if generated else NOTHING
    (stream,) = build.streams(config, found, seed, more).values()
    crops = _crops(config, {next(iter(config['batch'])): stream}, seed)
    for kind in ('images', 'masks'):
      (own / kind).mkdir(parents=True, exist_ok=True)
    state = read(own)
    bar = tqdm(total=count, initial=state.accepted, unit=' crops', desc=folder.name)
    while state.accepted < count and len(state.rows) < most * count:
      if stop():
        raise Stopped(f'{folder.name}: stopped and saved; the same command goes on.')
      before = state
      shown, old, valid = crops(len(state.rows) // stream.batch)
      probs = np.where(valid[..., None], answer(shown), 0)
      new = np.where(valid, probs.argmax(-1), IGNORE).astype(np.uint8)
      marked = marked_share(new if generated else old)
      if union:
        new = np.where((old > 0) & (old != IGNORE), old, new).astype(np.uint8)
      for i, value in enumerate(entropy(probs[..., 1:])):
        state = judged(state, float(marked[i]), float(value), prominence, inertia)
        if state.rows[-1][4]:
          name = f'{state.rows[-1][0]:06d}'
          if parallel.is_main():
            images.write_image(own / 'images' / f'{name}.png', as_uint8(shown[i]))
            images.write_mask(own / 'masks' / f'{name}.png', new[i])
      write(own, state)
      bar.update(state.accepted - before.accepted)
    bar.close()
    done[seed] = _finish(own, state, f'stages.{folder.name}')
  return mean_over_seeds(done)


def marked_share(masks: np.ndarray) -> np.ndarray:
  """The cell prominence of masks [B, H, W]: the share of their pixels that is marked."""
  return ((masks > 0) & (masks != IGNORE)).mean((1, 2))


def as_uint8(image: np.ndarray) -> np.ndarray:
  """[0, 1] -> 0..255."""
  return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _crops(config: Mapping, streams: Mapping, seed: int) -> Callable[[int], tuple]:
  """Batch by number -> images, masks (0 where there are none) and what is no padding."""
  key = jax.random.key(seed)

  @functools.partial(jax.jit, out_shardings=parallel.replicated())
  def make(batch, number):
    own = jax.random.fold_in(key, number)
    view = make_views.make_views(config['views'], batch, config['size'], own)['crop']
    label = view.label if view.label is not None else 0 * view.valid
    return view.image, label, view.valid

  def crops(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    batch = {name: stream[number] for name, stream in streams.items()}
    return tuple(map(np.asarray, make(parallel.shard(batch), number)))

  return crops


def read(folder: Path) -> State:
  """What the record in a folder says of the candidates so far."""
  if not (folder / FILE).exists():
    return State()
  with (folder / FILE).open(newline='') as file:
    rows = [[float(value) for value in row] for row in [*csv.reader(file)][1:]]
  return State(tuple((int(row[0]), *row[1:4], int(row[4])) for row in rows))


def write(folder: Path, state: State) -> None:
  """Writes the record; its numbers read back to the last bit."""
  text = io.StringIO()
  rows = [(f'{row[0]:06d}', *map(repr, row[1:4]), row[4]) for row in state.rows]
  csv.writer(text).writerows([COLUMNS, *rows])
  replace_text(folder / FILE, text.getvalue())


def _finish(folder: Path, state: State, where: str) -> dict[str, float]:
  if not state.accepted:
    raise UserError(
      f'{where} accepted none of {len(state.rows)} crops; lower its prominence, or let it look at '
      f'more (most).'
    )
  pairs = Pairs(folder)
  if parallel.is_main():
    chosen = np.unique(np.linspace(0, len(pairs) - 1, SHOWN).astype(int))
    rows = [[pairs[i]['image'], pairs[i]['label']] for i in chosen]
    figures.picture(folder / 'picture.png', rows, ['crop', 'new mask'])
  shares = marked_share(np.stack([pairs[i]['label'] for i in range(len(pairs))]))
  return {
    'crops/candidates': float(len(state.rows)),
    'crops/accepted': float(state.accepted),
    'crops/threshold': state.threshold,
    'crops/prominence': float(100 * shares.mean()),
  }
