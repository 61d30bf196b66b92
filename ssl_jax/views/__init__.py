"""Views of images: geometric and photometric augmentation on the device."""
