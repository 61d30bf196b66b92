"""An ablation: FixMatch's threshold times its weight on Zheng 1, small enough for a CPU.

Data: 60 labeled, 177 unlabeled, 60 test crops of white blood cells. Every cell is a stage of its
own and is compared with the supervised control of as many updates.
Run:  python main.py --config=configs/ablation_zheng1.py [--only='control,t95-*']
      python -m ssl_jax.table runs/ablation_zheng1
"""

from configs import fixmatch_zheng1

THRESHOLDS, WEIGHTS = (0.8, 0.9, 0.95, 0.99), (0.125, 0.5, 1.0)


def get_config():
  """The page of Zheng 1 with a small network and one stage for each pair of values."""
  config = fixmatch_zheng1.get_config().unlock()
  config.update(size=96, steps=300, eval_every=300)
  config.model.update(backbone='resnet18', output_stride=16)
  config.batch.unlabeled = 8
  stages = [dict(name='control', methods=dict(supervised=dict()))]
  cells = []
  for threshold in THRESHOLDS:
    for weight in WEIGHTS:
      name = f't{threshold * 100:.0f}-w{weight * 1000:.0f}'
      knobs = {'methods.fixmatch.threshold': threshold, 'methods.fixmatch.weight': weight}
      stages.append(dict(name=name, **knobs))
      at = dict(row=f'threshold {threshold}', column=f'weight {weight}', table='Zheng 1')
      cells.append(dict(stage=name, control='control', only=f'control,{name}', **at))
  config.update(stages=tuple(stages), table=tuple(cells))
  return config.lock()
