"""Data sets, one file each: `load(**knobs)` returns the splits."""
