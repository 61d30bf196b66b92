"""What a training starts from: random weights, published ones, or those of another training."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from ssl_jax import build, run_folder
from ssl_jax.data.dataset_stats import DatasetStats
from ssl_jax.errors import UserError
from ssl_jax.inference.trained_networks import TrainedNetwork
from ssl_jax.io.run_log import replace_text
from ssl_jax.settings import Learning, Model, Seeds, Settings
from ssl_jax.stages import ensembles
from ssl_jax.training import pretrained, published_weights
from ssl_jax.types import TrainState

RECORD = 'weights.json'
"""File of a stage that tells what its weights began as."""

Load = Callable[[TrainState], TrainState]
"""Puts weights into a fresh state."""


def check(model: Model) -> None:
  """Finds the weights that `model.pretrained` names, before anything has begun.

  Raises:
    UserError: if there are none, or the network has no backbone for them.
  """
  if model.pretrained is None:
    return
  path = pretrained_path(model)
  if path is not None and path.is_dir():
    run_folder.network_folder(path)


def notes(model: Model) -> list[str]:
  """Returns sentences on weights that a run goes without."""
  if model.pretrained != published_weights.IMAGENET:
    return []
  sentence = published_weights.missing(build.backbone_of(model) or '')
  return [sentence] if sentence else []


def pretrained_path(model: Model) -> Path | None:
  """The file, or the folder of a run, that `model.pretrained` means.

  None where none is named, or where it comes in a package that is not installed.

  Raises:
    UserError: if there is no such file or folder, or the network has no backbone.
  """
  if model.pretrained is None:
    return None
  backbone = build.backbone_of(model)
  if model.pretrained == published_weights.IMAGENET:
    if backbone is None:
      raise UserError(
        f"model.pretrained='imagenet': {model.name} has no backbone with such weights; "
        f'unet_efficientnet, unet_resnet, deeplabv3plus and pspnet have one.'
      )
    return published_weights.find(backbone)
  path = Path(model.pretrained.format(backbone=backbone)).expanduser()
  if not path.exists():
    raise UserError(
      f"There is no {path} (model.pretrained); give 'imagenet', a file of weights, or the folder "
      f'of a run.'
    )
  return path


def initializer(
  settings: Settings, folder: Path, init_from: str, stats: DatasetStats
) -> Callable[[int], Load]:
  """Returns, for a seed, what puts the weights that its training starts from into a fresh state.

  Args:
    settings: of the stage.
    folder: of the stage, where RECORD is written.
    init_from: stage of the same run whose predicting weights it starts from; empty: none.
    stats: of the data set.

  Raises:
    UserError: if the weights cannot be read.
  """
  if init_from:
    return _from_stage(settings, folder.parent / init_from, stats)
  path = pretrained_path(settings.model)
  if path is None:
    return lambda seed: lambda state: state
  if path.is_dir():
    return lambda seed: _from_run(path, seed, folder)
  # Read once here, not once per seed.
  arrays = pretrained.read_arrays(path)
  record = {'file': path.name, 'sha256': hashlib.sha256(path.read_bytes()).hexdigest()}
  replace_text(folder / RECORD, json.dumps(record, indent=1))
  return lambda seed: lambda state: pretrained.with_backbone(state, arrays, str(path))


def _from_stage(settings: Settings, stage: Path, stats: DatasetStats) -> Callable[[int], Load]:
  """The weights of the same seed of an earlier stage, which has the same network."""
  before = run_folder.read_settings(stage)
  # Built with the settings of the earlier stage, which its checkpoints fit.
  network = TrainedNetwork(before, stats)
  folders = run_folder.folders_of_seeds(before.part(Seeds), stage)

  def of_seed(seed: int) -> Load:
    def load(fresh: TrainState) -> TrainState:
      state = network.state(folders[seed], before.checkpoint)
      # Only the weights are taken over; optimizer state and step count begin anew.
      return fresh.starting_from(ensembles.predicting_weights(before.part(Learning), state))

    return load

  return of_seed


def _from_run(run: Path, seed: int, folder: Path) -> Load:
  """What fits of the network of another run, of the same seed where it has that."""
  network_folder = run_folder.network_folder(run)
  same_seed = network_folder.with_name(f'seed_{seed}')
  if network_folder.name.startswith('seed_') and same_seed.is_dir():
    network_folder = same_seed
  before = run_folder.read_settings(network_folder)
  network = TrainedNetwork(before, run_folder.read_stats(network_folder))

  def load(fresh: TrainState) -> TrainState:
    state = network.state(network_folder, before.checkpoint)
    weights = ensembles.predicting_weights(before.part(Learning), state)
    started, rest = pretrained.with_network(fresh, weights, str(network_folder))
    # What is not taken over matters to whoever reads the result.
    record = {'run': str(network_folder), 'step': int(state.step), 'random': list(rest)}
    replace_text(folder / RECORD, json.dumps(record, indent=1))
    kept = f'; {len(rest)} arrays stay random ({", ".join(rest[:3])})' if rest else ''
    print(f'Starts from {network_folder}, step {int(state.step)}{kept}.')
    return started

  return load
