"""What pages share whose network starts from ImageNet and learns for minutes."""


def use_pretrained_unet(config):
  """Puts a light U-Net on EfficientNet-Lite0, and what it learns with, into a page."""
  config.crop_size = (128, 128)
  config.methods = dict(supervised=dict(weight=1.0, dice=1.0))
  config.teacher = 'ema'
  # An average over the last 30 or so updates.
  config.ema_decay = 0.97
  # New layers learn ten times as fast as those from ImageNet. The first layers see edges and
  # colours, which are the same everywhere.
  config.model = dict(name='unet_efficientnet', pretrained='imagenet', fixed=4)
  config.optimizer.update(lr=3e-4, clip=1.0, head_lr_multiplier=10.0)
  config.schedule.update(name='cosine', warmup=20)
  config.num_seeds = 1
  config.log_every = 20
