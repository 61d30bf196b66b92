"""Orientation tags (EXIF, TIFF) of images and masks: which way up a mask was drawn.

Viewers turn an image as its tag says; ImageJ and most code of Python do not. A mask without a tag
may have been drawn on either. Where the sizes tell, they decide; the network sees upright images.
"""

from collections.abc import Sequence
from pathlib import Path

from ssl_jax.data.image_mask_pairs import ImageFile
from ssl_jax.errors import UserError
from ssl_jax.io import image_decoding, images
from ssl_jax.io.formats import stored_image

AUTO, TAG, STORED = 'auto', 'tag', 'stored'
CHOICES = (AUTO, TAG, STORED)
"""How masks of turned images lie: as the sizes show; upright; or on the pixels as stored."""

EXIF_MARKS = (b'eXIf', b'Raw profile type', b'tiff:Orientation')
"""Bytes without one of which a PNG has no orientation."""


def settle(
  files: dict[str, list[ImageFile]], orientation: str = AUTO
) -> tuple[dict[str, list[ImageFile]], list[str]]:
  """Finds for each mask which way up it lies; returns the files with it, by role, and notes.

  Args:
    files: by role, with masks or without.
    orientation: one of CHOICES, for masks whose size leaves it open.

  Raises:
    UserError: naming a file, if an image is turned by its tag, its mask is not, and neither sizes
      nor `orientation` tell what the mask was drawn on.
  """
  if orientation not in CHOICES:
    raise UserError(f'data.orientation={orientation!r} is not one of {", ".join(CHOICES)}.')
  tagged = {
    role: [file if file.mask is None else _with_tag(file) for file in of_role]
    for role, of_role in files.items()
  }
  # A mask with the tag of its image is turned alike, however it was drawn.
  unclear = [
    file
    for of_role in tagged.values()
    for file in of_role
    if file.mask and file.header.orientation != file.mask_orientation
  ]
  if not unclear:
    return tagged, []
  # By path, as names may repeat in other roles.
  fits = {file.image: _fitting(file) for file in unclear}
  shown = {fit for fit in fits.values() if fit}
  form = orientation if orientation != AUTO else next(iter(shown)) if len(shown) == 1 else ''
  open_files = [file for file in unclear if not fits[file.image]]
  if open_files and not form:
    raise UserError(_question(open_files[0]))
  chosen = {image: fit or form for image, fit in fits.items()}
  settled = {
    role: [file._replace(mask_stored=chosen.get(file.image) == STORED) for file in of_role]
    for role, of_role in tagged.items()
  }
  how = 'as their sizes show' if not open_files else f'as data.orientation={form!r} says'
  if open_files and orientation == AUTO:
    how = f'as the sizes of other masks show (data.orientation={form!r})'
  return settled, _notes(unclear, chosen, how)


def _with_tag(file: ImageFile) -> ImageFile:
  """The file with the orientation tag of its mask."""
  assert file.mask is not None
  data = images.read_bytes(file.mask)
  # The header of a PNG takes as long as its pixels, and nearly no mask has the tag.
  if data[:4] == image_decoding.PNG_MAGIC and not any(mark in data for mark in EXIF_MARKS):
    return file
  if data[:4] not in image_decoding.TIFF_MAGIC and data[:4] != image_decoding.PNG_MAGIC:
    return file  # a BMP has no tags, and masks of other formats are refused where they are read
  header = image_decoding.decode_header(data, str(file.mask))
  return file._replace(mask_orientation=header.orientation)


def _fitting(file: ImageFile) -> str:
  """TAG or STORED where only this one makes the sizes equal; '' where both do, or neither."""
  assert file.mask is not None
  mask = images.read_header(file.mask)
  upright = (file.header.height, file.header.width)
  fits_upright = (mask.height, mask.width) == upright
  # Turning by the tag a second time exchanges height and width again.
  stored = stored_image.upright_size(*upright, file.header.orientation)
  mask_stored = stored_image.upright_size(mask.height, mask.width, mask.orientation)
  fits_stored = mask_stored == stored
  if fits_upright == fits_stored:
    # Neither: the check of sizes will say so.
    return '' if fits_upright else TAG
  return TAG if fits_upright else STORED


def _question(file: ImageFile) -> str:
  mask = Path(str(file.mask)).name
  return (
    f'{file.image} has the orientation tag {file.header.orientation} and its mask {mask} has '
    f'{file.mask_orientation} (1: none), and their sizes do not tell how the mask was drawn; set '
    "data.orientation='tag' if masks lie on the images as viewers show them (turned by the tag), "
    "or data.orientation='stored' if on the pixels as stored (as ImageJ shows them)."
  )


def _notes(unclear: Sequence[ImageFile], chosen: dict[Path, str], how: str) -> list[str]:
  """A sentence for each form that masks have."""
  notes = []
  for form, meaning in (
    (STORED, 'were drawn on the pixels as stored, and are turned with their images'),
    (TAG, 'lie on the upright images'),
  ):
    names = [file.image.name for file in unclear if chosen[file.image] == form]
    if names:
      more = f' and {len(names) - 1} more' if len(names) > 1 else ''
      notes.append(
        f'{names[0]}{more}: turned by the orientation tag, which the masks lack; the masks '
        f'{meaning}, {how}'
      )
  return notes
