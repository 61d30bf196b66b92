"""Completion of commands, pages and fields in bash, zsh and fish: `ssl-jax completion bash`.

The command prints a script for the shell. At each Tab the script asks `python -m ssl_jax.completion
SHELL LINE`, which reads the same tables as the program, imports no JAX, and takes about as long as
Python needs to start. The fields of a page are found by running the page and kept in the user's
cache until a file that they follow from changes.
"""

import hashlib
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_jax.io import atomic
from ssl_jax.io.folders import user_cache
from ssl_jax.parsing import commands, page_files

DIRECTORIES, FILES = '@directories', '@files'
"""Answers by which a script lets the shell complete a path."""

SCRIPTS = {
  'bash': r"""# ssl-jax: completion for bash. Once:  eval "$(ssl-jax completion bash)"
_ssl_jax() {
  local line value
  local IFS=$'\n'
  COMPREPLY=($(PYTHON -m ssl_jax.completion bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
  line=${COMP_LINE:0:COMP_POINT}
  value=${line##*[= ]}
  case "${COMPREPLY[0]}" in
    @directories) compopt -o filenames; COMPREPLY=($(compgen -d -- "$value")) ;;
    @files) compopt -o filenames; COMPREPLY=($(compgen -f -- "$value")) ;;
    *[=.]) compopt -o nospace ;;
  esac
}
complete -F _ssl_jax ssl-jax
""",
  'zsh': r"""#compdef ssl-jax
# ssl-jax: completion for zsh. Once, after compinit:  source <(ssl-jax completion zsh)
_ssl_jax() {
  local -a found
  found=("${(@f)$(PYTHON -m ssl_jax.completion zsh "${(j: :)words[1,CURRENT]}" 2>/dev/null)}")
  case "$found[1]" in
    '') ;;
    @directories) compset -P '*='; _files -/ ;;
    @files) compset -P '*='; _files ;;
    *[=.]) compadd -S '' -- $found ;;
    *) compadd -- $found ;;
  esac
}
compdef _ssl_jax ssl-jax
""",
  'fish': r"""# ssl-jax: completion for fish. Once:  ssl-jax completion fish | source
function __ssl_jax
  set -l line (commandline -cp)
  set -l found (PYTHON -m ssl_jax.completion fish "$line" 2>/dev/null)
  if string match -q -- '@*' "$found[1]"
    set -l word (commandline -ct)
    set -l before (string match -r -- '^--?[^=]*=' $word)
    set -l value (string replace -r -- '^--?[^=]*=' '' $word)
    if test "$found[1]" = @directories
      set found $before(__fish_complete_directories "$value" '')
    else
      set found $before(__fish_complete_path "$value" '')
    end
  end
  printf '%s\n' $found
end
complete -c ssl-jax -f -a '(__ssl_jax)'
""",
}


def complete(line: str) -> list[str]:
  """Returns what the last word of a command line may become, or DIRECTORIES or FILES alone."""
  words = line.split(' ')
  last, earlier = words[-1], [word for word in words[1:-1] if word]
  if not earlier:
    return _starting(last, commands.COMMANDS)
  command = earlier[0]
  if command == 'completion':
    return _starting(last, SCRIPTS)
  if command not in commands.COMMANDS:
    return []
  name, equals, value = last.lstrip('-').partition('=')
  if not equals:
    previous = earlier[-1].lstrip('-')
    options = commands.options(command)
    # `--run DIR`, without an equals sign; absl's flags of train need one.
    separate = command != 'train' and earlier[-1].startswith('--') and previous in options
    if separate and options[previous].takes_value:
      return _values(command, options[previous], last, '')
    return _names(command, last, earlier)
  if command == 'train':
    return _train_values(name, value, earlier)
  option = commands.options(command).get(name)
  return [] if option is None else _values(command, option, value, f'--{name}=')


def _names(command: str, last: str, earlier: Sequence[str]) -> list[str]:
  """Names of options, and of fields of the page where it is a training."""
  if command == 'train' and re.match(r'--?config\.', last):
    typed = last.lstrip('-')[len('config.') :]
    return [f'--config.{name}' for name in _next_fields(fields(_page_of(earlier)), typed)]
  if last and not last.startswith('-'):
    return [DIRECTORIES] if command in ('report', 'table') else [FILES]
  names = []
  for name, option in commands.options(command).items():
    names.append(f'--{name}=' if option.takes_value else f'--{name}')
  if command == 'train':
    names.append('--config.')
  if not last and command in ('report', 'table'):
    return [DIRECTORIES]
  return _starting(last, names)


