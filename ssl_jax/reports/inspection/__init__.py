"""What is wrong with folders of images, volumes or points, before anything is trained on them."""
