"""Predictions of trained networks for images and volumes of any size."""
