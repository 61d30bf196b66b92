"""A stage that segments the test volumes on their own grids, and says what that costs."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ssl_jax import build, parallel, registry, run_folder
from ssl_jax.data.masks import instance_masks
from ssl_jax.data.masks.instances import compact, to_classes
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.errors import UserError
from ssl_jax.evaluation import instances, organs
from ssl_jax.evaluation.resource_meter import ResourceMeter
from ssl_jax.inference import instances as instance_predictions
from ssl_jax.inference import volumes, window_defaults
from ssl_jax.inference.trained_networks import Ensemble
from ssl_jax.io import nifti
from ssl_jax.io.formats import nifti_geometry
from ssl_jax.io.run_log import replace_text, write_done
from ssl_jax.parsing.stage_list import StageSpec
from ssl_jax.settings import Seeds, Settings
from ssl_jax.stages.comparing.seed_scores import mean_over_seeds
from ssl_jax.stages.labeling.ensembles import check_members
from ssl_jax.stages.learning.progress_log import Journal
from ssl_jax.types import Figures, PredictFn, Source, Splits

INPUT_STAGES = {'of': 'train'}
USES = ('seed', 'num_seeds', 'data', 'count_absent')


def check(spec: StageSpec, earlier: Mapping[str, StageSpec], splits: Splits) -> None:
  """Checks that there are test volumes, and that windows can move over them as asked.

  Raises:
    UserError: if not.
  """
  stage_kwargs = spec.stage_kwargs
  where = f'stages.{spec.name}'
  check_members(spec, earlier)
  _test_volumes(splits, where)
  # At an overlap of 1 a window would never move on.
  if not 0 <= stage_kwargs.get('overlap', 0) < 1 or stage_kwargs.get('batch', 1) < 1:
    raise UserError(f'{where}: overlap is in 0..1 (and below 1), batch at least 1.')
  blend = stage_kwargs.get('blend', 'constant')
  if blend not in window_defaults.BLENDS:
    raise UserError(f'{where}: blend={blend!r} is not one of {", ".join(window_defaults.BLENDS)}.')
  _check_scoring(stage_kwargs, splits.classes[1:], where)
  if splits.instances is not None and stage_kwargs.get('largest'):
    raise UserError(f'{where}: largest=True keeps one object of each class; these are instances.')


def _check_scoring(stage_kwargs: Mapping[str, Any], classes: Sequence[str], where: str) -> None:
  """Raises UserError where `tolerance` or `truth_slices` name no class, or are no lengths."""
  tolerance = stage_kwargs.get('tolerance')
  by_class = tolerance if hasattr(tolerance, 'items') else {}
  for field, names in (('tolerance', by_class), ('truth_slices', stage_kwargs.get('truth_slices'))):
    for name in names or ():
      if name not in classes:
        guess = registry.nearest(str(name), classes)
        raise UserError(f'{where}: {field} names {name!r}, which is no class of the data{guess}.')
  lengths = [*by_class.values()] if by_class else [tolerance]
  for length in lengths:
    if length is not None and not (isinstance(length, int | float) and length > 0):
      raise UserError(f'{where}: tolerance={length!r} is not a length in mm; give one above 0.')


def _test_volumes(splits: Splits, where: str) -> tuple[Source, VolumePreprocessing]:
  """The test volumes, and how they are prepared for the network."""
  # Only data sets of volumes have a preprocessing.
  if splits.preprocessing is None or splits.test is None:
    raise UserError(f'{where} is for test volumes (data.name=nifti), and there are none.')
  return splits.test, VolumePreprocessing(**splits.preprocessing)


def stage(
  settings: Settings,
  folder: Path,
  stop: Callable[[], bool],
  *,
  of: str | Sequence[str],
  overlap: float = window_defaults.OVERLAP,
  blend: str = 'constant',
  batch: int = 1,
  max_voxels: int = 0,
  largest: bool = False,
  tolerance: float | Mapping[str, float] | None = None,
  truth_slices: Sequence[str] = (),
) -> Figures:
  """Segments the test volumes with the networks of each seed, and returns means over them.

  Of each seed it writes masks/NAME.nii.gz, cases.csv, organs.md, and traces/NAME.csv, memory and
  processor use over time. The means are test/dsc and test/nsd in percent, test/hd95/ORGAN in mm
  over the cases that have one, seconds, peak_mib, and the areas under the curves of memory and of
  processor use. A killed stage goes on with the next volume.

  Args:
    settings: of this stage.
    folder: of this stage.
    stop: asked after each volume whether to stop.
    of: the training stage; several are averaged.
    overlap: fraction of a window that neighbors share.
    blend: how overlapping windows are weighted: 'constant' or 'gaussian'.
    batch: windows that are predicted together.
    max_voxels: a volume of more prepared voxels is segmented at coarser ones; 0: only one that
      does not fit into memory.
    largest: whether only the largest connected component of each organ is kept.
    tolerance: mm within which surfaces agree, for the NSD: a number, or a table by class; None, and
      for classes that are not in the table: the shortest side of a voxel.
    truth_slices: classes that are scored only on the slices where the truth has them.

  Of a network of instances it also writes instances/NAME.nii.gz and NAME.csv, and scores them
  volume by volume (test/ap50 and the others of evaluation/instances.py are means over cases).

  Raises:
    UserError: if a checkpoint is missing, or a file cannot be read.
    Stopped: if it was asked to stop; what is done is saved.
  """
  ensemble = Ensemble(folder.parent, of)
  window = ensemble.settings[0].crop_size
  # Windows have the size of the crops that the network was trained on.
  windows = volumes.WindowSettings(window, overlap, blend, batch, max_voxels, largest)
  done: dict[int, Figures] = {}
  for seed, seed_folder in run_folder.folders_of_seeds(settings.part(Seeds), folder).items():
    splits = build.splits_of_seed(settings, seed)
    test, preprocessing = _test_volumes(splits, f'stages.{folder.name}')
    if splits.instances is not None:
      windows = windows._replace(instances=splits.instances['min_size'])
    predict_fn, _ = ensemble.predict_fn(seed)
    for kind in ('masks', 'traces'):
      (seed_folder / kind).mkdir(parents=True, exist_ok=True)
    journal = Journal(seed_folder, range(len(test)))
    # Here the journal passes on indices, and the case is segmented inside the loop.
    for index in journal.through(journal.waiting, stop, folder.name, 'volumes'):
      record = test[index]
      segmented, spacing, line = _segment_case(
        predict_fn, record, preprocessing, windows, seed_folder
      )
      # The mask as its file has it, not resampled: scores are taken on the volume's own grid.
      truth, more = _truth(record, segmented, preprocessing)
      # After the mask and the trace, so that a line means that the case is complete.
      ids = segmented.ids
      scores = organs.organ_scores(
        truth, ids, spacing, splits.classes, tolerance, truth_slices, settings.count_absent
      )
      counts = organs.voxel_counts(truth, ids, splits.classes)
      journal.write(index, line | scores | counts | more)
    rows = list(journal.lines().values())
    _write_cases(seed_folder, rows)
    # Tables are written once, from all lines of the journal.
    table = organs.organ_table(rows, splits.classes)
    replace_text(seed_folder / 'organs.md', table)
    for sentence in organs.table_notes(rows, splits.classes):
      print(f'{folder.name}, seed {seed}: {sentence}')
    done[seed] = _means(rows)
    if len(ensemble.seeds()) > 1:
      write_done(seed_folder, done[seed])
  return mean_over_seeds(done)


def _segment_case(
  predict_fn: PredictFn,
  record: Mapping[str, Any],
  preprocessing: VolumePreprocessing,
  windows: volumes.WindowSettings,
  folder: Path,
) -> tuple[volumes.Segmentation, Sequence[float], dict[str, Any]]:
  """Segments a volume and writes what it found; that, voxel sides in mm, and what it took."""
  name = record['name']
  # Reading and writing are part of the cost, as a user would see it.
  with ResourceMeter() as meter:
    volume = nifti.read_channels(record['file'])
    segmentation = volumes.segment_volume(predict_fn, volume, preprocessing, windows)
    if parallel.is_main():
      nifti.write_labels(folder / 'masks' / f'{name}.nii.gz', segmentation.ids, volume.like)
      if segmentation.instances is not None:
        place = folder / instance_predictions.FOLDER
        place.mkdir(parents=True, exist_ok=True)
        ids = segmentation.instances
        instance_predictions.write_volume_labels(place / f'{name}.nii.gz', ids, volume)
        instance_predictions.write_volume_table(place / f'{name}.csv', ids, volume)
  _write_trace(folder / 'traces' / f'{name}.csv', meter)
  line = {'name': name, 'coarser': int(segmentation.coarser), **meter.cost}
  return segmentation, volume.spacing, line


def _truth(
  record: Mapping[str, Any],
  segmented: volumes.Segmentation,
  preprocessing: VolumePreprocessing,
) -> tuple[np.ndarray, dict[str, float]]:
  """The true class ids of a volume on its grid and, of instances, how well these match."""
  mask = Path(record['mask_file'])
  # Of a volume of several files the first tells where its voxels lie.
  files = record['file']
  image = Path(files if isinstance(files, str) else files[0])
  of_instances = segmented.instances is not None
  stored = instance_masks.read_volume_ids(mask) if of_instances else record['read_mask'](mask)
  ids = nifti_geometry.on_grid_of(
    stored,
    (nifti_geometry.load_header(mask), mask),
    (nifti_geometry.load_header(image), image),
    preprocessing.ignore_affine,
  )
  if segmented.instances is None:
    return ids, {}
  matches = instances.match(ids, segmented.instances)
  return to_classes(compact(ids)), instances.scores([matches])


def _means(rows: Sequence[Mapping[str, Any]]) -> Figures:
  """Means over the cases that have a figure; an infinite distance is in none."""
  means = {}
  for name in _columns(rows):
    if name == 'name' or name.startswith((organs.TRUE_VOXELS, organs.PREDICTED_VOXELS)):
      continue
    # A surface distance is infinite where an organ was missed altogether; the DSC tells of those.
    values = [row[name] for row in rows if name in row and np.isfinite(row[name])]
    if values:
      # Costs are no scores of the test split, so they have no prefix.
      means[name if name in organs.COSTS else f'test/{name}'] = float(np.mean(values))
  return means


def _write_trace(path: Path, meter: ResourceMeter) -> None:
  lines = ['seconds,mib,processor_percent']
  for seconds, mib, percent in meter.trace:
    lines.append(f'{seconds:.2f},{mib:.1f},{percent:.0f}')
  replace_text(path, '\n'.join([*lines, '']))


def _write_cases(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
  text = io.StringIO()
  # An organ that a case does not have leaves its fields empty.
  lines = csv.DictWriter(text, _columns(rows))
  lines.writeheader()
  lines.writerows(rows)
  replace_text(folder / 'cases.csv', text.getvalue())


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """The figures that any case has, those of all organs in the order of the first that has them."""
  return list(dict.fromkeys(name for row in rows for name in row))
