"""Backbones from files: every format, every mistake, and the features that torch computes."""

import io
import pickle
import zipfile
from collections import OrderedDict
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_resnet
from safetensors.numpy import save_file

from ssl_jax.errors import UserError
from ssl_jax.io import torch_state_dict
from ssl_jax.models import deeplabv2, unet
from ssl_jax.models.resnet import Backbone
from ssl_jax.training.pretrained import read_arrays, with_backbone
from ssl_jax.types import TrainState


@pytest.fixture(scope='module')
def weights():
  return {
    name: torch_resnet.state_dict(torch_resnet.shapes_of(name, stride))
    for name, stride in torch_resnet.CASES.items()
  }


def fresh(model, channels=3, ema=False):
  variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 33, 33, channels)))
  student = {'params': variables['params'], 'batch_stats': variables.get('batch_stats', {})}
  opt_state = optax.sgd(0.1).init(student['params'])
  return TrainState(jnp.zeros((), jnp.int32), student, student if ema else None, opt_state)


@pytest.fixture(scope='module')
def state():
  return fresh(deeplabv2.Model(3, backbone='resnet18', output_stride=32), ema=True)


def ours(arrays, name, stride):
  net = Backbone(name, stride)
  variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  like = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), variables)
  wrapped = {kind: {'backbone': tree} for kind, tree in like.items()}
  loaded = with_backbone(TrainState(0, wrapped, None, ()), arrays).student
  inner = {kind: tree['backbone'] for kind, tree in loaded.items()}
  return np.array(jax.jit(net.apply)(inner, torch_resnet.image())[-1])


@pytest.mark.parametrize(('name', 'stride'), torch_resnet.CASES.items())
def test_features_equal_those_that_torch_computed(weights, name, stride):
  reference = np.load(torch_resnet.REFERENCE)[name]
  assert reference.std() > 0.5
  features = ours(weights[name], name, stride)[..., ::4]
  np.testing.assert_allclose(features, reference, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'stride'), [('resnet34', 32), ('resnet50', 32), ('resnet101', 16)]
)
def test_features_equal_torch(name, stride):
  pytest.importorskip('torch')
  arrays = torch_resnet.state_dict(torch_resnet.shapes_of(name, stride))
  theirs = torch_resnet.features(arrays, stride)
  scale = np.abs(theirs).max()
  np.testing.assert_allclose(ours(arrays, name, stride) / scale, theirs / scale, atol=1e-4)


def test_only_the_backbone_changes_and_the_moving_average_with_it(state, weights):
  loaded = with_backbone(state, weights['resnet18'])
  kernel = loaded.student['params']['backbone']['layer1_0']['conv1']['kernel']
  theirs = weights['resnet18']['layer1.0.conv1.weight']
  np.testing.assert_array_equal(kernel, theirs.transpose(2, 3, 1, 0))
  mean = loaded.ema['batch_stats']['backbone']['bn1']['mean']
  np.testing.assert_array_equal(mean, weights['resnet18']['bn1.running_mean'])
  head = loaded.student['params']['head_0']['kernel']
  np.testing.assert_array_equal(head, state.student['params']['head_0']['kernel'])
  leaves = zip(jax.tree.leaves(loaded.student), jax.tree.leaves(loaded.ema), strict=True)
  assert all(a.unsafe_buffer_pointer() != b.unsafe_buffer_pointer() for a, b in leaves)


def test_a_gray_image_counts_as_three_equal_channels(weights):
  gray = fresh(deeplabv2.Model(2, backbone='resnet18', output_stride=32), channels=1)
  kernel = with_backbone(gray, weights['resnet18']).student['params']['backbone']['conv1']['kernel']
  expected = weights['resnet18']['conv1.weight'].sum(1)
  np.testing.assert_allclose(kernel[:, :, 0].transpose(2, 0, 1), expected, rtol=1e-6)


def test_mistakes_are_named(state, weights):
  arrays = weights['resnet18']
  without = {name: array for name, array in arrays.items() if name != 'layer3.1.bn2.running_var'}
  with pytest.raises(UserError, match=r"holds no 'layer3.1.bn2.running_var'"):
    with_backbone(state, without)
  with pytest.raises(UserError, match=r'layer1.0.conv1.weight has shape .*another backbone'):
    with_backbone(state, weights['resnet50'])
  with pytest.raises(UserError, match='has no backbone'):
    with_backbone(fresh(unet.Model(2, widths=(2, 4))), arrays)


ARRAYS = {
  'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3),
  'b': np.array(3, np.int64),
  'c': np.array([1.5, -2.0], np.float16),
}


class _Named:
  """Pickles as a global of another name, as torch's classes do."""

  def __init__(self, module, name):
    self.module, self.name = module, name


