"""Networks, one file each: `Model(num_classes=..., **kwargs)` is a Flax module."""
