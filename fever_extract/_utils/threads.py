"""Thread pool over batches, results in order, one torch thread per worker thread.

torch shares an operator out between threads of its own and waits for the slowest: beside a busy
core that takes many times as long as one thread alone. Here each thread works alone.
"""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def map_batches(
    work: Callable[[list[T]], list[R]], inputs: Iterable[T], size: int, alone: int = 1
) -> Iterator[R]:
    """Yield a result per input, in order, using as many threads as torch is set to use.

    Each thread has one of torch's threads to itself. Inputs are taken up a little ahead of the
    results that are asked for.

    Args:
        work: a batch to its results, one an input.
        inputs: may be endless.
        size: of a batch, at most; with 1, the caller's own thread does all, one at a time.
        alone: if there are no more inputs than this, the caller's own thread does them.
    """
    threads = torch.get_num_threads() if size > 1 else 1
    inputs = iter(inputs)
    beginning = list(islice(inputs, alone + 1 if threads > 1 else 0))
    inputs, few = chain(beginning, inputs), len(beginning) <= alone
    del beginning  # so that finished inputs are freed
    if few:
        while batch := list(islice(inputs, size)):
            with one_thread():
                results = work(batch)
            del batch
            yield from results
        return
    yield from map_in_threads(work, _shared_out(inputs, size, threads))


def map_in_threads(work: Callable[[list[T]], list[R]], batches: Iterable[list[T]]) -> Iterator[R]:
    """Yield the results of batches, in order, a batch a thread; as in `map_batches`."""
    waiting: deque[Future[list[R]]] = deque()
    threads = torch.get_num_threads()
    with thread_pool("fever") as pool:
        for batch in batches:
            waiting.append(pool.submit(work, batch))
            del batch
            if len(waiting) > threads:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


@contextmanager
def thread_pool(name: str) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of torch's number of threads, each limited to one; pending work is cancelled."""
    pool = ThreadPoolExecutor(torch.get_num_threads(), name, limit_thread)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute in the calling thread alone.

    Unlike `torch.set_num_threads`, it changes nothing for other threads, not even for those
    that begin meanwhile.
    """
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    before_in_mkl = limit_thread()
    try:
        yield
    finally:
        limit_thread(before, before_in_mkl)


@lru_cache(maxsize=1)
def prepare_for_forks() -> None:
    """Limit torch to one thread in processes forked from this one.

    OpenMP's threads don't survive a fork, and a child that expects them waits for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def limit_thread(count: int = 1, count_in_mkl: int = 1) -> int:
    """Set the calling thread's number of threads; return MKL's previous one (0 if unset)."""
    torch.get_num_threads()  # sets this thread's default, if nothing has yet
    setters = _setters()
    if setters is None:
        return 0
    openmp, mkl = setters
    openmp(count)
    return mkl(count_in_mkl)


@lru_cache(maxsize=1)
def _setters() -> tuple[Callable[[int], object], Callable[[int], int]] | None:
    """Find OpenMP's and MKL's functions that set the calling thread's number of threads.

    They are those of the libraries that torch is linked to. None if there are none: then torch
    keeps its threads.
    """
    before = torch.get_num_threads()
    folder = Path(torch.__file__).parent / "lib"
    for path in chain(folder.glob("*torch_cpu.*"), folder.glob("*omp*")):
        try:
            library = ctypes.CDLL(str(path))
            openmp = library.omp_set_num_threads
        except (OSError, AttributeError):
            continue
        openmp(before + 1)
        works = torch.get_num_threads() == before + 1
        openmp(before)
        if works:
            return openmp, getattr(library, "MKL_Set_Num_Threads_Local", lambda _: 0)
    return None


def _shared_out(inputs: Iterator[T], size: int, threads: int) -> Iterator[list[T]]:
    """Split into batches of ``size``, in order; the last are smaller and smaller.

    Images take very different times: with whole batches to the end, a thread would wait for the
    other's last.
    """
    ahead = deque(islice(inputs, size * threads))
    while ahead:
        count = size if len(ahead) == size * threads else -(-len(ahead) // (2 * threads))
        yield [ahead.popleft() for _ in range(count)]
        ahead.extend(islice(inputs, size * threads - len(ahead)))
