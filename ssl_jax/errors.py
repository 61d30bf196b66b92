"""The two exceptions that end a run on purpose."""


class UserError(Exception):
  """A mistake of the person at the keyboard, told in one sentence that says what to do."""


class Stopped(Exception):
  """Training was asked to stop, has saved its state, and can go on later."""
