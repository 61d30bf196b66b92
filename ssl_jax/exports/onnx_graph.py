"""An ONNX graph while it is written: its nodes, constants and open sizes."""

import ast
from collections.abc import Sequence
from typing import Any

import numpy as np

from ssl_jax.models.operations.symbolic import Size, is_symbolic

OPSET = 17
"""Version of the operators: old enough for the runtimes inside ImageJ and QuPath."""

IR_VERSION = 8
"""Version of the file format that came with these operators."""

NODES_OF_SIZES = {ast.Add: 'Add', ast.Sub: 'Sub', ast.Mult: 'Mul'}
"""Operators in expressions of open sizes."""


class OnnxGraph:
  """Collects nodes and constants; every value has a name of its own.

  Args:
    sizes: open size -> (name of an input, its axis).
  """

  def __init__(self, sizes: dict[str, tuple[str, int]]):
    # Imported here, because only the export to this format needs the package.
    from onnx import helper, numpy_helper

    self._helper = helper
    self._to_tensor = numpy_helper.from_array
    self._sizes = sizes
    self._nodes: list[Any] = []
    self._constants: list[Any] = []
    self._size_names: dict[str, str] = {}
    self._names = 0

  def _new_name(self, operator: str) -> str:
    self._names += 1
    return f'{operator}_{self._names}'

  def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
    """Adds a node of one output, and returns the name of that."""
    name = self._new_name(operator)
    self._nodes.append(self._helper.make_node(operator, inputs, [name], name, **attributes))
    return name

  def constant(self, array: np.ndarray) -> str:
    """Adds a constant and returns its name."""
    name = self._new_name('constant')
    self._constants.append(self._to_tensor(np.asarray(array, order='C'), name))
    return name

  def integers(self, numbers: Sequence[int]) -> str:
    """Adds a constant list of whole numbers, as operators take sizes and axes."""
    return self.constant(np.asarray(numbers, np.int64))

  def dtype_code(self, dtype: Any) -> int:
    """Returns the number by which ONNX knows a kind of numbers."""
    return self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

  def shape(self, sizes: Sequence[Size]) -> str:
    """Returns the name of a list of sizes, some of which may be open."""
    if not is_symbolic(sizes):
      return self.integers(sizes)
    return self.add('Concat', *(self.size(size) for size in sizes), axis=0)

  def size(self, size: Size) -> str:
    """Returns the name of one size, as a list of one number."""
    # JAX writes expressions of sizes so that Python can read them: 2*floordiv(h, 2) - 1.
    text = str(size)
    if text not in self._size_names:
      self._size_names[text] = self._expression(
        ast.parse(text.replace('^', '**'), mode='eval').body
      )
    return self._size_names[text]

  def _expression(self, node: ast.AST) -> str:
    match node:
      case ast.Constant(value=int(number)):
        return self.integers([number])
      case ast.Name(id=name):
        source, axis = self._sizes[name]
        return self.add('Shape', source, start=axis, end=axis + 1)
      case ast.UnaryOp(op=ast.USub(), operand=operand):
        return self.add('Neg', self._expression(operand))
      case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
        return self.add('Pow', self._expression(base), self._expression(exponent))
      case ast.BinOp(left=left, op=operator, right=right):
        operator_name = NODES_OF_SIZES[type(operator)]
        return self.add(operator_name, self._expression(left), self._expression(right))
      case ast.Call(func=ast.Name(id=function), args=[left, right]):
        return self._function(function, self._expression(left), self._expression(right))
    raise NotImplementedError(f'a size of the form {ast.unparse(node)}')

  def _function(self, function: str, left: str, right: str) -> str:
    if function in ('max', 'min'):
      return self.add(function.capitalize(), left, right)
    # Mod has the sign of the divisor, as in Python. Div rounds towards 0, and so needs a multiple.
    remainder = self.add('Mod', left, right)
    if function == 'mod':
      return remainder
    assert function == 'floordiv', function
    return self.add('Div', self.add('Sub', left, remainder), right)

  def model(self, inputs: Sequence[Any], outputs: Sequence[Any], metadata: dict[str, str]) -> Any:
    """Returns the graph as a model of ONNX.

    Args:
      inputs: onnx.ValueInfoProto of each, as `tensor` makes them.
      outputs: likewise; the names must be those of values.
      metadata: texts that the file carries.
    """
    graph = self._helper.make_graph(self._nodes, 'ssl_jax', inputs, outputs, self._constants)
    opset = self._helper.make_operatorsetid('', OPSET)
    model = self._helper.make_model(
      graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name='ssl_jax'
    )
    self._helper.set_model_props(model, metadata)
    return model

  def tensor(self, name: str, dtype: Any, shape: Sequence[Any]) -> Any:
    """Returns the description of an input or output; a size may be a name."""
    return self._helper.make_tensor_value_info(name, self.dtype_code(dtype), list(shape))

  def rename(self, name: str, new: str) -> None:
    """Gives a value a name of its own, as an output has it."""
    self._nodes.append(self._helper.make_node('Identity', [name], [new], new))
