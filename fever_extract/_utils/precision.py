"""Float32 arithmetic of a GPU in float32, whatever the process allows otherwise."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_users: list[object] = []  # a token each
_before: list[object] = []


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep TensorFloat-32 out of convolutions and matrix products while the context is open.

    Its 10 bits would move embeddings by more than they may differ between devices. torch has
    the setting for the whole process only: the first to enter changes it, the last to leave sets
    it back, so that threads don't undo each other's.
    """
    token = object()
    with _lock:
        if not _users:
            _before[:] = [getattr(owner, name) for owner, name, _ in _settings()]
            for owner, name, exact in _settings():
                setattr(owner, name, exact)
        _users.append(token)
    try:
        yield
    finally:
        with _lock:
            _users.remove(token)
            if not _users:
                for (owner, name, _), value in zip(_settings(), _before):
                    setattr(owner, name, value)


def _settings() -> list[tuple[Any, str, object]]:
    """List torch's settings: each its owner, its name, and its value for full precision."""
    convolutions: Any = torch.backends.cudnn
    products: Any = torch.backends.cuda.matmul
    if not hasattr(convolutions, "conv"):  # torch before 2.9
        return [(convolutions, "allow_tf32", False), (products, "allow_tf32", False)]
    # Set one by one, torch would refuse to say whether cuDNN as a whole uses it.
    owners = convolutions.conv, convolutions.rnn, products
    return [(owner, "fp32_precision", "ieee") for owner in owners]
