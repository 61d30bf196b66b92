"""Random-access sources of images and the batches made of them."""
