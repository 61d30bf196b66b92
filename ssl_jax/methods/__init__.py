"""Loss transforms, one file each: `method(**knobs)` turns views into named terms."""
