"""Files of many planes, or too large for memory."""
