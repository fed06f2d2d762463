"""Batches shared out between threads, their results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def map_batches(work: Callable[[list[T]], list[R]], inputs: Iterable[T], size: int) -> Iterator[R]:
    """A result an input, in order, by as many threads as torch is set to use.

    Each thread has one of torch's threads to itself. Inputs are taken up a little ahead of the
    results that are asked for. One at a time, or no more than one batch, is work for the
    caller's own thread.

    Args:
        work: a batch to its results, one an input.
        inputs: may be endless.
        size: of a batch, at most.
    """
    threads = torch.get_num_threads() if size > 1 else 1
    inputs = iter(inputs)
    beginning = list(islice(inputs, size + 1 if threads > 1 else 0))
    inputs = chain(beginning, inputs)
    if len(beginning) <= size:  # one batch, or one thread
        while batch := list(islice(inputs, size)):
            yield from work(batch)
        return
    pool = ThreadPoolExecutor(threads, "fever", torch.set_num_threads, (1,))
    waiting: deque[Future[list[R]]] = deque()
    try:
        for batch in _shared_out(inputs, size, threads):
            waiting.append(pool.submit(work, batch))
            if len(waiting) > threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # What the pool's threads set for themselves is also the default of later threads.
        torch.set_num_threads(threads)


def _shared_out(inputs: Iterator[T], size: int, threads: int) -> Iterator[list[T]]:
    """Batches of ``size``, in order; the last ones smaller, so that every thread has its share."""
    while some := list(islice(inputs, size * threads)):
        ends = [len(some) * (thread + 1) // threads for thread in range(threads)]
        yield from (some[start:end] for start, end in zip([0, *ends], ends) if end > start)
