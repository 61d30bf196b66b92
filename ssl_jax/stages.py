"""What a stage of a run can be: each function works in a folder of its own.

A stage reads earlier folders of the run by name and writes only its own; what it returns becomes
its done.json. Parameters after the star are set by the stage's dict in `config.stages`.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ssl_jax import build, data, images, intervals, metrics, parallel
from ssl_jax import train as loop
from ssl_jax.evaluate import Evaluation, evaluate
from ssl_jax.record import begun, read_done, read_record, replace_text, write_done
from ssl_jax.types import Learner, Splits, UserError

LOOP = ('steps', 'eval_every', 'checkpoint_every', 'log_every', 'tensorboard', 'snapshots')
"""Fields of a config that the training loop takes as they are."""


def train(config: Mapping, folder: Path, stop: Callable[[], bool]) -> dict[str, float]:
  """Trains `config.replicas` seeds; scores are of the last step, in percent.

  With several seeds each has a folder `seed_<n>`; the stage's scores are their means, and
  `seed_<n>/...` are each one's own. `config.together` says whether one program trains them all; by
  default it does on an accelerator, and a CPU, which is slower at that, takes one after another.
  """
  found = build.splits(config['data'])
  facts = data.find_facts(found, config['normalize'])
  learner = build.learner(config, facts)
  folders = build.folders_of_seeds(config, folder)
  done = {seed: read_done(path) for seed, path in folders.items()}
  waiting = [seed for seed, figures in done.items() if figures is None]
  together = parallel.has_accelerator() if config.get('together') is None else config['together']
  size = len(waiting) if together else 1
  update = parallel.jit_update(learner.update, size)
  job = _Job(config, found, facts, learner, update, parallel.jit_predict(learner.predict), stop)
  for group in (waiting[i : i + size] for i in range(0, len(waiting), size)):
    done |= _train_seeds(job, {seed: folders[seed] for seed in group}, folder.name)
    for seed in group if len(folders) > 1 else ():
      write_done(folders[seed], done[seed])
  if len(folders) == 1:
    return next(iter(done.values()))
  shared = set.intersection(*(set(figures) for figures in done.values()))
  means = {name: float(np.mean([own[name] for own in done.values()])) for name in sorted(shared)}
  return means | {f'seed_{n}/{name}': v for n, own in done.items() for name, v in own.items()}


class _Job(NamedTuple):
  """What the seeds of a stage share, compiled programs included."""

  config: Mapping
  found: Splits
  facts: data.Facts
  learner: Learner
  update: Callable
  predict: Callable
  stop: Callable[[], bool]


def _train_seeds(job: _Job, folders: Mapping[int, Path], stage: str) -> dict[int, dict]:
  """Trains some seeds in one program and scores each; returns their figures by seed."""
  held_out = {n: s for n, s in (('val', job.found.val), ('test', job.found.test)) if s is not None}

  def score(state, names: Iterable[str]) -> dict[str, Evaluation]:
    answer = functools.partial(job.predict, state)
    return {name: evaluate(answer, held_out[name], job.facts.classes) for name in names}

  def watch(state, everything: bool) -> dict[str, float]:
    """Scores to look at; `test` is recorded only, nothing is ever chosen by it."""
    found = score(state, [*held_out] if everything else ['val'])
    return {f'{name}/{k}': value for name, e in found.items() for k, value in e.scores.items()}

  seeds = []
  for number, folder in folders.items():
    _same_data(folder, job.facts)
    seeds.append(loop.Seed(number, build.streams(job.config, job.found, number), folder))
  names = [folder.name for folder in folders.values() if folder.name != stage]
  states = loop.train(
    job.learner,
    job.update,
    seeds,
    np.zeros((1, *job.config['size'], job.facts.channels), np.float32),
    watch,
    label='/'.join([stage, '+'.join(names)] if names else [stage]),
    begin=build.beginning(job.config),
    best='val/miou' if 'val' in held_out else None,
    stop=job.stop,
    **{knob: job.config[knob] for knob in LOOP},
  )
  done = {}
  for (number, folder), state in zip(folders.items(), states, strict=True):
    done[number] = {'steps': int(state.step)}
    for name, found in score(state, held_out).items():
      done[number] |= _keep(found, folder, name, job.facts.classes)
  return done


def _keep(found: Evaluation, folder: Path, name: str, classes: Sequence[str]) -> dict[str, float]:
  """Writes the final evaluation of a split; its scores, and the best that were ever seen."""
  if parallel.is_main():
    found.write(folder / name)
  if missing := metrics.absent(found.matrices.sum(0), classes):
    print(f'{name}: no image holds {", ".join(missing)}; left out of the means.')
  # Not a result: it was chosen by looking at the scores it reports.
  watched = [line[f'{name}/miou'] for line in read_record(folder) if f'{name}/miou' in line]
  scores = {f'{name}/{key}': value for key, value in found.scores.items()}
  return scores | {f'{name}/best_seen_miou': max(watched)}


def compare(
  config: Mapping, folder: Path, stop: Callable[[], bool], *, of: str, against: str
) -> dict[str, float]:
  """Says whether stage `of` beats stage `against` on the test images, and shows some of them.

  With several seeds the interval is over them, paired; with one it is over test images.
  """
  ours, control = (_results(folder.parent / name) for name in (of, against))
  if len(ours) > 1:
    score = [np.array([metrics.mean_iou(m.sum(0)) for m in side]) for side in (ours, control)]
    difference = intervals.over_seeds(*score)
  else:
    difference = intervals.over_images(ours[0], control[0], metrics.mean_iou)
  text = intervals.verdict(of, difference)
  found = build.splits(config['data'])
  if any('synthetic' in note for note in found.notes):
    text += ' These are synthetic images.'
  replace_text(folder / 'verdict.txt', text + '\n')
  if parallel.is_main():
    _draw(folder / 'picture.png', found, folder.parent, of, against)
  print(f'{text}\nPicture: {folder / "picture.png"}')
  return {
    'test/miou_difference': difference.mean,
    'test/miou_difference_low': difference.low,
    'test/miou_difference_high': difference.high,
  }


def _results(stage: Path) -> list[np.ndarray]:
  files = [seed / 'test' / 'matrices.npz' for seed in build.seed_folders(stage)]
  for file in files:
    if not file.exists():
      raise UserError(f'{file} is missing: comparing needs a stage that was scored on test images.')
  return [np.load(file)['matrices'] for file in files]


def _draw(path: Path, found: Splits, run: Path, of: str, against: str, rows: int = 4) -> None:
  """Image, truth, control, ours for test images spread evenly over the split."""
  chosen = np.unique(np.linspace(0, len(found.test) - 1, rows).astype(int))
  table = []
  for record in (found.test[int(i)] for i in chosen):
    masks = [build.seed_folders(run / stage)[0] / 'test' / 'masks' for stage in (against, of)]
    predicted = [images.read_mask(folder / f'{record["name"]}.png') for folder in masks]
    table.append([record['image'], record['label'], *predicted])
  images.picture(path, table, ['image', 'truth', against, of])


def _same_data(folder: Path, facts: data.Facts) -> None:
  """Keeps what was found in the data; a resumed run must find the same."""
  path, now = folder / 'data.json', json.loads(json.dumps(facts._asdict()))
  if not path.exists() or not begun(folder):
    replace_text(path, json.dumps(now, indent=1))
    return
  then = json.loads(path.read_text())
  for key, value in now.items():
    if then.get(key) != value:
      raise UserError(
        f'The data of {folder} have changed since its training began: {key} was {then.get(key)}, '
        f'now it is {value}; restore the images or start in a new --workdir.'
      )


STAGES = {'train': train, 'compare': compare}
