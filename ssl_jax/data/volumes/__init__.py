"""Volumes as data sets: channels, spacings, slices."""
