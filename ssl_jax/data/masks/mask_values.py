"""`data.values`: what a user says that values, or colors, of masks mean."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import ImageColor

from ssl_jax.errors import UserError
from ssl_jax.io import masks
from ssl_jax.types import IGNORE

HOW = (
  "give class ids by value or by color, as in data.values='205:1, 420:2' or "
  "data.values='#ff0000:1, #00ff00:2' (0 and black are the background, 255 after the colon means "
  'ignore)'
)

ENTRY = re.compile(r'\s*([^:=]+?)\s*[:=]\s*([^:=,]+?)\s*(?:,|$)')
"""An entry of the text: a value, or red, green and blue with commas; a colon; an id or a name."""

IGNORE_NAME = 'ignore'


class ValueMap(NamedTuple):
  """Class ids of values of masks, or of colors."""

  ids: dict[int, int]  # value, or color (masks.pack) -> class id or IGNORE
  by_color: bool
  names: tuple[str, ...] | None  # of the classes, where the user gives names for ids


def parse_values(
  values: str | Mapping[Any, Any] | None, classes: Sequence[str] | None
) -> ValueMap | None:
  """Reads `data.values`; None where it is empty.

  Args:
    values: a mapping, or its text as a shell gives it: '205:1, 420:2'.
    classes: the names of the classes, if the user gives them.

  Raises:
    UserError: naming the entry that is wrong.
  """
  if not values:
    return None
  entries = _entries(values) if isinstance(values, str) else [*values.items()]
  keys = [_key(key) for key, _ in entries]
  kinds = {colored for _, colored in keys}
  if len(kinds) > 1:
    raise UserError(f'data.values={values!r} mixes values and colors; {HOW}.')
  ids = _class_ids([target for _, target in entries], [key for key, _ in keys], classes)
  # What nobody has drawn is 0, or black, in all programs.
  mapped = dict(zip([key for key, _ in keys], ids.targets, strict=True))
  return ValueMap({0: 0} | mapped, kinds.pop(), ids.names)


def _entries(text: str) -> list[tuple[str, str]]:
  """The entries of '205:1, 420:2', perhaps with braces and quotes as Python writes them."""
  plain = re.sub(r'[{}()\[\]\'"]', '', text).strip().rstrip(',')
  entries = []
  end = 0
  for match in ENTRY.finditer(plain):
    if match.start() != end:
      break
    entries.append((match.group(1), match.group(2)))
    end = match.end()
  if end != len(plain) or not entries:
    raise UserError(f'data.values={text!r} cannot be read; {HOW}.')
  return entries


def _key(key: Any) -> tuple[int, bool]:
  """A value, or a packed color and True."""
  if isinstance(key, int) and not isinstance(key, bool):
    return key, False
  text = ','.join(map(str, key)) if isinstance(key, tuple | list) else str(key).strip()
  if re.fullmatch(r'-?\d+(\.0*)?', text):
    return int(text.partition('.')[0]), False
  channels = re.fullmatch(r'(\d+)\s*,\s*(\d+)\s*,\s*(\d+)', text)
  if channels:
    red, green, blue = (int(part) for part in channels.groups())
  else:
    try:
      # '#ff0000', and the names that web pages use.
      red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
      raise UserError(f'data.values: {text!r} is neither a value nor a color; {HOW}.') from error
  return (red << 2 * masks.COLOR_BITS) | (green << masks.COLOR_BITS) | blue, True


class _Targets(NamedTuple):
  targets: list[int]
  names: tuple[str, ...] | None


def _class_ids(
  targets: Sequence[Any], keys: Sequence[int], classes: Sequence[str] | None
) -> _Targets:
  """The class id of each entry, which the user gives as a number or a name."""
  texts = [str(target).strip() for target in targets]
  if all(re.fullmatch(r'\d+(\.0*)?', text) for text in texts):
    numbers = [int(float(text)) for text in texts]
    if max(numbers) > IGNORE:
      raise UserError(f'data.values: {max(numbers)} is no class id of 0..254 or {IGNORE}; {HOW}.')
    return _Targets(numbers, None)
  for text in texts:
    if re.fullmatch(r'-?\d+(\.\d*)?', text):
      raise UserError(f'data.values mixes class ids ({text}) and names of classes; {HOW}.')
  names = [*classes] if classes else _names_in_order(texts, keys)
  ids = {name: i for i, name in enumerate(names)} | {IGNORE_NAME: IGNORE}
  for text in texts:
    if text not in ids:
      raise UserError(
        f'data.values: {text!r} is not one of data.classes, which are {", ".join(names)}.'
      )
  return _Targets([ids[text] for text in texts], tuple(names))


def _names_in_order(texts: Sequence[str], keys: Sequence[int]) -> list[str]:
  """Names of classes in the order of the entries, after that of the background."""
  background = texts[keys.index(0)] if 0 in keys else 'background'
  named = [text for text in texts if text != IGNORE_NAME]
  return list(dict.fromkeys([background, *named]))
