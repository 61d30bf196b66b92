"""A ResNet in torch, run on seeded weights; `python tests/torch_resnet.py` writes the reference.

The reference is what tests compare with where torch is not installed.
"""

from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).parent / 'reference' / 'resnet_features.npz'
CASES = {'resnet18': 32, 'resnet50': 8}  # backbone: output stride


def image() -> np.ndarray:
  """One image [1, 37, 50, 3]."""
  return np.random.default_rng(7).standard_normal((1, 37, 50, 3), dtype=np.float32)


def state_dict(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
  """Seeded weights of torch's names and shapes, drawn in the order of the names."""
  rng, arrays = np.random.default_rng(3), {}
  for name, shape in sorted(shapes.items()):
    drawn = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) == 4:
      drawn *= np.float32(np.sqrt(1 / np.prod(shape[1:])))
    elif name.endswith('running_var'):
      drawn = 0.5 + drawn**2
    elif name.endswith('weight'):
      drawn = 1 + 0.2 * drawn
    else:
      drawn *= np.float32(0.3)
    arrays[name] = drawn
  return arrays


def features(arrays: dict[str, np.ndarray], stride: int) -> np.ndarray:
  """The last stage's features [B, H, W, C], computed by torch as torchvision does."""
  import torch
  from torch.nn import functional

  weights = {name: torch.from_numpy(array) for name, array in arrays.items()}

  def norm(x, name):
    parts = ('running_mean', 'running_var', 'weight', 'bias')
    return functional.batch_norm(x, *(weights[f'{name}.{part}'] for part in parts), eps=1e-5)

  def conv(x, name, norm_name, stride=1, dilation=1):
    kernel = weights[f'{name}.weight']
    padding = dilation * (kernel.shape[-1] // 2)
    return norm(functional.conv2d(x, kernel, None, stride, padding, dilation), norm_name)

  x = torch.from_numpy(image()).permute(0, 3, 1, 2)
  x = functional.max_pool2d(conv(x, 'conv1', 'bn1', 2).relu(), 3, 2, 1)
  reached, dilation = 4, 1
  for stage in range(1, 5):
    step, before = (1 if stage == 1 else 2), dilation
    if reached * step > stride:
      step, dilation = 1, dilation * 2
    reached *= step
    blocks = {name.split('.')[1] for name in weights if name.startswith(f'layer{stage}.')}
    for i in map(str, range(len(blocks))):
      block = f'layer{stage}.{i}'
      here = (step if i == '0' else 1, before if i == '0' else dilation)
      if f'{block}.conv3.weight' in weights:
        y = conv(x, f'{block}.conv1', f'{block}.bn1').relu()
        y = conv(y, f'{block}.conv2', f'{block}.bn2', *here).relu()
        y = conv(y, f'{block}.conv3', f'{block}.bn3')
      else:
        y = conv(x, f'{block}.conv1', f'{block}.bn1', *here).relu()
        y = conv(y, f'{block}.conv2', f'{block}.bn2')
      if f'{block}.downsample.0.weight' in weights:
        x = conv(x, f'{block}.downsample.0', f'{block}.downsample.1', here[0])
      x = (x + y).relu()
  return x.permute(0, 2, 3, 1).numpy()


def shapes_of(backbone: str, stride: int) -> dict[str, tuple[int, ...]]:
  """Torch's names and shapes of a backbone's weights, read off ours."""
  import jax
  import jax.numpy as jnp
  from flax import traverse_util

  from ssl_jax.models.resnet import Backbone
  from ssl_jax.training.pretrained import torch_name

  net = Backbone(backbone, stride)
  variables = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
  found = {}
  for path, leaf in traverse_util.flatten_dict(variables).items():
    order = (3, 2, 0, 1) if len(leaf.shape) == 4 else range(len(leaf.shape))
    found[torch_name(path)] = tuple(leaf.shape[axis] for axis in order)
  return found


def main() -> None:
  """Writes every fourth channel of each case's features."""
  found = {
    name: features(state_dict(shapes_of(name, stride)), stride)[..., ::4]
    for name, stride in CASES.items()
  }
  np.savez_compressed(REFERENCE, **found)


if __name__ == '__main__':
  main()
