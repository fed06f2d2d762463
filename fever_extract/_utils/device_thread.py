"""The one thread that asks a GPU to compute."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fever_extract._utils.precision import full_precision
from fever_extract._utils.threads import limit_thread

T = TypeVar("T")


class DeviceThread:
    """Run work in one thread that stays, in full precision; or at once where it is called.

    cuDNN's plans for convolutions belong to the thread that made them. On an H200, threads that
    began with each call of `Extractor.extract` made them anew, and a call took ten seconds more.

    Args:
        own: False to run work where it is called, as it is: on a CPU.
    """

    def __init__(self, own: bool) -> None:
        self._pool = ThreadPoolExecutor(1, "fever-gpu", limit_thread) if own else None

    def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises."""
        if self._pool is None:
            return work()
        return self._pool.submit(_exactly, work).result()


def _exactly(work: Callable[[], T]) -> T:
    with full_precision():
        return work()
