"""Hardware queries: memory, cores, GPUs; and the workers that fit them."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import psutil

from fever_extract.jobs.worker import Work

_WORKER_MEMORY = 1.5e9  # bytes, for large photographs


def resident(pid: int) -> int:
    """Get the bytes of memory that a process uses; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def total_memory() -> int:
    """Get the bytes of memory of this machine, or of the container that this runs in."""
    machine = int(psutil.virtual_memory().total)
    try:  # in a container
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdigit() else machine


def memory_share(workers: int) -> int:
    """Divide four fifths of the memory among workers: bytes for each."""
    return int(0.8 * total_memory() / workers)


def cores() -> int:
    """Count the cores that this process may use, by its affinity and its container's quota."""
    count = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return count
    return min(count, max(1, -(-int(quota) // int(period)))) if quota.isdigit() else count


def threads() -> int:
    """Count the threads that torch uses in this process, or will."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    return int(chosen) if chosen.isdecimal() and int(chosen) else cores()


def spread(work: Work, workers: int | None = None, threads: int | None = None) -> list[Work]:
    """Plan the workers: one per thread or per GPU, or as many as asked for.

    Args:
        work: its device may be None, for CUDA where there is one.
        workers: how many; by default no more than there is memory for. They share the threads,
            and the GPUs in turn.
        threads: of all together; by default one per core.
    """
    threads = threads or cores()
    devices = devices_of(work.device)
    fitting = max(1, int(memory_share(1) / _WORKER_MEMORY))
    count = workers or (min(threads, fitting) if devices == ["cpu"] else len(devices))
    return [
        dataclasses.replace(
            work, device=devices[index % len(devices)], threads=max(1, threads // count)
        )
        for index in range(count)
    ]


def devices_of(device: str | None) -> list[str]:
    """List every GPU if CUDA was asked for in general, else that device.

    Raises:
        ValueError: if it is not known or not there.
    """
    drivers = ("/dev/nvidiactl", "/dev/dxg", "/dev/nvhost-ctrl")
    if device == "cpu" or (device is None and not any(map(os.path.exists, drivers))):
        return ["cpu"]  # without torch, which takes seconds and half a gigabyte

    import torch

    from fever_extract.models.network import pick_device

    picked = pick_device(device)
    if picked.type == "cuda" and picked.index is None:
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(picked)]
