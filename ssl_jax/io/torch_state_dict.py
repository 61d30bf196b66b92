"""Reads a state dict that torch.save wrote, without torch and without running code from the file.

Both formats are read: the zip archive of torch >= 1.6, and the sequence of pickles before it, which
some of torchvision's weights still have.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
"""The first number in a file of the old format."""

DTYPES = {
  'FloatStorage': np.float32,
  'DoubleStorage': np.float64,
  'HalfStorage': np.float16,
  'BFloat16Storage': ml_dtypes.bfloat16,
  'LongStorage': np.int64,
  'IntStorage': np.int32,
  'ShortStorage': np.int16,
  'CharStorage': np.int8,
  'ByteStorage': np.uint8,
  'BoolStorage': np.bool_,
}


class _Storage(NamedTuple):
  """A block of bytes of the file, in which one or more tensors lie."""

  dtype: np.dtype
  key: str


class _Tensor(NamedTuple):
  """A view of a storage whose bytes are not read yet; offset and strides count elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]

  def array(self, block: np.ndarray) -> np.ndarray:
    """Returns the tensor, given the elements of its storage."""
    # Index of the tensor's last element in the storage.
    last = self.offset
    for length, stride in zip(self.shape, self.strides, strict=True):
      last += (length - 1) * stride
    # as_strided checks nothing, and the file may lie about its shapes.
    empty = 0 in self.shape
    if min(self.offset, *self.shape, *self.strides, 0) < 0 or (last >= len(block) and not empty):
      raise ValueError('a tensor reaches beyond its storage')
    # NumPy counts strides in bytes, torch in elements.
    steps = [stride * block.itemsize for stride in self.strides]
    return np.lib.stride_tricks.as_strided(block[self.offset :], self.shape, steps).copy()


# Reads the elements of a storage, as a flat array.
ReadStorage = Callable[[_Storage], np.ndarray]


def _rebuild_tensor(
  storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any
) -> _Tensor:
  return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
  """Knows tensors and dicts of them; a file that names anything else is refused."""

  def find_class(self, module: str, name: str) -> Any:
    # Unpickling can only call what this method returns. Nothing here runs code from the file.
    known = {
      ('collections', 'OrderedDict'): OrderedDict,
      ('torch._utils', '_rebuild_tensor_v2'): _rebuild_tensor,
      ('torch._utils', '_rebuild_parameter'): lambda data, *_: data,
    }
    if module == 'torch' and name in DTYPES:
      return np.dtype(DTYPES[name])
    if (module, name) not in known:
      raise ValueError(f'it holds {module}.{name}, and only tensors are read')
    return known[module, name]

  def persistent_load(self, pid: Any) -> _Storage:
    # ('storage', the dtype that find_class returned, key, device, number of elements, ...)
    return _Storage(pid[1], str(pid[2]))


def _read_zip(path: Path) -> tuple[Any, ReadStorage]:
  """Returns what a file of the new format holds, and a function that reads its storages."""
  archive = zipfile.ZipFile(path)
  # A small file could otherwise unpack to more than the memory holds.
  if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
    raise ValueError('it is compressed, which torch.save never does')
  # A file of torch.save is a zip with one folder, NAME/data.pkl and NAME/data/KEY.
  (index,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
  prefix = index.removesuffix('data.pkl')
  # Tensors in the pickle only point to their storage; its elements are a file of their own.
  saved = _Unpickler(io.BytesIO(archive.read(index))).load()

  def read(storage: _Storage) -> np.ndarray:
    return np.frombuffer(archive.read(f'{prefix}data/{storage.key}'), storage.dtype)

  return saved, read


def _read_pickles(path: Path) -> tuple[Any, ReadStorage]:
  """Returns what a file of the old format holds, and a function that reads its storages."""
  with open(path, 'rb') as file:
    # The file is several pickles in a row; each load continues where the last one ended.
    if _Unpickler(file).load() != MAGIC:
      raise ValueError('it was not written by torch.save')
    _Unpickler(file).load()  # the protocol's version
    _Unpickler(file).load()  # the writer's word sizes
    saved = _Unpickler(file).load()
    keys = _Unpickler(file).load()
    rest = file.read()
  # After the pickles come the storages, each a count of 8 bytes and its elements. Only the tensors
  # say of which dtype they are.
  dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in _tensors(saved).values()}
  blocks = {}
  position = 0
  for key in map(str, keys):
    count = int.from_bytes(rest[position : position + 8], 'little')
    # Tensors outside the state dict, such as those of an optimizer, are not looked at. Their
    # storages are taken to be float32 and skipped.
    dtype = dtypes.get(key, np.dtype(np.float32))
    blocks[key] = np.frombuffer(rest, dtype, count, position + 8)
    position += 8 + count * dtype.itemsize
  return saved, lambda storage: blocks[storage.key]


def _tensors(saved: Any) -> dict[str, _Tensor]:
  """The tensors of a state dict, or of a checkpoint that has one under `state_dict`."""
  if not isinstance(saved, dict):
    raise ValueError('it holds no dict of tensors')
  # Training scripts save {'state_dict': ..., 'epoch': ...}; what is not a tensor is left out.
  inner = saved.get('state_dict', saved)
  return {name: value for name, value in inner.items() if isinstance(value, _Tensor)}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a state dict by name.

  Raises:
    ValueError: if the file holds anything but tensors, or is broken; the message ends a sentence
      that names the file.
  """
  try:
    saved, read = (_read_zip if zipfile.is_zipfile(path) else _read_pickles)(path)
    return {name: tensor.array(read(tensor.storage)) for name, tensor in _tensors(saved).items()}
  except (pickle.UnpicklingError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
    raise ValueError(f'it cannot be read ({error})') from error
