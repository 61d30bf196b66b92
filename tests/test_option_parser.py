"""Options that are misspelt, missing or wrong end in one sentence."""

import pytest

from ssl_jax.io.option_parser import OptionParser
from ssl_jax.parsing import commands


@pytest.fixture
def parser():
  parser = OptionParser('python -m ssl_jax.draw')
  parser.add_argument('--images', required=True)
  parser.add_argument('--overlap', type=float, default=0.5)
  group = parser.add_argument_group('pictures')
  group.add_argument('-o', '--out')
  return parser


def _refused(parser, words, capsys):
  with pytest.raises(SystemExit) as ended:
    parser.parse_args(words)
  assert ended.value.code == 2
  printed = capsys.readouterr()
  assert printed.out == ''
  assert printed.err.count('\n') == 1
  assert 'python -m ssl_jax.draw --help' in printed.err
  return printed.err


def test_a_misspelt_option_is_named_with_the_one_that_was_meant(parser, capsys):
  said = _refused(parser, ['--imges=a'], capsys)
  assert 'there is no option --imges (did you mean --images?)' in said
  assert 'required' not in said


def test_what_is_missing_or_wrong_is_named(parser, capsys):
  assert '--images' in _refused(parser, ['--overlap=1'], capsys)
  assert "'much'" in _refused(parser, ['--images=a', '--overlap=much'], capsys)
  assert 'more' in _refused(parser, ['--images=a', 'more'], capsys)


def test_right_options_and_beginnings_of_names_are_taken(parser):
  options = parser.parse_args(['--images', 'a', '--over=0.25', '-o', 'b'])
  assert (options.images, options.overlap, options.out) == ('a', 0.25, 'b')


@pytest.mark.parametrize('command', sorted(set(commands.COMMANDS) - {'train', 'completion'}))
def test_every_command_names_the_nearest_option(command, capsys):
  module = __import__(commands.module_of(command), fromlist=['main'])
  with pytest.raises(SystemExit) as ended:
    module.main(['--hepl'])
  assert ended.value.code == 2
  assert 'did you mean --help?' in capsys.readouterr().err
