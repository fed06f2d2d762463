"""The same network, faster on a CPU: what oneDNN would do at each call is done once.

torch hands each convolution's weights to oneDNN as they lie, where they are laid out anew at each
call; and an activation that follows, or TensorFlow's uneven padding before, is one more pass over
memory. Here weights are laid out once, and activation and padding are part of the convolution, by
the operators that torch's own compiler uses. For one face the layout is a good part of the time,
above all in bfloat16.
"""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F

_NO_ACTIVATION: tuple[str, list[float]] = ("none", [])


class _PackedConv2d(nn.Module):
    """A convolution and its activation.

    Args:
        convolution: with zeros for padding.
        activation: as `_activation` names it.
        shape: of what it will see, whatever the number of images: layouts are chosen for it.
    """

    def __init__(
        self, convolution: nn.Conv2d, activation: tuple[str, list[float]], shape: torch.Size
    ) -> None:
        super().__init__()
        self.bias = convolution.bias
        self.name, self.scalars = activation
        self.numbers = (
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        self.packed = torch._C._nn.mkldnn_reorder_conv2d_weight(  # type: ignore[call-arg]
            convolution.weight.detach().to_mkldnn(), *self.numbers, list(shape)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self.packed, self.bias, *self.numbers, self.name, self.scalars, ""
        )
        return result


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this machine's processor and torch can."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


@torch.inference_mode()
def pack(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """A network for inference on a CPU, with its convolutions packed.

    Args:
        network: that ``torch.fx`` can trace, batch norms already gone into the convolutions;
            its modules may be used by both afterwards.
        example: something to run through it, of the size that it will see.
    """
    traced = fx.symbolic_trace(network)
    ShapeProp(traced).propagate(example)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        convolution = modules.get(node.target) if node.op == "call_module" else None
        if not isinstance(convolution, nn.Conv2d) or not _pads_with_zeros(convolution):
            continue
        before = modules.get(node.args[0].target) if node.args[0].op == "call_module" else None
        if _is_padding_for(before, convolution) and len(node.args[0].users) == 1:
            convolution = _with_padding(convolution)
            padding = node.args[0]
            node.args = padding.args
            traced.graph.erase_node(padding)
        followers = list(node.users)
        activation = _activation(followers[0], modules) if len(followers) == 1 else _NO_ACTIVATION
        if activation != _NO_ACTIVATION:
            followers[0].replace_all_uses_with(node)
            traced.graph.erase_node(followers[0])
        shape = node.args[0].meta["tensor_meta"].shape
        traced.add_submodule(f"packed_{node.name}", _PackedConv2d(convolution, activation, shape))
        node.target = f"packed_{node.name}"
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _pads_with_zeros(convolution: nn.Conv2d) -> bool:
    return convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


def _is_padding_for(module: nn.Module | None, convolution: nn.Conv2d) -> bool:
    """Whether a module pads what the convolution sees by one, to the right and below only."""
    return (
        isinstance(module, nn.ZeroPad2d)
        and tuple(module.padding) == (0, 1, 0, 1)
        and tuple(convolution.padding) == (0, 0)
        and tuple(convolution.dilation) == (1, 1)
    )


def _with_padding(convolution: nn.Conv2d) -> nn.Conv2d:
    """The same convolution of what is not yet padded to the right and below.

    Its kernel gets a row and a column of zeros above and to the left, so that it may begin one
    pixel earlier, and be padded alike on all sides.
    """
    padded = copy.deepcopy(convolution)
    kernel = F.pad(convolution.weight.detach(), (1, 0, 1, 0))
    padded.weight, padded.padding = nn.Parameter(kernel, requires_grad=False), (1, 1)
    return padded


def _activation(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[str, list[float]]:
    """oneDNN's name for a node, and its numbers, if it is an activation."""
    function = type(modules[str(node.target)]) if node.op == "call_module" else node.target
    if function in (nn.ReLU, F.relu):
        return "relu", []
    if function in (nn.ReLU6, F.relu6):
        return "hardtanh", [0.0, 6.0]
    return _NO_ACTIVATION