class _TorchPickler(pickle._Pickler):
  """Writes what torch.save would, so that the test needs no torch."""

  dispatch: ClassVar = dict(pickle._Pickler.dispatch)

  def save_named(self, obj):
    self.write(pickle.GLOBAL + f'{obj.module}\n{obj.name}\n'.encode())

  dispatch[_Named] = save_named

  def save_array(self, array):
    kinds = {'float32': 'Float', 'int64': 'Long', 'float16': 'Half'}
    kind = _Named('torch', f'{kinds[str(array.dtype)]}Storage')
    strides = tuple(s // array.itemsize for s in array.strides)
    key = next(str(i) for i, other in enumerate(ARRAYS.values()) if other is array)
    storage = _Storage(('storage', kind, key, 'cpu', array.size, *self.more))
    call = (storage, 0, array.shape, strides, False, OrderedDict())
    self.save_reduce(_Named('torch._utils', '_rebuild_tensor_v2'), call)

  dispatch[np.ndarray] = save_array

  def persistent_id(self, obj):
    return obj.saved if isinstance(obj, _Storage) else None

  def save_reduce(self, func, args, *rest, **more):
    if not isinstance(func, _Named):
      return super().save_reduce(func, args, *rest, **more)
    self.save(func)
    self.save(args)
    self.write(pickle.REDUCE)


class _Storage:
  def __init__(self, saved):
    self.saved = saved


def torch_pickle(obj, more=()):
  file = io.BytesIO()
  pickler = _TorchPickler(file, 2)
  pickler.more = more
  pickler.dump(obj)
  return file.getvalue()


def write_zip(path, obj):
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('any/data.pkl', torch_pickle(obj))
    for i, array in enumerate(ARRAYS.values()):
      archive.writestr(f'any/data/{i}', array.tobytes())


def write_pickles(path, obj):
  head = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {'little_endian': True})]
  keys = pickle.dumps([str(i) for i in range(len(ARRAYS))], 2)
  blocks = [a.size.to_bytes(8, 'little') + a.tobytes() for a in ARRAYS.values()]
  path.write_bytes(b''.join([*head, torch_pickle(obj, more=(None,)), keys, *blocks]))


WRITERS = {
  'zip.pth': write_zip,
  'old.pt': write_pickles,
  'arrays.npz': lambda path, arrays: np.savez(path, **arrays),
  'arrays.safetensors': lambda path, arrays: save_file(arrays, path),
}


@pytest.mark.parametrize('name', WRITERS)
def test_every_format_is_read(tmp_path, name):
  WRITERS[name](tmp_path / name, ARRAYS)
  found = read_arrays(tmp_path / name)
  assert set(found) == set(ARRAYS)
  for key, array in ARRAYS.items():
    assert found[key].dtype == array.dtype
    np.testing.assert_array_equal(found[key], array)


@pytest.mark.slow
@pytest.mark.parametrize('as_zip', [True, False])
def test_files_of_torch_itself(tmp_path, as_zip):
  torch = pytest.importorskip('torch')
  whole = torch.arange(12.0).reshape(3, 4)
  saved = {
    'turned': whole.t(),
    'part': whole[1:, 2:],
    'parameter': torch.nn.Parameter(whole),
    'short': whole.bfloat16(),
    'none': whole[:0],
  }
  path = tmp_path / 'saved.pth'
  for obj in (saved, {'state_dict': saved, 'epoch': 3}):
    torch.save(obj, path, _use_new_zipfile_serialization=as_zip)
    found = read_arrays(path)
    for name, tensor in saved.items():
      np.testing.assert_array_equal(found[name].astype(np.float32), tensor.detach().float().numpy())


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
  path = tmp_path / 'evil.pth'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('x/data.pkl', pickle.dumps({'a': print}, 2))
  with pytest.raises(UserError, match=r'evil.pth .*print'):
    read_arrays(path)


@pytest.mark.parametrize('name', ['a.pth', 'a.npz', 'a.safetensors', 'a.onnx', 'missing.pth'])
def test_files_that_hold_no_weights(tmp_path, name):
  if not name.startswith('missing'):
    (tmp_path / name).write_bytes(b'not weights at all, and long enough for a header')
  with pytest.raises(UserError, match=name):
    read_arrays(tmp_path / name)


@pytest.mark.parametrize(
  ('shape', 'elements', 'reaches_beyond'),
  [((2,), 0, True), ((2,), 1, True), ((2,), 2, False), ((0, 3), 0, False), ((), 1, False)],
)
def test_a_tensor_never_reaches_beyond_its_storage(shape, elements, reaches_beyond):
  storage = torch_state_dict._Storage(np.dtype(np.float32), '0')
  strides = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
  tensor = torch_state_dict._Tensor(storage, 0, shape, strides)
  block = np.zeros(elements, np.float32)
  if reaches_beyond:
    with pytest.raises(ValueError, match='beyond its storage'):
      tensor.array(block)
  else:
    assert tensor.array(block).shape == shape
