"""One update, the loop around it, optimizers and checkpoints."""
