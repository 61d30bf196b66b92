"""Options of the commands beside `train`, whose mistakes end in one sentence."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ssl_jax import registry


class OptionParser(argparse.ArgumentParser):
  """An argparse parser that names the option which a misspelt one is most like."""

  def __init__(self, *args: Any, **kwargs: Any):
    # Before the parent's, which adds --help.
    self._known: list[str] = []
    super().__init__(*args, **kwargs)

  def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
    """Adds an argument as argparse does, and remembers its names."""
    action = super().add_argument(*args, **kwargs)
    self._known += action.option_strings
    return action

  def parse_args(  # type: ignore[override]
    self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
  ) -> argparse.Namespace:
    """Returns the values of the options; ends the program with code 2 if they are wrong."""
    words = sys.argv[1:] if args is None else list(args)
    # First, because argparse would say that the option which was meant is missing.
    for word in words:
      if word == '--':
        break
      name = word.partition('=')[0]
      # argparse takes the beginning of a name for the whole.
      if word.startswith('--') and not any(known.startswith(name) for known in self._known):
        long_names = [known for known in self._known if known.startswith('--')]
        self.error(f'there is no option {name}{registry.nearest(name, long_names)}')
    return super().parse_args(words, namespace)

  def error(self, message: str) -> NoReturn:
    """Says what is wrong, without all options, and ends the program with code 2."""
    print(f'ssl_jax: {message}; `{self.prog} --help` lists the options.', file=sys.stderr)
    raise SystemExit(2)
