"""Folders, the files in them, and locks on them."""
