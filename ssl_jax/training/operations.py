"""How many multiplications and additions a program has, and how many a device could do.

Only matrix products and convolutions are counted: nearly all that networks compute, and what the
matrix units of accelerators do. The count is that of the mathematics; what a compiler pads, skips
or computes twice makes no difference. Multiplications with padding count.
"""

import math
from collections import Counter
from typing import Any

import jax
from jax.extend import core

# Teraoperations a second of matrix products in bfloat16 (dense), by `device_kind`, from the
# makers' data sheets: NVIDIA A100 (2020), H100 (2022), H200, L4 and L40S (2023), B200 (2024), the
# white papers of GA102 and AD102 (accumulating in float32), and Google's pages of Cloud TPU. Of TPU
# v2 and v3 a device is one of the two cores of a chip.
_BFLOAT16_PEAKS = {
  'NVIDIA A10G': 70.0,
  'NVIDIA A100': 312.0,
  'NVIDIA B200': 2250.0,
  'NVIDIA GeForce RTX 3090': 71.0,
  'NVIDIA GeForce RTX 4090': 165.2,
  'NVIDIA GH200': 989.4,
  'NVIDIA H100 80GB HBM3': 989.4,
  'NVIDIA H100 PCIe': 756.0,
  'NVIDIA H200': 989.4,
  'NVIDIA L4': 121.0,
  'NVIDIA L40S': 362.0,
  'TPU v2': 22.5,
  'TPU v3': 61.5,
  'TPU v4': 275.0,
  'TPU v5 lite': 197.0,
  'TPU v5e': 197.0,
  'TPU v5': 459.0,
  'TPU v5p': 459.0,
  'TPU v6 lite': 918.0,
  'TPU v6e': 918.0,
}


def count(program: core.ClosedJaxpr | core.Jaxpr) -> dict[str, float]:
  """Returns the operations of matrix products and convolutions in a program, by type of operand.

  A product and its addition are two. A loop counts as often as it runs, where that is known, as of
  `scan`. Of branches that differ by device the one with the fewest operations counts, of others the
  one with the most. With several devices it is the work of all together.
  """
  jaxpr = program.jaxpr if isinstance(program, core.ClosedJaxpr) else program
  total: Counter[str] = Counter()
  for equation in _needed(jaxpr):
    name = equation.primitive.name
    if name == 'dot_general':
      total[_operands(equation)] += _of_product(equation)
    elif name == 'conv_general_dilated':
      total[_operands(equation)] += _of_convolution(equation)
    elif name == 'cond':
      branches = [count(branch) for branch in equation.params['branches']]
      by_device = equation.params.get('branches_platforms') is not None
      chosen = min if by_device else max
      total.update(chosen(branches, key=lambda counts: sum(counts.values())))
    else:
      times = equation.params['length'] if name == 'scan' else 1
      for inner in core.jaxprs_in_params(equation.params):
        total.update({kind: times * number for kind, number in count(inner).items()})
  return dict(total)


def _needed(jaxpr: core.Jaxpr) -> list[core.JaxprEqn]:
  """The equations whose results are used; compilers drop the others."""
  used = {var for var in jaxpr.outvars if isinstance(var, core.Var)}
  needed = []
  for equation in reversed(jaxpr.eqns):
    if used.isdisjoint(equation.outvars):
      continue
    needed.append(equation)
    used.update(var for var in equation.invars if isinstance(var, core.Var))
  return needed


def _operands(equation: core.JaxprEqn) -> str:
  return str(equation.invars[0].aval.dtype)


def _of_product(equation: core.JaxprEqn) -> float:
  (contracted, _), _ = equation.params['dimension_numbers']
  left = equation.invars[0].aval.shape
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)


def _of_convolution(equation: core.JaxprEqn) -> float:
  kernel = equation.invars[1].aval.shape
  features = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
  taps = math.prod(kernel) / features
  # Between the pixels of a dilated image lie zeros, with which nothing needs to be multiplied.
  zeros = math.prod(equation.params['lhs_dilation'])
  return 2.0 * math.prod(equation.outvars[0].aval.shape) * taps / zeros


def peak(device: Any, precision: str) -> float | None:
  """Returns the operations a second of a device's matrix units; None where they are not known.

  In float32 NVIDIA's cards compute with TF32, at half the speed of bfloat16; TPUs with bfloat16.
  """
  kind = device.device_kind
  # Names go on with the memory and the connection, as in 'NVIDIA A100-SXM4-80GB'.
  fitting = [name for name in _BFLOAT16_PEAKS if kind == name or _goes_on(kind, name)]
  if not fitting:
    return None
  operations = 1e12 * _BFLOAT16_PEAKS[max(fitting, key=len)]
  half_speed = precision == 'float32' and kind.startswith('NVIDIA')
  return operations / 2 if half_speed else operations


def _goes_on(kind: str, name: str) -> bool:
  return name.startswith('NVIDIA') and kind.startswith((f'{name} ', f'{name}-'))


def seconds_at_peak(counts: dict[str, float]) -> float | None:
  """Returns how long all devices of a run need at least; None where that is not known."""
  device = jax.devices()[0]
  total = 0.0
  for precision, number in counts.items():
    rate = peak(device, precision)
    if rate is None:
      return None
    total += number / rate
  return total / jax.device_count()
