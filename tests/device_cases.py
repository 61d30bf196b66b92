"""Trains one case on 1, 2 and 8 devices of the CPU, and prints how far the networks are apart.

  python tests/device_cases.py FOLDER CASE...

A case is a method on a small U-Net, a network with the method FixMatch, or a learner of its own
kind. All is as in a run: the page, the streams, the views, the update. FOLDER takes small data.
"""

import functools
import json
import runpy
import sys
from pathlib import Path

STEPS = 10
DEVICES = (1, 2, 8)

ROUNDING = 2.0**-23
"""The relative rounding error of a float32. A single device learns again, from parameters that
differ by so much: what becomes of it is how far networks part by themselves."""

DRAWS = 5
"""Of such errors, the worst of which counts: what becomes of one differs by a factor of forty."""

METHODS = {
  'supervised': {},
  'pseudo_label': {'threshold': 0.3},
  'entropy': {},
  'fixmatch': {'threshold': 0.3},
  'uda': {},
  'mean_teacher': {'weight': 10.0},
  'mixmatch': {'lambda_u': 10.0},
  'unimatch': {'threshold': 0.3},
  'unimatch_v2': {'threshold': 0.3},
  'cps': {},
  'iic': {'radius': 2},
  'bcp': {},
}
"""Methods of masks; low thresholds, so that an untrained teacher has confident pixels."""

ALONE = ('mixmatch', 'iic', 'bcp')
"""Methods that have a loss on labels of their own, or none."""

MODELS = {
  'unet_dropout': {'name': 'unet', 'widths': (4, 8), 'dropout': 0.3},
  'unet_resnet': {'backbone': 'resnet18', 'widths': (16, 8, 8, 8, 4)},
  'unet_efficientnet': {'widths': (16, 8, 8)},
  'deeplabv2': {'backbone': 'resnet18', 'output_stride': 16},
  'deeplabv3plus': {'backbone': 'resnet18', 'output_stride': 16},
  'pspnet': {'backbone': 'resnet18', 'output_stride': 16},
  'nnunet': {'widths': (4, 8)},
  'prominence_unet': {'widths': (4, 8), 'stem': 4},
}
OTHERS = ('cells', 'volumes', 'gan')
CASES = (*METHODS, *MODELS, *OTHERS)


def _masks():
  """The quickstart made small, with all views that methods ask for."""
  import conftest

  page = conftest.tiny_page()
  page.unlock()
  view = page.views.strong.to_dict()
  page.views.update(weak2=page.views.weak.to_dict(), strong2=view)
  page.methods = {'supervised': {'dice': 1.0}}
  return page


def make_page(case: str, folder: Path):
  """The page of a case; batches split over eight devices."""
  import conftest

  if case in METHODS:
    page = _masks()
    page.methods = ({} if case in ALONE else {'supervised': {'dice': 1.0}}) | {case: METHODS[case]}
    if case == 'cps':
      page.model = dict(name='pair', of='unet', kwargs=dict(widths=(4, 8)))
      page.teacher = 'student'
  elif case in MODELS:
    page = _masks()
    page.methods.fixmatch = METHODS['fixmatch']
    page.model = {'name': case} | MODELS[case]
  elif case == 'cells':
    conftest.write_discs(folder, images=8, side=100)
    page = conftest.tiny_cells(folder)
    page.unlock()
  elif case == 'volumes':
    conftest.write_volumes(folder / 'volumes')
    path = Path(__file__).parents[1] / 'configs' / 'your_volumes.py'
    page = runpy.run_path(str(path))['get_config']()
    page.unlock()
    page.data.update(labeled=str(folder / 'volumes'), unlabeled=str(folder / 'volumes'))
    page.data.update(cache=str(folder), window=(0.0, 150.0))
    page.crop_size, page.model.widths = (8, 16, 16), (4, 8)
  else:
    conftest.write_sections(folder / 'sections')
    page = conftest.tiny_rounds(folder / 'sections')
    game = next(dict(stage) for stage in page.stages if stage.get('run') == 'train_gan')
    page.stages = ({**game, 'batch': dict.fromkeys(game['batch'], 8)},)
    # The table of the page is of the other stages.
    page.table = ()
    return page
  page.batch = {name: 8 for name in page.batch}
  # SGD: Adam's first steps divide rounding errors by themselves.
  page.optimizer = dict(name='sgd', lr=0.01, momentum=0.9, weight_decay=1e-4)
  page.schedule.update(name='constant', warmup=0)
  page.stages = ()  # one training of the page as it is
  return page


