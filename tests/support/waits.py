"""Count how often the CPU waits for a device."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode

# Of these a GPU must be done with all that came before: their result is a value, or has a size,
# that the CPU needs; or they copy what is not in pinned memory.
_WAITING = (
    "__bool__ __float__ __index__ __int__ argwhere as_tensor cpu cuda item masked_select "
    "new_tensor nms nonzero repeat_interleave tensor tolist unique unique_consecutive"
).split()


class _Calls(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", str(function)).rpartition(".")[2]
        masked = name in ("__getitem__", "__setitem__") and _has_mask(args[1])
        moved = name == "to" and _names_device(args, kwargs) and not kwargs.get("non_blocking")
        if name in _WAITING or masked or moved:
            self.waits[name] += 1
        return function(*args, **kwargs)


def _has_mask(index) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)


def _names_device(args, kwargs) -> bool:
    return "device" in kwargs or any(isinstance(arg, (str, torch.device)) for arg in args[1:])


@contextmanager
def counted(device: str) -> Iterator[Counter[str]]:
    """Count the waits of this thread: what a GPU reports, or the calls by which it would wait."""
    if not device.startswith("cuda"):
        with _Calls() as calls:
            yield calls.waits
        return
    waits: Counter[str] = Counter()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield waits
        waits["reported"] = sum("synchroniz" in str(one.message).lower() for one in caught)
    finally:
        torch.cuda.set_sync_debug_mode("default")
