"""Programs of JAX as models of ONNX: traced with open sizes, written operation by operation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from ssl_jax.exports.onnx_graph import OnnxGraph
from ssl_jax.exports.onnx_operations import Value, Writer
from ssl_jax.models.operations.symbolic import is_symbolic

CALLS = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')
"""Under which name an operation that is a program itself has that program."""


def _reciprocal_root(array: np.ndarray) -> np.ndarray:
  return 1 / np.sqrt(array)


ON_CONSTANTS = {
  'add': np.add,
  'sub': np.subtract,
  'mul': np.multiply,
  'max': np.maximum,
  'min': np.minimum,
  'neg': np.negative,
  'sqrt': np.sqrt,
  'rsqrt': _reciprocal_root,
}
"""What is computed while writing, so that a normalization is two nodes and not eight."""


def to_onnx(
  program: Callable[..., Sequence[jax.Array]],
  weights: Any,
  shape: str,
  dtype: Any,
  names: tuple[str, Sequence[str]],
  metadata: Mapping[str, str],
) -> Any:
  """Returns a program `program(weights, images)` as a model of ONNX, with its weights inside.

  Args:
    program: returns several arrays.
    weights: the tree of arrays that is its first argument.
    shape: of the images, with letters for open sizes ('b, 3, h, w').
    dtype: of the images.
    names: of the input, and of the outputs.
    metadata: texts that the file carries.

  Raises:
    NotImplementedError: if the program has an operation that is not known here.
  """
  sizes = jax.export.symbolic_shape(shape)
  closed = jax.make_jaxpr(program)(weights, jax.ShapeDtypeStruct(sizes, dtype))
  input_name, output_names = names
  axes = [(str(size), axis) for axis, size in enumerate(sizes) if is_symbolic((size,))]
  graph = OnnxGraph({letter: (input_name, axis) for letter, axis in axes})
  arguments = [_constant(leaf) for leaf in jax.tree.leaves(weights)]
  arguments.append(Value(tuple(sizes), np.dtype(dtype), input_name))
  writer = Writer(graph)
  outputs = _run(writer, closed, arguments)
  described = []
  for value, name in zip(outputs, output_names, strict=True):
    graph.rename(writer.name(value), name)
    described.append(graph.tensor(name, value.dtype, [_named(size) for size in value.shape]))
  inputs = [graph.tensor(input_name, dtype, [_named(size) for size in sizes])]
  return graph.model(inputs, described, dict(metadata))


def _named(size: Any) -> Any:
  """A size as the description of a model has it: a number, or a text."""
  return str(size) if is_symbolic((size,)) else int(size)


def _constant(array: Any) -> Value:
  array = np.asarray(array)
  return Value(array.shape, array.dtype, array=array)


def _run(writer: Writer, closed: ClosedJaxpr, arguments: Sequence[Value]) -> list[Value]:
  """Writes the operations of a program, and returns its results."""
  program = closed.jaxpr
  values = dict(zip(program.invars, arguments, strict=True))
  values |= dict(zip(program.constvars, map(_constant, closed.consts), strict=True))

  def read(variable: Any) -> Value:
    if isinstance(variable, Literal):
      return _constant(np.asarray(variable.val, variable.aval.dtype))
    return values[variable]

  for equation in program.eqns:
    inputs = [read(variable) for variable in equation.invars]
    inner = next((equation.params[key] for key in CALLS if key in equation.params), None)
    if inner is not None:
      results = _run(writer, inner, inputs)
    elif (computed := _computed(equation, inputs)) is not None:
      results = [computed]
    else:
      [output] = equation.outvars
      shape, dtype = tuple(output.aval.shape), np.dtype(output.aval.dtype)
      results = [writer.write(equation.primitive.name, inputs, equation.params, shape, dtype)]
    values |= dict(zip(equation.outvars, results, strict=True))
  return [read(variable) for variable in program.outvars]


def _computed(equation: Any, inputs: Sequence[Value]) -> Value | None:
  """The result of an operation on constants, such as weights; None where it has to be written."""
  shape = equation.outvars[0].aval.shape
  if is_symbolic(shape) or any(value.array is None or value.waiting for value in inputs):
    return None
  arrays = [value.array for value in inputs]
  name, params = equation.primitive.name, equation.params
  if name in ON_CONSTANTS:
    return _constant(ON_CONSTANTS[name](*arrays))
  if name == 'reshape':
    return _constant(np.reshape(arrays[0], shape))
  if name == 'transpose':
    return _constant(np.transpose(arrays[0], params['permutation']))
  if name == 'convert_element_type':
    return _constant(arrays[0].astype(params['new_dtype']))
  if name == 'broadcast_in_dim':
    new = [axis for axis in range(len(shape)) if axis not in params['broadcast_dimensions']]
    return _constant(np.broadcast_to(np.expand_dims(arrays[0], new), shape))
  return None
