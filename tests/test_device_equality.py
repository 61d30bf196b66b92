"""Every method and every network learns the same on 1, 2 and 8 devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import device_cases
import pytest

from ssl_jax import registry

SCRIPT = Path(device_cases.__file__)

SMALL = ('fixmatch',)
"""Cases of the ordinary suite; the others take minutes."""


def _differences(folder: Path, case: str) -> dict:
  # With optimization, whatever flags the other tests have: without it, pixels that are equal get
  # other rounding errors on other devices, and max pooling then passes a gradient to another one.
  flags = f'--xla_force_host_platform_device_count={max(device_cases.DEVICES)}'
  environment = os.environ | {'XLA_FLAGS': flags, 'JAX_PLATFORMS': 'cpu'}
  command = [sys.executable, str(SCRIPT), str(folder), case]
  ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
  assert ended.returncode == 0, ended.stderr[-2000:]
  return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.parametrize(
  'case',
  [
    pytest.param(case, marks=() if case in SMALL else pytest.mark.slow)
    for case in device_cases.CASES
  ],
)
def test_one_two_and_eight_devices_learn_the_same(tmp_path, case):
  measured = _differences(tmp_path, case)
  # Ten updates with a wrong gradient would be far apart.
  assert measured['moved'] > 1e-2
  assert measured.get('mask_rate', 0.5) > 0  # the method had something to learn from
  # Deep networks from random weights part by themselves, and so does what Adam divides by small
  # gradients. Devices may part no further than ten times what a rounding error does on one of them.
  for when in ('', ', first update'):
    allowed = max(1e-5, 10 * measured[f'perturbed{when}'])
    assert measured[f'1 and 2{when}'] <= allowed
    assert measured[f'1 and 8{when}'] <= allowed


def test_no_method_and_no_network_is_left_out():
  tested = {*device_cases.METHODS, 'hydramix', 'centroids'}  # both are of the cells
  assert tested == set(registry.known('methods'))
  inner = {'unet', 'pair', 'hydra'}  # of the methods, of cps, of the cells
  left_out = set(registry.known('models')) - inner - {*device_cases.MODELS}
  assert left_out == {'wideresnet'}  # hydra's features
