"""The left atrium in MRI with late gadolinium enhancement, for networks of two or three dimensions.

Xiong et al. 2021, "A global benchmark of algorithms for segmenting the left atrium": the training
volumes of the challenge of 2018, cropped around the heart as papers on semi-supervised learning
share them.
"""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.datasets import microscopy, nifti
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
    UserError: naming the file that is missing, broken, or of another shape than its mask.
  """
  return nifti.load(
    labeled=microscopy.find_folder(root, 'la_mri', HOW),
    classes=CLASSES,
    num_labeled=labeled,
    test_fraction=test_fraction,
    slices=slices,
    size=size,
    seed=seed,
    draw=draw,
    cache=cache,
  )
