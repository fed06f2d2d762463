"""Shrink ONNX files: weights are stored as float16 or int8, arithmetic stays in float32.

ONNX Runtime widens the weights once, when it loads the model: speed and memory are float32's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

PRECISIONS = ("float32", "float16", "int8")

LEAST_COSINE = {"float32": 0.9999, "float16": 0.9999, "int8": 0.999}
"""The least cosine to the package's embeddings that passes, on the conformance pictures."""

_FEW = 1024  # numbers of a tensor that stays as it is: biases, and what a graph is made with
_SMALL = 1 << 16  # numbers of a tensor that stays in float16: the first layers lose most by int8
_BLOCK = 64  # numbers with one scale
_LARGEST = 65504  # in float16


def reduced(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """A copy of a model with its weights in another precision.

    In ``int8``, each 64 numbers that lie together have a scale of their own, by which the largest
    is 127; tensors of at most 65,536 numbers are in float16.

    Args:
        model: with weights in float32.
        precision: one of `PRECISIONS`.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    if precision == "float32":
        return copied
    graph = copied.graph
    weights = _weights(graph)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        layer = values.dtype == np.float32 and tensor.name in weights
        if not layer or values.size < _FEW or np.abs(values).max() > _LARGEST:
            tensors.append(tensor)
            continue
        blocks = precision == "int8" and values.size > _SMALL and values.size % _BLOCK == 0
        stored, steps = (_int8 if blocks else _float16)(tensor.name, values)
        tensors += stored
        nodes += steps
    nodes += graph.node
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    # The exporter describes initializers as values, too, which they no longer are.
    del graph.value_info[:]
    onnx.checker.check_model(copied, full_check=True)
    return copied


def _float16(
    name: str, values: npt.NDArray[np.float32]
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """What is stored of a tensor, and the nodes that make it of that."""
    from onnx import TensorProto, helper, numpy_helper

    small = f"{name}.float16"
    stored = numpy_helper.from_array(values.astype(np.float16), small)
    return [stored], [helper.make_node("Cast", [small], [name], to=TensorProto.FLOAT)]


def _int8(
    name: str, values: npt.NDArray[np.float32]
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """What is stored of a tensor, and the nodes that make it of that.

    DequantizeLinear would be shorter, but ONNX Runtime does not compute it in advance.
    """
    from onnx import TensorProto, helper, numpy_helper

    small, scale, shape = f"{name}.int8", f"{name}.scale", f"{name}.shape"
    blocks = values.reshape(-1, _BLOCK)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    # The clip is for scales that float16 rounds down.
    scales = np.maximum(largest / 127, np.finfo(np.float16).tiny).astype(np.float16)
    whole = np.round(blocks / scales.astype(np.float32)).clip(-127, 127)
    stored = {small: whole.astype(np.int8), scale: scales, shape: np.array(values.shape, np.int64)}
    wide = [f"{part}.wide" for part in (small, scale)]
    nodes = [
        helper.make_node("Cast", [part], [f"{part}.wide"], to=TensorProto.FLOAT)
        for part in (small, scale)
    ]
    nodes.append(helper.make_node("Mul", wide, [f"{name}.blocks"]))
    nodes.append(helper.make_node("Reshape", [f"{name}.blocks", shape], [name]))
    return [numpy_helper.from_array(array, part) for part, array in stored.items()], nodes


def _weights(graph: onnx.GraphProto) -> set[str]:
    """The tensors that only convolutions and linear layers use, as their weights."""
    inputs = [
        (node.op_type in ("Conv", "Gemm", "MatMul") and position == 1, name)
        for node in graph.node
        for position, name in enumerate(node.input)
    ]
    return {name for layer, name in inputs if layer} - {name for layer, name in inputs if not layer}
