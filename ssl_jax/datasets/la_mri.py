"""The left atrium in MRI with late gadolinium enhancement, for networks of two or three dimensions.

Xiong et al. 2021, "A global benchmark of algorithms for segmenting the left atrium": the training
volumes of the challenge of 2018, cropped around the heart as papers on semi-supervised learning
share them.
"""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data.mask_encoding import class_ids
from ssl_jax.data.selection import draws
from ssl_jax.data.volume_preprocessing import VolumePreprocessing
from ssl_jax.data.volume_source import FileDigests, default_cache
from ssl_jax.data.volumes.volume_splits import list_pairs, make_splits, prepare_roles
from ssl_jax.datasets import microscopy
from ssl_jax.errors import UserError
from ssl_jax.types import Splits

HOW = (
  'put the volumes into images/ and their masks, under the same names, into masks/, both as '
  '.nii.gz, and give the folder that holds the two as --config.data.root=FOLDER.'
)
CLASSES = ('background', 'left atrium')


def load(
  *,
  root: str | Path | None = None,
  labeled: int | None = None,
  test_fraction: float | int = 0.25,
  slices: bool = True,
  size: Sequence[int] | None = None,
  seed: int = 0,
  draw: int = 0,
  cache: str | Path | None = None,
) -> Splits:
  """Loads labeled and unlabeled volumes, or their slices, and volumes for the test.

  Args:
    root: holds images/ and masks/; or the folder `la_mri` that does.
    labeled: how many of the training volumes keep their masks; None: all. The others are unlabeled,
      and their masks only judge pseudo-labels.
    test_fraction: of the volumes, kept for the test; repetitions are a cross-validation.
    slices: whether a network of two dimensions learns from slices. Volumes of the test are
      predicted slice by slice and scored whole.
    size: rows and columns that each slice is resized to for the network; None: as it is.
    seed: of the draws.
    draw: number of the repetition.
    cache: the folder that keeps what is preprocessed; None: ~/.cache/ssl_jax/volumes.

  Raises:
    UserError: naming the file that is missing or broken, or the amount that is impossible.
  """
  preprocessing = VolumePreprocessing(
    percentiles=(0.5, 99.5),
    # The brightest voxels stay bright; else they would become 0, as outside of a window of a CT.
    clip=True,
    slices=slices,
    size=None if size is None else tuple(size),
  )
  preprocessing.check()
  folder = microscopy.find_folder(root, 'la_mri', HOW)
  with FileDigests(Path(cache) if cache else default_cache()) as digests:
    listed = list_pairs(folder, 'root', digests)
    if not 0 < test_fraction < 1 or len(listed) < 2:
      raise UserError(
        f'data.test_fraction={test_fraction} leaves none of {len(listed)} volumes to learn from; '
        'give a fraction of 0 to 1, or more volumes.'
      )
    tested = set(draws.fold_of_draw(len(listed), test_fraction, seed, draw))
    # In the order of the draw, so that the volumes of fewer labels are among those of more.
    order = draws.draw_order(len(listed), seed, draw)
    training = [listed[i] for i in order if i not in tested]
    amount = 1.0 if labeled is None else labeled
    count = microscopy.count_images(amount, len(training), 'data.labeled')
    cases = {
      'labeled': training[:count],
      'unlabeled': training[count:],
      'val': [],
      'test': [listed[i] for i in sorted(tested)],
    }
    prepared, notes = prepare_roles(cases, preprocessing, digests, class_ids(CLASSES))
  names = [case.name for case in cases['test']]
  return make_splits(
    prepared,
    preprocessing,
    CLASSES,
    judged=True,
    notes=notes,
    draw=draws.folds_draw([case.name for case in listed], names, names),
  )
