"""Cells drawn onto images, and the colors of classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Integer, Num, UInt8
from PIL import Image, ImageDraw

from ssl_jax.io import images
from ssl_jax.types import IGNORE


def class_color(class_id: int) -> tuple[int, int, int]:
  """Returns the RGB color 0..255 of a class; gray for IGNORE, and black for the background.

  There are as many colors as the palette has; further classes begin again with the first.
  """
  if class_id == IGNORE:
    color = images.GRAY
  elif class_id == 0:
    color = images.PALETTE[0]
  else:
    # Class 1 takes the second color; the first is kept for the background.
    color = images.PALETTE[1 + (class_id - 1) % (len(images.PALETTE) - 1)]
  red, green, blue = color.tolist()
  return red, green, blue


def draw_cells(
  image: Num[np.ndarray, 'h w c'],
  points: Float[np.ndarray, 'n 2'],
  classes: Integer[np.ndarray, ' n'] | Sequence[int],
  radius: int = 6,
) -> UInt8[np.ndarray, 'h w 3']:
  """Returns the image as RGB with a ring around each cell, in the color of its class.

  `points` are rows and columns, as indices of pixels; a ring is gray where the class is IGNORE.
  """
  # Deep images are stretched to 8 bits, and gray ones become RGB so that rings can be colored.
  drawing = Image.fromarray(images.to_rgb(image))
  pen = ImageDraw.Draw(drawing)
  # Pillow counts x (column) first.
  for (row, column), class_id in zip(points, classes, strict=True):
    box = (column - radius, row - radius, column + radius, row + radius)
    pen.ellipse(box, outline=class_color(int(class_id)), width=2)
  return np.asarray(drawing)