def _next_fields(known: Mapping[str, Any], typed: str) -> list[str]:
  """Names of fields up to the next dot, as folders are completed."""
  depth = typed.count('.')
  found = {}
  for name in known:
    if name.startswith(typed):
      parts = name.split('.')
      whole = len(parts) == depth + 1
      found['.'.join(parts[: depth + 1]) + ('=' if whole else '.')] = True
  return list(found)


def _values(command: str, option: commands.Option, value: str, before: str) -> list[str]:
  if option.choices:
    return [before + word for word in _starting(value, option.choices)]
  about = option.about.lower()
  if 'folder' in about or about.startswith('as --'):
    return [DIRECTORIES]
  return [FILES] if 'file' in about or 'csv' in about else []


def _train_values(name: str, value: str, earlier: Sequence[str]) -> list[str]:
  """Values of a flag or field of a training."""
  if name == 'workdir':
    return [DIRECTORIES]
  if name == 'dry_run':
    return [f'--dry_run={word}' for word in _starting(value, ('table', 'json'))]
  if name == 'config':
    pages = _starting(value, [path.stem for path in page_files.page_files()])
    return [f'--config={page}' for page in pages] or [FILES]
  if not name.startswith('config.'):
    return []
  choices = fields(_page_of(earlier)).get(name.removeprefix('config.'))
  if choices is None:
    return []
  if not choices:
    return [FILES] if re.match(r'data\.|init_from|plugins', name.removeprefix('config.')) else []
  return [f'--{name}={word}' for word in _starting(value, choices)]


def _starting(typed: str, names: Any) -> list[str]:
  return [name for name in names if name.startswith(typed)]


def _page_of(words: Sequence[str]) -> Path:
  """The page that a command line names; else the quickstart, as the program has it."""
  folder = page_files.pages_root() / 'configs'
  for word in words:
    match = re.match(r'--?config=([^:]+)', word)
    if match:
      path = Path(match[1]).expanduser()
      return path if path.is_file() else folder / f'{Path(match[1]).stem}.py'
  return folder / 'quickstart.py'


def fields(page: Path) -> dict[str, list[str]]:
  """The fields that the shell may set on a page, and the choices of each that has some."""
  if not page.is_file():
    return {}
  # All that decides on fields: the page, what pages share, and the parts that it names.
  sources = [page, *sorted((page_files.pages_root() / 'configs').rglob('*.py'))]
  sources += sorted(Path(__file__).parent.glob('*.py'))
  for kind in ('parsing', 'methods', 'models', 'datasets'):
    sources += sorted((Path(__file__).parent / kind).glob('*.py'))
  times = [f'{path.resolve()} {path.stat().st_mtime_ns}' for path in sources]
  key = hashlib.sha256('\n'.join(times).encode()).hexdigest()[:32]
  cached = user_cache.folder() / 'completion' / f'{key}.json'
  try:
    return json.loads(cached.read_text())
  except (OSError, ValueError):
    pass
  # Imported here, because it takes several times as long as all the rest.
  from ssl_jax.parsing import page_fields

  found = page_fields.read(page)
  if not found:
    return {}
  try:
    cached.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(cached) as temporary:
      temporary.write_text(json.dumps(found))
  except OSError:
    pass  # a cache that cannot be written costs time only
  return found


def _for_bash(line: str, words: Sequence[str]) -> list[str]:
  """The part of each word that bash replaces: what follows its last separator."""
  # Bash takes `=` and `:` for ends of words.
  last = line.split(' ')[-1]
  cut = max(last.rfind('='), last.rfind(':')) + 1
  return [word if word.startswith('@') else word[cut:] for word in words]


def main(arguments: list[str] | None = None) -> int:
  """Prints the script of a shell; with a command line, what its last word may become."""
  words = list(sys.argv[1:] if arguments is None else arguments)
  shell = words[0] if words else ''
  if shell not in SCRIPTS:
    print(f'Give a shell: ssl-jax completion {"|".join(SCRIPTS)}', file=sys.stderr)
    return 0 if shell in ('-h', '--help') else 1
  if len(words) == 1:
    print(SCRIPTS[shell].replace('PYTHON', f"'{sys.executable}'"), end='')
    return 0
  found = complete(words[1])
  if shell == 'bash':
    found = _for_bash(words[1], found)
  print('\n'.join(found))
  return 0


if __name__ == '__main__':
  sys.exit(main())
