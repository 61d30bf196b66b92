"""Single file formats, which images.py and nifti.py read through."""
