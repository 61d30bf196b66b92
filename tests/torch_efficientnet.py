"""EfficientNet-Lite0 in torch, run on its published weights.

`python tests/torch_efficientnet.py` writes the reference, with which tests compare where torch is
not installed.
"""

from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).parent / 'reference' / 'efficientnet_lite0.npz'
# Repeats, stride of the first block; kernels are read off the weights.
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
# Indices of the blocks after which the stride grows, and the last: features of strides 2 to 32.
ENDS = (0, 2, 4, 10, 15)


def image() -> np.ndarray:
  """One image [1, 75, 90, 3], whose sides are odd at some strides."""
  return np.random.default_rng(7).standard_normal((1, 75, 90, 3), dtype=np.float32)


def outputs(arrays: dict[str, np.ndarray], pixels: np.ndarray) -> dict[str, np.ndarray]:
  """Features 'stride_2' to 'stride_32' [B, H, W, C] and 'logits' [B, 1000], computed by torch."""
  import torch
  from torch.nn import functional

  weights = {name: torch.from_numpy(array) for name, array in arrays.items()}

  def conv(x, name, norm_name, stride=1, act=True):
    kernel = weights[f'{name}.weight']
    groups = x.shape[1] // kernel.shape[1]
    missing = []
    for side in (x.shape[3], x.shape[2]):  # torch pads the last axis first
      size = kernel.shape[-1]
      total = max((-(-side // stride) - 1) * stride + size - side, 0)
      missing += [total // 2, total - total // 2]
    x = functional.conv2d(functional.pad(x, missing), kernel, None, stride, groups=groups)
    parts = ('running_mean', 'running_var', 'weight', 'bias')
    x = functional.batch_norm(x, *(weights[f'{norm_name}.{part}'] for part in parts), eps=1e-3)
    return functional.relu6(x) if act else x

  x = conv(torch.from_numpy(pixels).permute(0, 3, 1, 2), '_conv_stem', '_bn0', 2)
  found = {}
  index = 0
  for repeats, stride in STAGES:
    for i in range(repeats):
      name = f'_blocks.{index}'
      y = x
      if f'{name}._expand_conv.weight' in weights:
        y = conv(y, f'{name}._expand_conv', f'{name}._bn0')
      y = conv(y, f'{name}._depthwise_conv', f'{name}._bn1', stride if i == 0 else 1)
      y = conv(y, f'{name}._project_conv', f'{name}._bn2', act=False)
      x = x + y if x.shape == y.shape else y
      if index in ENDS:
        found[f'stride_{2 ** (1 + ENDS.index(index))}'] = x.permute(0, 2, 3, 1).numpy()
      index += 1
  pooled = conv(x, '_conv_head', '_bn1').mean((2, 3))
  found['logits'] = functional.linear(pooled, weights['_fc.weight'], weights['_fc.bias']).numpy()
  return found


def main() -> None:
  """Writes a part of the features and all logits; the weights are those of the package."""
  from ssl_jax.training import pretrained, published_weights

  path = published_weights.find('efficientnet_lite0')
  found = outputs(pretrained.read_arrays(path), image())
  # Every seventh pixel along the rows and every fifth channel are enough to tell a mistake.
  parts = {name: x if x.ndim == 2 else x[:, :, ::7, ::5] for name, x in found.items()}
  np.savez_compressed(REFERENCE, **parts)


if __name__ == '__main__':
  main()
