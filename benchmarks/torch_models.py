"""The same networks and the same training step in PyTorch, to compare speeds with."""

import itertools

import torch
from torch import nn
from torch.nn import functional as F
from torch_efficientnet import UNetEfficientNet


def conv_norm_act(i: int, o: int, k: int = 3, dilation: int = 1) -> nn.Sequential:
  conv = nn.Conv2d(i, o, k, padding=dilation * (k // 2), dilation=dilation, bias=False)
  return nn.Sequential(conv, nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class UNet(nn.Module):
  """ssl_jax.models.unet with batch normalization."""

  def __init__(self, classes: int, channels: int, widths=(64, 128, 256, 512, 1024)):
    super().__init__()

    def block(i, o):
      return nn.Sequential(conv_norm_act(i, o), conv_norm_act(o, o))

    pairs = list(itertools.pairwise(widths))
    self.down = nn.ModuleList(
      block(i, o) for i, o in zip((channels, *widths), widths, strict=False)
    )
    self.grow = nn.ModuleList(nn.ConvTranspose2d(o, i, 2, 2) for i, o in reversed(pairs))
    self.up = nn.ModuleList(block(2 * i, i) for i, _ in reversed(pairs))
    self.head = nn.Conv2d(widths[0], classes, 1)

  def forward(self, x):
    skips = []
    for i, block in enumerate(self.down):
      x = block(F.max_pool2d(x, 2) if i else x)
      skips.append(x)
    skips.pop()
    for grow, block in zip(self.grow, self.up, strict=True):
      x = block(torch.cat([skips.pop(), grow(x)], 1))
    return self.head(x)


class Bottleneck(nn.Module):
  def __init__(self, i: int, width: int, stride: int, dilation: int):
    super().__init__()
    o = 4 * width
    self.main = nn.Sequential(
      conv_norm_act(i, width, 1),
      nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False),
      nn.BatchNorm2d(width),
      nn.ReLU(inplace=True),
      nn.Conv2d(width, o, 1, bias=False),
      nn.BatchNorm2d(o),
    )
    self.side = nn.Identity()
    if stride > 1 or i != o:
      self.side = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

  def forward(self, x):
    return F.relu(self.main(x) + self.side(x), inplace=True)


class DeepLabV3Plus(nn.Module):
  """ssl_jax.models.deeplabv3plus with resnet50 at output stride 8."""

  def __init__(self, classes: int, channels: int):
    super().__init__()
    stem = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    self.stem = nn.Sequential(
      stem, nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
    )
    self.layers, i = nn.ModuleList(), 64
    plan = [(3, 64, 1, 1, 1), (4, 128, 2, 1, 1), (6, 256, 1, 1, 2), (3, 512, 1, 2, 4)]
    for depth, width, stride, first, dilation in plan:
      blocks = [Bottleneck(i, width, stride, first)]
      i = 4 * width
      blocks += [Bottleneck(i, width, 1, dilation) for _ in range(depth - 1)]
      self.layers.append(nn.Sequential(*blocks))
    self.pyramid = nn.ModuleList(
      [conv_norm_act(i, 256, 1), *(conv_norm_act(i, 256, 3, rate) for rate in (12, 24, 36))]
    )
    self.pool = conv_norm_act(i, 256, 1)
    self.project = nn.Sequential(conv_norm_act(5 * 256, 256, 1), nn.Dropout2d(0.5))
    self.low = conv_norm_act(256, 48, 1)
    fuse = conv_norm_act(304, 256), conv_norm_act(256, 256), nn.Dropout2d(0.1)
    self.fuse = nn.Sequential(*fuse, nn.Conv2d(256, classes, 1))

  def forward(self, image):
    x, low = self.stem(image), None
    for layer in self.layers:
      x = layer(x)
      low = x if low is None else low
    pooled = self.pool(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
    x = self.project(torch.cat([*(branch(x) for branch in self.pyramid), pooled], 1))
    x = F.interpolate(x, low.shape[2:], mode='bilinear', align_corners=True)
    x = self.fuse(torch.cat([self.low(low), x], 1))
    return F.interpolate(x, image.shape[2:], mode='bilinear', align_corners=True)


NETWORKS = {
  'unet': UNet,
  'deeplabv3plus': DeepLabV3Plus,
  'unet_efficientnet': UNetEfficientNet,
}


def torch_training(
  name: str,
  method: str,
  arrays: dict,
  classes: int,
  device: str,
  *,
  precision: str = 'float32',
  compiled: bool = False,
  **kwargs,
):
  """A function that starts one training step and returns its loss, and the peak memory so far.

  With the method 'predict' it predicts class ids instead and returns their sum. On a GPU the result
  is still being computed when the function returns. `kwargs` are those of the network.
  """
  cuda = device == 'cuda'
  channels = arrays['labeled'].shape[-1]
  model = NETWORKS[name](classes, channels, **kwargs)
  model = model.to(device, memory_format=torch.channels_last).train()
  learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
  optimizer = torch.optim.SGD(learned, 0.01, momentum=0.9, weight_decay=1e-4)
  if compiled:
    model = torch.compile(model)
  label = torch.from_numpy(arrays['label']).long().to(device)
  images = {}
  for view, pixels in arrays.items():
    if view != 'label':
      # A permuted channel-last array is channels_last in memory.
      images[view] = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
  half = precision == 'bfloat16'

  def loss_of():
    if method == 'fixmatch':
      model.eval()
      with torch.no_grad():
        trust, target = model(images['weak']).softmax(1).max(1)
      model.train()
      logits = model(torch.cat([images['labeled'], images['strong']]))
      logits, strong = logits.split(len(label))
      unlabeled = F.cross_entropy(strong, target, reduction='none') * (trust >= 0.95)
      return F.cross_entropy(logits, label) + unlabeled.mean()
    return F.cross_entropy(model(images['labeled']), label)

  def train():
    # The backward pass runs in the types of the forward one, outside of autocast.
    with torch.autocast(device, torch.bfloat16, enabled=half):
      loss = loss_of()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()

  def predict():
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=half):
      return model(images['labeled']).argmax(1).sum()

  if method == 'predict':
    model.eval()
  return predict if method == 'predict' else train, (
    torch.cuda.max_memory_allocated if cuda else None
  )
