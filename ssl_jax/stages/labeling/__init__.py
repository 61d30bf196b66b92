"""What stages ask of pseudo-labels and of masks."""
