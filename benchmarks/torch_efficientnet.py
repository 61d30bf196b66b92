"""ssl_jax.models.unet_efficientnet in PyTorch, in the form of the pages for few labels.

The statistics of the backbone's batch normalization stay as they are, and up to stride 4 nothing
learns.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112))
"""Blocks, kernel, stride, expansion, width: EfficientNet-Lite0 up to stride 16."""

NUM_FIXED = 2
"""Stages that learn nothing."""

WIDTHS = (64, 32, 16)


class ConvSame(nn.Conv2d):
  """A convolution that pads as TensorFlow's 'SAME': where it is odd, more comes after."""

  def forward(self, x):
    paddings = []
    for axis in (-1, -2):
      kernel, stride, size = self.kernel_size[axis], self.stride[axis], x.shape[axis]
      missing = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
      paddings += [missing // 2, missing - missing // 2]
    if paddings[0] == paddings[1] and paddings[2] == paddings[3]:
      padding = (paddings[2], paddings[0])
      return F.conv2d(x, self.weight, None, self.stride, padding, 1, self.groups)
    return F.conv2d(F.pad(x, paddings), self.weight, None, self.stride, 0, 1, self.groups)


def conv_norm(i: int, o: int, kernel: int, stride: int, groups: int = 1) -> list[nn.Module]:
  """A convolution with batch normalization."""
  conv = ConvSame(i, o, kernel, stride, groups=groups, bias=False)
  return [conv, nn.BatchNorm2d(o, eps=1e-3)]


class Block(nn.Module):
  """An inverted residual block."""

  def __init__(self, i: int, kernel: int, stride: int, expansion: int, o: int):
    super().__init__()
    wide = i * expansion
    layers = [] if expansion == 1 else [*conv_norm(i, wide, 1, 1), nn.ReLU6(inplace=True)]
    layers += [*conv_norm(wide, wide, kernel, stride, groups=wide), nn.ReLU6(inplace=True)]
    layers += conv_norm(wide, o, 1, 1)
    self.layers = nn.Sequential(*layers)
    self.is_residual = stride == 1 and i == o

  def forward(self, x):
    y = self.layers(x)
    return y + x if self.is_residual else y


class Up(nn.Module):
  """A convolution, a group normalization with 16 channels a group, and a ReLU."""

  def __init__(self, i: int, o: int, kernel: int):
    super().__init__()
    self.conv = nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False)
    self.norm = nn.GroupNorm(o // math.gcd(o, 16), o)

  def forward(self, x):
    return F.relu(self.norm(self.conv(x)), inplace=True)


class UNetEfficientNet(nn.Module):
  """Images [B, C, H, W] whose sides are multiples of 16 -> logits of the same size."""

  def __init__(self, classes: int, channels: int):
    super().__init__()
    self.stem = nn.Sequential(*conv_norm(channels, 32, 3, 2), nn.ReLU6(inplace=True))
    self.stages = nn.ModuleList()
    i = 32
    for repeats, kernel, stride, expansion, width in STAGES:
      blocks = []
      for repeat in range(repeats):
        blocks.append(Block(i, kernel, 1 if repeat else stride, expansion, width))
        i = width
      self.stages.append(nn.Sequential(*blocks))
    for module in (self.stem, *self.stages[:NUM_FIXED]):
      module.requires_grad_(False)
    self.skips, self.narrow, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
    for skip, width in zip((40, 24, 16), WIDTHS, strict=True):
      self.skips.append(Up(skip, width, 1))
      self.narrow.append(Up(i, width, 1))
      self.up.append(Up(width, width, 3))
      i = width
    self.head = nn.Conv2d(i, classes, 3, padding=1)

  def train(self, mode: bool = True):
    """Sets the mode of training; statistics of the backbone stay."""
    super().train(mode)
    for module in (self.stem, self.stages):
      module.eval()
    return self

  def forward(self, image):
    with torch.no_grad():
      x = self.stem(image)
      features = []
      for stage in self.stages[:NUM_FIXED]:
        x = stage(x)
        features.append(x)
    for stage in self.stages[NUM_FIXED:]:
      x = stage(x)
      features.append(x)
    # Strides 2, 4 and 8; the two last stages have stride 16.
    skips = features[:3]
    x = features[-1]
    for of_skip, narrow, up in zip(self.skips, self.narrow, self.up, strict=True):
      skip = of_skip(skips.pop())
      x = F.interpolate(narrow(x), skip.shape[2:], mode='bilinear')
      x = up(x + skip)
    return F.interpolate(self.head(x), image.shape[2:], mode='bilinear')
