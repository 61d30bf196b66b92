"""The operations of a traced program (jaxpr) as nodes of ONNX, for the programs of our networks.

A value keeps the shape that it has in the program. Where a program only repeats it along an axis,
the value waits with a 1 there (`Value.waiting`), because nodes of arithmetic broadcast by
themselves; only other nodes need it written out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ssl_jax.exports.onnx_graph import OnnxGraph
from ssl_jax.models.operations.symbolic import Size


class Value(NamedTuple):
  """An array of the program: a constant, or the output of a node."""

  shape: tuple[Size, ...]
  dtype: np.dtype
  name: str = ''  # of a node's output
  array: np.ndarray | None = None  # of a constant
  waiting: bool = False  # whether axes of length 1 are still to be repeated


ELEMENTWISE = {
  'add': 'Add',
  'sub': 'Sub',
  'mul': 'Mul',
  'div': 'Div',
  'max': 'Max',
  'min': 'Min',
  'neg': 'Neg',
  'abs': 'Abs',
  'sign': 'Sign',
  'exp': 'Exp',
  'log': 'Log',
  'sqrt': 'Sqrt',
  'tanh': 'Tanh',
  'erf': 'Erf',
  'floor': 'Floor',
  'logistic': 'Sigmoid',
  'eq': 'Equal',
  'lt': 'Less',
  'le': 'LessOrEqual',
  'gt': 'Greater',
  'ge': 'GreaterOrEqual',
  'and': 'And',
  'or': 'Or',
  'not': 'Not',
  'copy': 'Identity',
  'stop_gradient': 'Identity',
}
"""Operations that are one node, with the same inputs."""


class Writer:
  """Writes operations into a graph."""

  def __init__(self, graph: OnnxGraph):
    self.graph = graph

  def name(self, value: Value, spread: bool = True) -> str:
    """Returns the name of a value, repeated along its axes if `spread`."""
    name = value.name if value.array is None else self.graph.constant(value.array)
    if spread and value.waiting:
      return self.graph.add('Expand', name, self.graph.shape(value.shape))
    return name

  def write(
    self,
    operation: str,
    inputs: Sequence[Value],
    params: Mapping[str, Any],
    shape: tuple[Size, ...],
    dtype: np.dtype,
  ) -> Value:
    """Writes an operation and returns its value.

    Raises:
      NotImplementedError: if it is none that networks of this package have.
    """
    if operation in ELEMENTWISE:
      return self._elementwise(ELEMENTWISE[operation], inputs, shape, dtype)
    if operation in ('broadcast_in_dim', 'convert_element_type', 'select_n', 'rsqrt', 'erfc', 'ne'):
      # These keep what is waiting.
      return getattr(self, f'_{operation}')(inputs, params, shape, dtype)
    method: Callable | None = getattr(self, f'_{operation}', None)
    if method is None:
      raise NotImplementedError(f'the operation {operation}')
    return Value(shape, dtype, method(inputs, params, shape, dtype))

  def _elementwise(
    self, operator: str, inputs: Sequence[Value], shape: tuple[Size, ...], dtype: np.dtype
  ) -> Value:
    # An axis that no input has at its full length waits in the result as well.
    waiting = all(value.waiting or value.shape != shape for value in inputs)
    names = [self.name(value, spread=False) for value in inputs]
    return Value(shape, dtype, self.graph.add(operator, *names), waiting=waiting)

  def _rsqrt(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype) -> Value:
    root = self._elementwise('Sqrt', inputs, shape, dtype)
    return self._elementwise('Reciprocal', [root], shape, dtype)

  def _ne(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype) -> Value:
    return self._elementwise(
      'Not', [self._elementwise('Equal', inputs, shape, dtype)], shape, dtype
    )

  def _erfc(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype) -> Value:
    one = Value((), dtype, array=np.ones((), dtype), waiting=True)
    erf = self._elementwise('Erf', inputs, shape, dtype)
    return self._elementwise('Sub', [one, erf], shape, dtype)

  def _select_n(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype) -> Value:
    # The first case is that of False; Where has that of True first.
    which, if_false, if_true = inputs
    return self._elementwise('Where', [which, if_true, if_false], shape, dtype)

  def _convert_element_type(
    self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype
  ) -> Value:
    [value] = inputs
    if value.dtype == dtype:
      return value
    code = self.graph.dtype_code(dtype)
    name = self.graph.add('Cast', self.name(value, spread=False), to=code)
    return value._replace(name=name, array=None, dtype=dtype)

  def _broadcast_in_dim(
    self, inputs: Sequence[Value], params: Any, shape: tuple[Size, ...], dtype: np.dtype
  ) -> Value:
    value = inputs[0]
    kept = params['broadcast_dimensions']
    new = [axis for axis in range(len(shape)) if axis not in kept]
    # Whether nothing is left to repeat.
    whole = not value.waiting and all(shape[axis] == 1 for axis in new)
    whole = whole and all(old == shape[axis] for old, axis in zip(value.shape, kept, strict=True))
    if value.array is not None:
      return Value(shape, dtype, array=np.expand_dims(value.array, new), waiting=not whole)
    name = value.name
    if new:
      name = self.graph.add('Unsqueeze', name, self.graph.integers(new))
    return Value(shape, dtype, name, waiting=not whole)

  def _reshape(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    return self.graph.add('Reshape', self.name(inputs[0]), self.graph.shape(shape))

  def _squeeze(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    axes = self.graph.integers(params['dimensions'])
    return self.graph.add('Squeeze', self.name(inputs[0]), axes)

  def _transpose(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    return self.graph.add('Transpose', self.name(inputs[0]), perm=params['permutation'])

  def _concatenate(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    names = [self.name(value) for value in inputs]
    return self.graph.add('Concat', *names, axis=params['dimension'])

  def _slice(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    axes = range(len(shape))
    starts, limits = (self.graph.shape(params[key]) for key in ('start_indices', 'limit_indices'))
    steps = self.graph.integers(params['strides'] or [1] * len(shape))
    name = self.name(inputs[0])
    return self.graph.add('Slice', name, starts, limits, self.graph.integers(axes), steps)

  def _pad(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    lows, highs, between = zip(*params['padding_config'], strict=True)
    if any(between):
      raise NotImplementedError('padding between pixels')
    margins = self.graph.shape([*lows, *highs])
    return self.graph.add('Pad', self.name(inputs[0]), margins, self.name(inputs[1]))

  def _iota(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype) -> str:
    if len(shape) != 1:
      raise NotImplementedError('indices of several axes')
    limit = self._scalar(self.graph.size(shape[0]), np.dtype(np.int64))
    ends = [self.graph.constant(np.asarray(number, np.int64)) for number in (0, 1)]
    name = self.graph.add('Range', ends[0], limit, ends[1])
    return self.graph.add('Cast', name, to=self.graph.dtype_code(dtype))

  def _dim_as_value(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype) -> str:
    return self._scalar(self.graph.size(params['dim']), dtype)

  def _scalar(self, name: str, dtype: np.dtype) -> str:
    """A list of one number as a number."""
    name = self.graph.add('Squeeze', name, self.graph.integers([0]))
    return self.graph.add('Cast', name, to=self.graph.dtype_code(dtype))

  def _rem(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    # With the sign of the dividend, as in C.
    return self.graph.add('Mod', *(self.name(value) for value in inputs), fmod=1)

  def _argmax(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: np.dtype) -> str:
    [axis] = params['axes']
    name = self.graph.add('ArgMax', self.name(inputs[0]), axis=axis, keepdims=0)
    return self.graph.add('Cast', name, to=self.graph.dtype_code(dtype))

  def _reduce_sum(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    axes = self.graph.integers(params['axes'])
    return self.graph.add('ReduceSum', self.name(inputs[0]), axes, keepdims=0)

  def _reduce_max(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    # Of this and the next, the axes are an attribute in the version of operators that we write.
    return self.graph.add('ReduceMax', self.name(inputs[0]), axes=params['axes'], keepdims=0)

  def _reduce_min(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    return self.graph.add('ReduceMin', self.name(inputs[0]), axes=params['axes'], keepdims=0)

  def _gather(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    numbers = params['dimension_numbers']
    array, indices = inputs
    [axis] = numbers.collapsed_slice_dims
    # Whole rows along one axis, at places [n, 1] or at a single one [1], which takes the axis away;
    # the last axis of places is that of coordinates.
    last = len(indices.shape) - 1
    others = tuple(other for other in range(len(shape)) if other != axis or not last)
    if numbers.start_index_map != (axis,) or numbers.offset_dims != others:
      raise NotImplementedError('gathering of single pixels')
    places = self.graph.add('Squeeze', self.name(indices), self.graph.integers([last]))
    return self.graph.add('Gather', self.name(array), places, axis=axis)

  def _dot_general(self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any) -> str:
    (left_sum, right_sum), (left_batch, right_batch) = params['dimension_numbers']
    left, right = inputs
    names = [self.name(value) for value in inputs]
    plain = len(right.shape) == 2 and tuple(right_sum) == (0,) and not left_batch
    if plain and tuple(left_sum) == (len(left.shape) - 1,):
      return self.graph.add('MatMul', *names)
    # A letter for each axis; axes that are summed or shared have the same one.
    letters = iter('abcdefghijklmnop')
    left_letters = [next(letters) for _ in left.shape]
    right_letters = [next(letters) for _ in right.shape]
    pairs = [*zip(left_sum, right_sum, strict=True), *zip(left_batch, right_batch, strict=True)]
    for one, other in pairs:
      right_letters[other] = left_letters[one]
    result = [left_letters[axis] for axis in left_batch]
    result += [c for i, c in enumerate(left_letters) if i not in (*left_sum, *left_batch)]
    result += [c for i, c in enumerate(right_letters) if i not in (*right_sum, *right_batch)]
    equation = f'{"".join(left_letters)},{"".join(right_letters)}->{"".join(result)}'
    return self.graph.add('Einsum', *names, equation=equation)

  def _conv_general_dilated(
    self, inputs: Sequence[Value], params: Any, shape: Any, dtype: Any
  ) -> str:
    if any(step != 1 for step in params['lhs_dilation']) or params['batch_group_count'] != 1:
      raise NotImplementedError('a convolution of spread pixels')
    images, kernel = inputs
    numbers = params['dimension_numbers']
    # To [B, C, *space] and [o, i, *k]; a kernel is a constant and transposed once.
    name = self.graph.add('Transpose', self.name(images), perm=numbers.lhs_spec)
    if kernel.array is not None and not kernel.waiting:
      kernel_name = self.graph.constant(kernel.array.transpose(numbers.rhs_spec))
    else:
      kernel_name = self.graph.add('Transpose', self.name(kernel), perm=numbers.rhs_spec)
    lows, highs = zip(*params['padding'], strict=True)
    name = self.graph.add(
      'Conv',
      name,
      kernel_name,
      strides=params['window_strides'],
      dilations=params['rhs_dilation'],
      pads=[*lows, *highs],
      group=params['feature_group_count'],
    )
    return self.graph.add('Transpose', name, perm=np.argsort(numbers.out_spec).tolist())
