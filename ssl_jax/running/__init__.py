"""What run.py does around its stages: what is decided, checked, continued, and sent to workers."""
