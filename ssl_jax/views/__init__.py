"""Views of images: geometric and photometric augmentation on the device.

recipes.py knows the fields of a recipe, make_views.py carries it out. A view's geometry is one
affine map (affine.py) through which its pixels are read once (geometry.py); photometric.py and
randaugment.py then change values. Everything but color holds in two and in three dimensions.
"""
