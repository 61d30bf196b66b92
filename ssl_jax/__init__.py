"""Semi-supervised segmentation of biomedical images in JAX."""

import sys

# `python -m ssl_jax.predict` imports this first, and then libraries for seconds; the name of the
# module is not known yet.
if sys.argv[:1] == ['-m'] and any(word.startswith('ssl_jax.') for word in sys.orig_argv):
  from ssl_jax.io import stop_signals

  stop_signals.set_handler(stop_signals.leave_at_once)
