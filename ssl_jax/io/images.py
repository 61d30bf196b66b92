"""Image and mask files in and out, and pictures of them for people."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8
from PIL import Image

from ssl_jax.errors import UserError
from ssl_jax.io import atomic, image_decoding
from ssl_jax.io.image_decoding import Header
from ssl_jax.types import IGNORE

EXTENSIONS = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')

# Okabe and Ito's colours, which people with any colour vision tell apart, then six of Tol's muted
# ones, so that thirteen organs differ; background has none.
PALETTE = np.array(
  [
    (0, 0, 0),
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (51, 34, 136),
    (17, 119, 51),
    (153, 153, 51),
    (136, 34, 85),
    (204, 102, 119),
    (221, 204, 119),
  ],
  np.uint8,
)
GREY = np.array((128, 128, 128), np.uint8)


def list_images(folder: str | Path) -> list[Path]:
  """Lists a folder's image files by name, hidden files left out.

  Raises UserError where the folder is missing or holds no image.
  """
  folder = Path(folder)
  if not folder.is_dir():
    raise UserError(f'The folder {folder} does not exist; check the path.')
  found = [p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and p.name[0] != '.']
  if not found:
    raise UserError(f'{folder} holds no images; put {", ".join(EXTENSIONS)} files in it.')
  return sorted(p for p in found if p.is_file())


def read_bytes(path: str | Path) -> bytes:
  """Reads a file whole; raises UserError where it cannot be."""
  try:
    return Path(path).read_bytes()
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}); check the path.') from error


def read_header(path: str | Path) -> Header:
  """Reads an image file's header; see decode_header."""
  return decode_header(read_bytes(path), str(path))


def decode_header(data: bytes, name: str) -> Header:
  """Tells the height, width, channels and dtype that decode_image would give, without decoding.

  Raises UserError naming the file where its header is broken or its end is missing.
  """
  return image_decoding.header(data, name)


def read_image(path: str | Path) -> Num[np.ndarray, 'h w c']:
  """Reads a PNG, JPEG, BMP or TIFF file; see decode_image."""
  return decode_image(read_bytes(path), str(path))


def decode_image(data: bytes, name: str) -> Num[np.ndarray, 'h w c']:
  """Decodes an image file's bytes to [H, W, C], C 1 or 3, uint8, uint16 or float32.

  Upright by EXIF, alpha dropped, palettes as RGB, 1-bit as 0 and 255; signed, 32-bit and floating
  samples become float32. Raises UserError naming the file where it is corrupt, cut short, a stack,
  or has another number of channels.
  """
  pixels, palette = image_decoding.raw(data, name)
  if palette is not None:
    pixels = palette[np.minimum(pixels, len(palette) - 1)]
  if pixels.ndim == 2:
    pixels = pixels[..., None]
  if pixels.shape[-1] not in (1, 2, 3, 4):
    raise UserError(
      f'{name} has {pixels.shape[-1]} channels and this needs grey or RGB; save it as one of them.'
    )
  pixels = pixels[..., : 1 if pixels.shape[-1] <= 2 else 3]  # the second or fourth is alpha
  if pixels.dtype not in (np.uint8, np.uint16):
    pixels = pixels.astype(np.float32)
    if not np.isfinite(pixels).all():
      raise UserError(f'{name} holds values that are not numbers (NaN or infinite); replace them.')
  return np.ascontiguousarray(pixels)


def read_mask(path: str | Path) -> Integer[np.ndarray, 'h w']:
  """Reads a mask as the whole numbers [H, W] that its file holds; a palette's are its indices.

  Raises UserError where it is a JPEG, coloured, or not of whole numbers.
  """
  data = read_bytes(path)
  if data[:2] == image_decoding.JPEG_MAGIC:
    raise UserError(f'{path} is a JPEG, which alters mask values; save masks as PNG or TIFF.')
  pixels, _ = image_decoding.raw(data, str(path))
  pixels = _one_channel(pixels, str(path))
  if pixels.dtype.kind == 'f':
    whole = np.nan_to_num(pixels, nan=0.5).astype(np.int64)
    if not np.array_equal(whole, pixels):
      raise UserError(f'{path} holds fractions and a mask needs whole numbers; save class ids.')
    pixels = whole
  shallow = {2: 85, 4: 17}  # Pillow spreads 2- and 4-bit grey over 0..255; ids must not be
  if data[:4] == b'\x89PNG' and data[25] == 0 and data[24] in shallow:
    pixels = pixels // shallow[data[24]]
  return pixels


def _one_channel(pixels: np.ndarray, name: str) -> np.ndarray:
  if pixels.ndim == 2:
    return pixels
  colours = pixels[..., : 1 if pixels.shape[-1] <= 2 else 3]
  if (colours != colours[..., :1]).any():
    raise UserError(
      f'{name} is a coloured picture, not a mask; save it as one channel of class ids '
      '(0 = background).'
    )
  return np.ascontiguousarray(colours[..., 0])


