"""MTCNN's three networks as ONNX, for use without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.detection.mtcnn import DENSE, HEADS, POOLS, load_weights
from fever_extract.detection.parameters import O_SIZE, R_SIZE

if TYPE_CHECKING:
    import onnx

NETWORKS = ("pnet", "rnet", "onet")

_OPSET = 18
_IR_VERSION = 10
_SIDES = {"rnet": R_SIZE, "onet": O_SIZE}


def to_onnx(name: str) -> onnx.ModelProto:
    """One of the three networks as an ONNX model.

    P-Net's input ``image`` is ``(h, w, 3)`` uint8 RGB with even sides, of 12 pixels or more; its
    outputs are a map of ``scores`` ``(rows, columns)``, 0 to 1, and ``offsets``
    ``(rows, columns, 4)`` in cells. The input of the others, ``crops``, is ``(k, side, side, 3)``
    float32, 0 to 255; their outputs are ``scores`` ``(k,)``, ``offsets`` ``(k, 4)`` and, from
    O-Net, ``landmarks`` ``(k, 5, 2)``, x and y, in sides of the crop.

    Args:
        name: one of `NETWORKS`.
    """
    weights = {key: value.numpy() for key, value in load_weights(name).items()}
    graph = _Graph(weights)
    if name == "pnet":
        x = graph.add("Cast", "image", to=1)  # float
        x = graph.add("Unsqueeze", x, graph.constant([0]))
    else:
        x = "crops"
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    side = _SIDES.get(name)  # P-Net takes any, of which two pixels a window fit exactly
    for number, pool in enumerate(POOLS[name], 1):
        x = graph.add("Conv", x, f"conv{number}.weight", f"conv{number}.bias")
        x = graph.prelu(x, number, 4)
        if side:
            side -= weights[f"conv{number}.weight"].shape[2] - 1
        if pool:
            # As in Caffe, a last window that reaches over the border counts.
            beyond = (side - pool) % 2 if side else 0
            x = graph.add(
                "MaxPool", x, kernel_shape=[pool] * 2, strides=[2, 2], pads=[0, 0, beyond, beyond]
            )
            side = side and (side + beyond - pool) // 2 + 1
    if name in DENSE:
        # The weights are of features in the order (w, h, c).
        x = graph.add("Flatten", graph.add("Transpose", x, perm=[0, 3, 2, 1]), axis=1)
        x = graph.add("Gemm", x, f"{DENSE[name]}.weight", f"{DENSE[name]}.bias", transB=1)
        x = graph.prelu(x, len(POOLS[name]) + 1, 2)
    else:
        x = graph.add("Squeeze", graph.add("Transpose", x, perm=[0, 2, 3, 1]), graph.constant([0]))
    _add_heads(graph, x, name)
    return graph.model(name)


def _add_heads(graph: _Graph, x: str, name: str) -> None:
    """Scores, offsets and landmarks from features that come last."""
    weights = graph.weights

    def linear(weight: np.ndarray, bias: np.ndarray) -> str:
        product = graph.add("MatMul", x, graph.constant(np.ascontiguousarray(weight.T)))
        return graph.add("Add", product, graph.constant(bias))

    pairs = [
        (weights[f"{head}.weight"].reshape(len(weights[f"{head}.bias"]), -1), bias)
        for head in HEADS[name]
        for bias in [weights[f"{head}.bias"]]
    ]
    # A softmax over two logits, of which the second is the face's.
    margin = linear(*(values[1:] - values[:1] for values in pairs[0]))
    scores = graph.add("Sigmoid", margin)
    graph.add("Squeeze", scores, graph.constant([-1]), output="scores")
    graph.add("Identity", linear(*pairs[1]), output="offsets")
    if len(pairs) > 2:
        points = graph.add("Reshape", linear(*pairs[2]), graph.constant([-1, 2, 5]))
        graph.add("Transpose", points, perm=[0, 2, 1], output="landmarks")


class _Graph:
    """Nodes, and the weights that they name."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        from onnx import helper

        output = output or f"{operator.lower()}_{len(self._nodes)}"
        for name in inputs:
            if name in self.weights:
                self._constants[name] = self.weights[name]
        self._nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def prelu(self, x: str, number: int, dims: int) -> str:
        """PReLU of a slope a channel, of which there are ``dims`` dimensions, channels second."""
        slope = self.weights[f"prelu{number}.weight"]
        return self.add("PRelu", x, self.constant(slope.reshape(-1, *[1] * (dims - 2))))

    def constant(self, values: np.ndarray | Sequence[int]) -> str:
        """The name of an initializer of these values."""
        name = f"constant_{len(self._constants)}"
        self._constants[name] = np.asarray(values)
        return name

    def model(self, name: str) -> onnx.ModelProto:
        """All of it, checked."""
        from onnx import TensorProto, checker, helper, numpy_helper

        def describe(tensor: str, shape: list[str | int], dtype: int = TensorProto.FLOAT) -> Any:
            return helper.make_tensor_value_info(tensor, dtype, shape)

        if name == "pnet":
            source = describe("image", ["height", "width", 3], TensorProto.UINT8)
            count: list[str | int] = ["rows", "columns"]
        else:
            source = describe("crops", ["n", _SIDES[name], _SIDES[name], 3])
            count = ["n"]
        outputs = [describe("scores", count), describe("offsets", [*count, 4])]
        if name == "onet":
            outputs.append(describe("landmarks", [*count, 5, 2]))
        constants = [numpy_helper.from_array(v, k) for k, v in self._constants.items()]
        graph = helper.make_graph(self._nodes, name, [source], outputs, constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, producer_name="fever-extract")
        model.ir_version = _IR_VERSION
        checker.check_model(model, full_check=True)
        return model
