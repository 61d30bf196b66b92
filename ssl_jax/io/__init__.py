"""Files in and out: images, volumes, masks, logs."""