def write_mask(path: str | Path, mask: Integer[np.ndarray, 'h w']) -> None:
  """Writes class ids 0..255 as an 8-bit grey PNG, plain, so that every tool reads the ids."""
  mask = np.asarray(mask)
  if mask.min(initial=0) < 0 or mask.max(initial=0) > 255:
    raise UserError(f'{path} cannot hold class ids outside 0..255; this mask has {mask.max()}.')
  with atomic.whole(path) as part:
    Image.fromarray(mask.astype(np.uint8)).save(part, format='PNG')


def write_image(path: str | Path, image: UInt8[np.ndarray, 'h w c']) -> None:
  """Writes an 8-bit grey or RGB image as PNG."""
  with atomic.whole(path) as part:
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(part, format='PNG')


def to_channels(image: np.ndarray, channels: int, name: str = 'an image') -> np.ndarray:
  """Makes a grey image RGB by repeating it, or an RGB one of equal channels grey.

  Raises UserError where colour would be lost.
  """
  if image.shape[-1] == channels:
    return image
  if image.shape[-1] == 1:
    return np.repeat(image, channels, axis=-1)
  if (image != image[..., :1]).any():
    raise UserError(f'{name} is in colour but the network was trained on grey; convert it to grey.')
  return image[..., :1]


def rescale(
  image: Num[np.ndarray, 'h w c'],
  intensity: tuple[float | int, float | int] | None,
  name: str = 'an image',
) -> Float[np.ndarray, 'h w c']:
  """Maps raw values to float32 in [0, 1]: 8-bit by 255, others by the data set's intensity range.

  Raises UserError for a 16-bit or floating image where no range is known (8-bit training images).
  """
  if image.dtype == np.uint8:
    return image.astype(np.float32) / 255
  if intensity is None:
    raise UserError(
      f'{name} is not 8-bit but the training images were, so its brightness range is unknown; '
      'convert it to 8-bit as they were.'
    )
  low, high = intensity
  return np.clip((image.astype(np.float32) - low) / (high - low), 0, 1)


def resized(image: np.ndarray, size: int | Sequence[int], smooth: bool) -> np.ndarray:
  """An image or mask [H, W, ...] of `size` (or as a square): bilinear (means of areas), or nearest.

  Images are uint8, or float32 of any number of channels; masks are uint8.
  """
  kind = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
  height, width = (size, size) if isinstance(size, int) else size

  def one(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), kind))

  if image.ndim == 3 and (image.dtype != np.uint8 or image.shape[-1] == 1):
    return np.stack([one(np.ascontiguousarray(image[..., c])) for c in range(image.shape[-1])], -1)
  return one(image)


def to_uint8(
  image: Num[np.ndarray, 'h w c'], lo: float | int | None = None, hi: float | int | None = None
) -> UInt8[np.ndarray, 'h w c']:
  """Stretches [lo, hi] to 0..255 for showing; by default the 0.1 and 99.9 percentiles.

  An 8-bit image with no range given stays as it is.
  """
  if image.dtype == np.uint8 and lo is None and hi is None:
    return image
  lo = float(np.percentile(image, 0.1)) if lo is None else lo
  hi = float(np.percentile(image, 99.9)) if hi is None else hi
  scaled = (image.astype(np.float32) - lo) / max(hi - lo, 1e-12)
  return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8)


def overlay(
  image: Num[np.ndarray, 'h w c'], mask: Integer[np.ndarray, 'h w'], opacity: float = 0.4
) -> UInt8[np.ndarray, 'h w 3']:
  """Tints each class with its colour and outlines it; IGNORE is grey, background untouched."""
  rgb = to_channels(to_uint8(image), 3).astype(np.float32)
  mask = np.asarray(mask)
  colours = PALETTE[np.where(mask == 0, 0, (mask - 1) % (len(PALETTE) - 1) + 1)]
  colours = np.where((mask == IGNORE)[..., None], GREY, colours)
  share = np.where(_outline(mask), 1.0, opacity) * (mask != 0)
  share = np.where(mask == IGNORE, opacity, share)[..., None]
  return (rgb * (1 - share) + colours * share + 0.5).astype(np.uint8)


def coloured(mask: Integer[np.ndarray, 'h w']) -> UInt8[np.ndarray, 'h w 3']:
  """A mask alone, in the colours of its classes; IGNORE is grey, background black."""
  return overlay(np.zeros((*mask.shape, 3), np.uint8), mask, opacity=1.0)


def _outline(mask: np.ndarray) -> np.ndarray:
  """Pixels with another class above, below, left or right of them."""
  wide = np.pad(mask, 1, mode='edge')
  centre = wide[1:-1, 1:-1]
  around = (wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:])
  return np.any([centre != other for other in around], axis=0)
