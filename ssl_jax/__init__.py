"""Semi-supervised segmentation of biomedical images in JAX."""
