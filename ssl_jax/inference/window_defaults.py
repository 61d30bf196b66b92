"""How large images and volumes are cut into pieces if nothing else is said; read without JAX."""

BUDGET = 1024 * 1024
"""Pixels that go through the network at once; larger images are cut into tiles."""

OVERLAP = 0.25
"""Fraction of a window that neighboring windows share."""

BLENDS = ('constant', 'gaussian')
"""How the probabilities of overlapping windows are weighted."""
