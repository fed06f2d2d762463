"""The compiled library: whether it is here, and what goes into its functions.

It is there where the package was built by a C++ compiler for x86-64, and the processor has AVX2.
It is called by way of ctypes, without Python's interpreter lock.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.ctypeslib import ndpointer

INSTRUCTIONS = ("torch (nothing was compiled)", "compiled, AVX2", "compiled, AVX-512")
"""What `instructions` counts, in words."""
LANES = 16
"""Channels are padded to a multiple of these."""


@cache
def instructions() -> int:
    """Return what may be run here: 2 for AVX-512, 1 for AVX2, 0 if nothing was compiled."""
    library = _load()
    return int(library.fever_instructions()) if library else 0


def library() -> ctypes.CDLL:
    """Return the library; whoever asks for it asks `instructions` first."""
    loaded = _load()
    assert loaded is not None
    return loaded


@cache
def _load() -> ctypes.CDLL | None:
    for path in Path(__file__).parent.glob("_kernels*.so"):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:  # of another system
            continue
        number, real = ctypes.c_int, ctypes.c_float
        pointer, many = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
        # As arrays are declared, their dtypes are checked, and they live until the call is over.
        ints, reals = (ndpointer(dtype, flags="C_CONTIGUOUS") for dtype in (np.int32, np.float32))
        network: list[Any] = [number, reals, number, many, reals]
        arguments: dict[str, list[Any]] = {
            "instructions": [],
            "pnet": [number, many, ints, number, many, real, ints, reals],
            "rnet": network,
            "onet": network,
            "sample": [number, many, ints, ints, reals, number, number, reals],
            "resize": [pointer, number, number, number, number, pointer],
            "mobilenet": [
                *(number, reals, number, number, number, ints, number, ints, number, many),
                *(number, reals),
            ],
            "warp": [pointer, number, number, number, reals, number, pointer],
            "pack": [pointer, ctypes.c_int64, pointer],
            "dense": [number, reals, number, number, number, pointer, number, reals],
        }
        for name, types in arguments.items():
            getattr(library, f"fever_{name}").argtypes = types
        return library
    return None
