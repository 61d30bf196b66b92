"""What the folders of a data set hold beside the files that are read."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from ssl_jax.data.image_mask_pairs import subfolder, unlabeled_folder
from ssl_jax.io.folders import listing
from ssl_jax.io.folders.listing import Kind


def left_out(
  labeled: Iterable[str | Path | None], unlabeled: str | Path | None, kinds: Mapping[str, Kind]
) -> list[str]:
  """Returns a note for each folder in which there is more than is read.

  Args:
    labeled: folders that hold the folders of `kinds`, of labeled, val and test; None: not given.
    unlabeled: folder of unlabeled images or volumes, if there is one.
    kinds: what lies in each folder, as in {'images': IMAGES, 'masks': IMAGES}.

  Raises:
    UserError: if a folder is missing.
  """
  folders = {}
  for folder in labeled:
    if folder:
      for name, kind in kinds.items():
        folders[subfolder(Path(folder), name, 'labeled', f'make a folder {name}/')] = kind
  if unlabeled:
    folders[unlabeled_folder(unlabeled)] = kinds['images']
  return listing.notes(folders)
