"""The exceptions that end a run on purpose."""

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C or SIGTERM stopped, as shells have it."""


class UserError(Exception):
  """A mistake of the person at the keyboard, told in one sentence that says what to do."""


class LostProcess(UserError):
  """Another process of the run has ended; to leave must not wait for it."""


class Stopped(Exception):
  """Training was asked to stop, has saved its state, and can go on later."""
