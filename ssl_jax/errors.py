"""The exceptions that end a run on purpose."""

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C or SIGTERM stopped, as shells have it."""


class UserError(Exception):
  """A mistake of the person at the keyboard, told in one sentence that says what to do."""


def sentence_on(path: object, error: Exception, done: str) -> str:
  """Returns what to tell of a file for which something failed: our own sentence, or which error.

  Args:
    path: of the file.
    error: what was raised.
    done: what could not be done with it: 'read', 'predicted'.
  """
  if isinstance(error, UserError):
    return str(error)
  reason = (str(error).splitlines() or [''])[0][:200] or type(error).__name__
  return f'{path} could not be {done} ({type(error).__name__}: {reason}).'


class LostProcess(UserError):
  """Another process of the run has ended; to leave must not wait for it."""


class Stopped(Exception):
  """Training was asked to stop, has saved its state, and can go on later."""
