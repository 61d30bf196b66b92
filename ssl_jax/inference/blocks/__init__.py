"""Stacks and large images, predicted part by part, here or by the workers of a cluster."""
