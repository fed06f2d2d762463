"""Smaller files: an ONNX model's weights in float16 or int8, its arithmetic in float32.

ONNX Runtime widens the weights once, when it loads the model: speed and memory are float32's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("float32", "float16", "int8")

_FEW = 1024  # numbers of a tensor that stays as it is: biases, and what a graph is made with


def reduced(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A copy of a model with its weights in another precision.

    In ``int8``, each output channel of a convolution or a linear layer has a scale of its own,
    by which its largest weight is 127.

    Args:
        model: with weights in float32.
        precision: one of `PRECISIONS`.
    """
    import onnx
    from onnx import helper, numpy_helper

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    if precision == "float32":
        return copied
    graph = copied.graph
    axes = _output_axes(graph)
    nodes, tensors = [], []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _FEW or tensor.name not in axes:
            tensors.append(tensor)
            continue
        small = f"{tensor.name}.{precision}"
        if precision == "float16":
            tensors.append(numpy_helper.from_array(values.astype(np.float16), small))
            nodes.append(helper.make_node("Cast", [small], [tensor.name], to=1))
            continue
        others = tuple(axis for axis in range(values.ndim) if axis != axes[tensor.name])
        scale = np.maximum(np.abs(values).max(axis=others, keepdims=True) / 127, 1e-12)
        whole = np.round(values / scale).astype(np.int8)
        tensors.append(numpy_helper.from_array(whole, small))
        tensors.append(numpy_helper.from_array(scale.astype(np.float32), f"{small}.scale"))
        nodes.append(helper.make_node("Cast", [small], [f"{small}.wide"], to=1))
        inputs = [f"{small}.wide", f"{small}.scale"]
        nodes.append(helper.make_node("Mul", inputs, [tensor.name]))
    # DequantizeLinear would say the same, but is not computed in advance.
    everything = [*nodes, *graph.node]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(everything)
    graph.initializer.extend(tensors)
    # The exporter describes initializers as values, too, which they no longer are.
    del graph.value_info[:]
    onnx.checker.check_model(copied, full_check=True)
    return copied


def _output_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """The axis of output channels of each weight that only layers use."""
    axes: dict[str, int] = {}
    elsewhere: set[str] = set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            if node.op_type == "Conv" and position == 1:
                axes[name] = 0
            elif node.op_type == "Gemm" and position == 1:
                flags = {attribute.name: attribute.i for attribute in node.attribute}
                axes[name] = 0 if flags.get("transB") else 1
            elif node.op_type == "MatMul" and position == 1:
                axes[name] = 1
            else:
                elsewhere.add(name)
    return {name: axis for name, axis in axes.items() if name not in elsewhere}
