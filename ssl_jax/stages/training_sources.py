"""What a training stage sees: the same data as when it began, and what earlier stages made."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ssl_jax import build
from ssl_jax.data import dataset_stats, pseudo_labels
from ssl_jax.data import stream as data
from ssl_jax.data.replay_buffer import Pairs, ReplayBuffer
from ssl_jax.errors import UserError
from ssl_jax.io.run_log import begun, replace_text
from ssl_jax.types import Source, Splits, StageSpec


def check_images(config: Mapping, found: Splits) -> None:
  """Raises UserError where views are made of images that there are not, or of another size."""
  for name, recipe in config['views'].items():
    if recipe['of'] == 'unlabeled' and found.unlabeled is None:
      raise UserError(
        f'There are no unlabeled images, of which the view {name!r} is made; give some as '
        f'--config.data.unlabeled=..., or take the view and its methods away.'
      )
  space = found.labeled[0]['image'].ndim - 1
  if len(config['size']) != space:
    raise UserError(f'size={config["size"]} has not {space} sides, as the images have.')


def check_made(plan: StageSpec) -> None:
  """Raises UserError where streams of what stages made, and batch sizes, lack each other."""
  batch, own, where = plan.config['batch'], plan.own, f'stages.{plan.name}'
  if ('pseudo' in batch) != bool(own.get('pseudo') or 'pseudo' in own.get('replay', {})):
    raise UserError(f'{where}: pseudo (stages that wrote masks) and batch.pseudo need each other.')
  for stream in own.get('replay', {}):
    if stream not in batch or stream in ('labeled', 'unlabeled'):
      raise UserError(f'{where}: replay={stream} is a stream of its own and needs batch.{stream}.')
  if own.get('buffer', 1) < 1 or not 0 <= own.get('renew', 0) <= 1:
    raise UserError(f'{where}: buffer is at least 1 pair, and renew a probability in 0..1.')


def made(
  config: Mapping,
  found: Splits,
  seed: int,
  drawn: int,
  pseudo: Sequence[Path],
  replay: Mapping[str, Path],
  buffer: int,
  renew: float | int,
) -> dict[str, Source]:
  """The sources, by stream, that earlier stages made for a seed.

  `pseudo` are stages' folders with masks of unlabeled images, `replay` those with pairs that come
  out of a buffer of so many, of which a draw renews one with that probability; `drawn` seeds it.
  """

  def of_seed(stage: Path) -> Path:
    return build.folders_of_seeds(config, stage)[seed]

  sources = {}
  if pseudo:
    sources['pseudo'] = pseudo_labels.PseudoLabeled(
      found.unlabeled, [of_seed(stage) for stage in pseudo]
    )
  for stream, stage in replay.items():
    draws = config['steps'] * config['batch'][stream]
    own = data.stream_seed(drawn, f'replay {stream}')
    sources[stream] = ReplayBuffer(Pairs(of_seed(stage)), buffer, renew, draws, own)
  return sources


def same_data(folder: Path, facts: dataset_stats.DatasetStats) -> None:
  """Keeps what was found in the data; a resumed run must find the same."""
  path, now = folder / 'data.json', json.loads(json.dumps(facts._asdict()))
  if not path.exists() or not begun(folder):
    replace_text(path, json.dumps(now, indent=1))
    return
  then = json.loads(path.read_text())
  for key, value in now.items():
    before = then.get(key, dataset_stats.DatasetStats._field_defaults.get(key))
    if before != value:
      raise UserError(
        f'The data of {folder} have changed since its training began: {key} was {before}, '
        f'now it is {value}; restore the images or start in a new --workdir.'
      )
