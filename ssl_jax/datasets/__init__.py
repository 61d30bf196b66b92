"""Data sets, one file each: `load(**kwargs)` returns the splits."""
