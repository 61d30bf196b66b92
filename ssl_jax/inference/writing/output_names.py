"""The names of what is written for the files of a folder: no two files share one."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ssl_jax.io.folders import file_names
from ssl_jax.io.folders.listing import Kind


def output_names(paths: Sequence[Path], kind: Kind) -> list[str]:
  """Returns names for outputs: that of the file without its ending, where only one has it.

  Files that share one (a.png and a.tif, or A.png where the case of letters does not count) have
  their ending in it, and if that does not tell them apart, a few digits of a hash of their name. It
  depends on the names in the folder alone.
  """
  stems = [file_names.raw_stem(path) for path in paths]
  # Without this, a.png and a.jpg would write the same output.
  names = []
  for stem, path, shared in zip(stems, paths, _are_shared(stems), strict=True):
    names.append(path.name if shared else stem)
  # 'a.png' may be the stem of a.png.tif, and A.png differs from a.png by its case alone.
  told_apart = []
  for name, path, shared in zip(names, paths, _are_shared(names), strict=True):
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    told_apart.append(f'{name}-{digest}' if shared else name)
  return told_apart


def _are_shared(names: Sequence[str]) -> list[bool]:
  """Which of the names a file system might take for another one of them."""
  # Those of macOS and Windows ignore case, and that of macOS the form of accents.
  keys = [file_names.normal(name).casefold() for name in names]
  counts = Counter(keys)
  return [counts[key] > 1 for key in keys]
