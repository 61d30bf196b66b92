"""Networks, one file each: `Model(num_classes=..., **knobs)` is a Flax module."""
