"""ACDC: slices of the heart in cine MRI, two volumes of each of 100 patients.

Bernard et al. 2018, in the split that papers on semi-supervised learning share: 70 patients to
learn from, 10 for validation, 20 for the test. A network of two dimensions learns from slices;
volumes are predicted slice by slice and scored whole.
"""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data.mask_encoding import class_ids
from ssl_jax.data.selection import draws
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import Case, FileDigests, default_cache
from ssl_jax.data.volumes.volume_splits import list_pairs, make_splits, prepare_roles
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.types import Draw, Splits

HOW = (
  'put the volumes (patientNNN_frameMM.nii.gz) into images/, their masks under the same names into '
  'masks/, the lists of patients train.txt, val.txt and test.txt into splits/, and give the folder '
  'that holds the three as --config.data.root=FOLDER.'
)
CLASSES = ('background', 'right ventricle', 'myocardium', 'left ventricle')
LISTS = ('train', 'val', 'test')


def load(
  *,
  root: str | Path | None = None,
  labeled: float | int = 3,
  val: float | int = 1.0,
  size: Sequence[int] | None = (256, 256),
  seed: int = 0,
  draw: int = 0,
  cache: str | Path | None = None,
) -> Splits:
  """Loads slices to learn from, and volumes of val and test.

  Args:
    root: holds images/, masks/ and splits/; or the folder `acdc` that does.
    labeled: how many of the training patients are labeled: a number, or a fraction. All slices of
      the others are unlabeled, and their masks only judge pseudo-labels.
    val: how many of the validation patients are used.
    size: rows and columns that each slice is resized to for the network; None: as it is.
    seed: of the draws.
    draw: number of the repetition: 0 labels the first patients of train.txt, as the papers do, each
      other one draws patients of the list.
    cache: the folder that keeps what is preprocessed; None: ~/.cache/ssl_jax/volumes.

  Raises:
    UserError: if a file is missing, a patient is in two lists, or an amount impossible.
  """
  preprocessing = VolumePreprocessing(
    # Minimum and maximum of each volume become 0 and 1.
    percentiles=(0.0, 100.0),
    clip=True,
    slices=True,
    size=None if size is None else tuple(size),
  )
  preprocessing.check()
  folder = microscopy.find_folder(root, 'acdc', HOW)
  patients = {name: _read_list(folder / 'splits' / f'{name}.txt') for name in LISTS}
  _check_apart(patients)
  training = patients['train']
  # Draw 0 is the published order.
  if draw:
    training = [training[i] for i in draws.draw_order(len(training), seed, draw)]
  count = microscopy.count_images(labeled, len(training), 'data.labeled')
  of_val = microscopy.count_images(val, len(patients['val']), 'data.val', at_least=0)
  roles = {
    'labeled': training[:count],
    'unlabeled': training[count:],
    'val': patients['val'][:of_val],
    'test': patients['test'],
  }
  with FileDigests(Path(cache) if cache else default_cache()) as digests:
    volumes_of: dict[str, list[Case]] = {}
    for case in list_pairs(folder, 'root', digests):
      volumes_of.setdefault(_patient(case.name), []).append(case)
    cases = {}
    for role, names in roles.items():
      for name in names:
        if name not in volumes_of:
          raise UserError(f'{folder / "images"} has no volume of {name}; {HOW}')
      cases[role] = [case for name in names for case in volumes_of[name]]
    prepared, notes = prepare_roles(cases, preprocessing, digests, class_ids(CLASSES))
  test = prepared['test']
  return make_splits(
    prepared,
    preprocessing,
    CLASSES,
    judged=True,
    notes=[f'labeled patients: {", ".join(roles["labeled"][:10])}', *notes],
    draw=Draw(
      draws.pool_overlap(count, len(training)),
      # The interval counts patients, each of which has two volumes.
      groups={case.name: _patient(case.name) for case in test},
    ),
  )


def _patient(name: str) -> str:
  """The patient of a volume: patient001 of patient001_frame12."""
  return name.partition('_')[0]


def _read_list(path: Path) -> list[str]:
  """The patients of a list, one a line, in its order."""
  if not path.is_file():
    raise UserError(f'{path} is missing; {HOW}')
  return path.read_text().split()


def _check_apart(patients: dict[str, list[str]]) -> None:
  """Raises UserError where a patient is named twice, in one list or in two."""
  list_of: dict[str, str] = {}
  for name, listed in patients.items():
    for patient in listed:
      if patient in list_of:
        raise UserError(
          f'{patient} is named in splits/{list_of[patient]}.txt and again in splits/{name}.txt; '
          'each patient belongs into one list, once.'
        )
      list_of[patient] = name