def compare(case: str, folder: Path) -> dict:
  """The largest differences to one device, and how far the network moved.

  After the first update differences are relative to the largest value of an array, if that is above
  1; in the end they are absolute.
  """
  import jax
  import numpy as np

  from ssl_jax import build, parallel
  from ssl_jax.data import dataset_stats, stream
  from ssl_jax.parsing import stage_list
  from ssl_jax.settings import Inputs, Learning

  spec = stage_list.resolve(stage_list.plain(make_page(case, folder)))[0]
  settings = spec.settings
  inputs, learning = settings.part(Inputs), settings.part(Learning)
  splits = build.splits_of_seed(settings, settings.seed)
  stats = dataset_stats.compute_stats(splits, settings.normalize)
  if spec.run == 'train_gan':
    learner = build.gan_learner(settings.gan, learning, inputs, STEPS, stats)
  else:
    learner = build.learner(learning, inputs, STEPS, stats)
  streams = build.streams(inputs, splits, 0)
  example = np.zeros((1, *settings.crop_size, stats.channels), np.float32)
  key = jax.random.key(0)
  first, flat = {}, {}
  perturbed = [f'perturbed {draw}' for draw in range(DRAWS)]
  for run in (*DEVICES, *perturbed):
    count = 1 if run in perturbed else run
    mesh = jax.sharding.Mesh(
      np.asarray(jax.devices()[:count]), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
    )
    parallel._mesh = functools.partial(lambda mesh: mesh, mesh)
    state = parallel.jit_init(learner.init)(key, example, learner.normalization)
    fresh = _flat(state)
    if run in perturbed:
      state = _perturbed(state, perturbed.index(run))
    update = parallel.jit_update(learner.update)
    for batch in stream.batches([streams], 0, STEPS):
      state, metrics = update(state, parallel.shard(batch), key)
      first.setdefault(run, jax.device_get((state.student, state.ema)))
    flat[run] = _flat(state)
    assert len(jax.tree.leaves(state)[0].devices()) == count
  result = {'case': case, 'steps': STEPS, 'parameters': flat[1].size}
  result['moved'] = float(np.abs(flat[1] - fresh).max())
  for name, runs in (('1 and 2', [2]), ('1 and 8', [8]), ('perturbed', perturbed)):
    result[name] = max(float(np.abs(flat[1] - flat[run]).max()) for run in runs)
    result[f'{name}, first update'] = max(_apart(first[1], first[run]) for run in runs)
  rates = [float(value) for name, value in metrics.items() if name.endswith('/mask_rate')]
  return result | ({'mask_rate': rates[0]} if rates else {})


def pool_means() -> None:
  """Has U-Nets take means where they take maxima.

  Where pixels are equal (padding, saturated images), which of them is the largest hangs on rounding
  errors, and with it where the gradient goes: with maxima the method cps differed by 4.7e-5.
  """
  from ssl_jax.models import layers, unet

  def mean(x):
    sides = [part for side in x.shape[1:-1] for part in (side // 2, 2)]
    blocks = x.reshape(x.shape[0], *sides, x.shape[-1])
    return blocks.mean(tuple(range(2, blocks.ndim - 1, 2)))

  unet.max_pool2 = layers.max_pool2 = mean


def _perturbed(state, draw):
  """The state with parameters that are larger or smaller by a rounding error."""
  import jax
  import numpy as np

  rng = np.random.default_rng(draw)

  # Each by itself: batch normalization undoes what all weights of a layer have in common.
  def one(leaf):
    signs = rng.choice([-1, 1], leaf.shape)
    return leaf * (1 + ROUNDING * signs).astype(np.float32)

  return state.replace(
    student={**state.student, 'params': jax.tree.map(one, state.student['params'])}
  )


def _apart(one, other):
  """The largest difference of two trees of arrays, relative to the largest value of each array."""
  import jax
  import numpy as np

  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  return max(float(np.abs(a - b).max() / max(1.0, np.abs(a).max())) for a, b in pairs)


def _flat(state):
  """Parameters, batch statistics and their moving average, as one array."""
  import jax
  import numpy as np

  leaves = jax.tree.leaves((state.student, state.ema))
  return np.concatenate([np.ravel(leaf) for leaf in leaves])


if __name__ == '__main__':
  root = Path(__file__).resolve().parents[1]
  sys.path[:0] = [str(root), str(root / 'tests')]
  pool_means()
  for name in sys.argv[2:]:
    print(json.dumps(compare(name, Path(sys.argv[1]) / name)), flush=True)
