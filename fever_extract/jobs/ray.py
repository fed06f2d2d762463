"""Ray engine: a job on many machines, with the same shards in the same order.

Ray Data sends batches of inputs to actors and their rows back; an actor watches a worker
process of its own (`fever_extract.jobs.supervisor`), so that a file that kills its decoder is a
record here too, not a failed task. The machine that starts the job plans, orders and writes:
stopping, going on and all else are as in `fever_extract.jobs.sharded`. Needs the extra ``ray``.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract._utils.extras import require
from fever_extract.jobs import machine
from fever_extract.jobs._listing import from_arrow, to_arrow
from fever_extract.jobs.engine import Engine, EngineMaker, Stop
from fever_extract.jobs.supervisor import TIMEOUT, Report, Supervisor
from fever_extract.jobs.worker import Task, Work, to_table
from fever_extract.tables.schema import Widths

if TYPE_CHECKING:
    import pyarrow as pa

_PLACE = "place"  # of an input in the job


def on_ray(
    address: str | None = None,
    *,
    concurrency: int | None = None,
    num_cpus: float = 1,
    num_gpus: float = 0,
    timeout: float = TIMEOUT,
) -> EngineMaker:
    """Make an engine for `Extractor.extract_folder`, or `fever_extract.jobs.run.run`.

    Every node must reach the images under the same names: a shared file system, or addresses
    such as ``s3://bucket/folder``. The output is a folder of the machine that calls.

    Args:
        address: of a Ray cluster, ``auto`` for the one that this machine belongs to; None for
            one that is made here and ends with the job. A Ray that runs in this process
            already is used as it is.
        concurrency: actors; by default as many as the cluster has room for.
        num_cpus, num_gpus: what an actor takes of its node. With ``num_gpus`` the networks run
            there; fractions let actors share one.
        timeout: as in `Supervisor`.

    Raises:
        ImportError: if Ray is missing.
        ValueError: if ``concurrency`` is less than 1.
    """
    ray = _import_ray()
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")

    @contextmanager
    def make(work: Work, widths: Widths, job: Path, report: Report) -> Iterator[Engine]:
        started = not ray.is_initialized()
        if started:
            ours = address is None and "RAY_ADDRESS" not in os.environ
            try:
                with _on_loopback() if ours else nullcontext():
                    ray.init(
                        # Else it would look for a cluster that someone else has started here.
                        address="local" if ours else address,
                        include_dashboard=False if ours else None,
                        log_to_driver=False,
                        logging_level="error",
                    )
            except Exception as error:
                ray.shutdown()
                raise OSError(f"Ray can't be reached or started: {error}") from error
        try:
            count = concurrency or _room(ray.cluster_resources(), num_cpus, num_gpus)
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            together = min(count, max(_room(node, num_cpus, num_gpus) for node in nodes))
            device = work.device or ("cuda" if num_gpus else "cpu")
            threads = None if num_gpus else max(1, int(num_cpus))
            chosen = dataclasses.replace(work, device=device, threads=threads)
            report(event="ray", nodes=len(nodes), actors=count)
            yield _RayEngine(chosen, widths, timeout, count, together, num_cpus, num_gpus)
        finally:
            if started:
                ray.shutdown()

    return make


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Have a Ray that is started listen on 127.0.0.1 only, as on macOS, and not on all interfaces.

    The variable is for the processes that it starts; this one has read it already.
    """
    from ray._private import ray_constants

    name, before = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", ray_constants.ENABLE_RAY_CLUSTER
    said = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name)
        if said is not None:
            os.environ[name] = said


def _room(resources: Mapping[str, float], num_cpus: float, num_gpus: float) -> int:
    """Count the actors that fit."""
    rooms = [resources.get("CPU", 1) / num_cpus] if num_cpus else []
    if num_gpus:
        rooms.append(resources.get("GPU", 0) / num_gpus)
    return max(1, int(min(rooms)))


def _import_ray() -> Any:
    require("ray", extra="ray", needed_by="work on many machines")
    import ray

    return ray


@dataclass(frozen=True)
class _RayEngine:
    work: Work
    widths: Widths
    timeout: float
    actors: int
    actors_of_a_node: int
    num_cpus: float
    num_gpus: float

    def run(self, tasks: Iterator[Task], stopped: Stop) -> Iterator[pa.Table | None]:
        """See `fever_extract.jobs.engine.Engine`."""
        ray = _import_ray()
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # One after the other, so that few shards are in hand at a time.
        context.execution_options.preserve_order = True
        blocks = [_to_block(task) for task in tasks]
        data = ray.data.from_arrow(blocks).map_batches(
            _Actor,
            fn_constructor_args=(
                ray.put(self.work),
                self.widths,
                self.timeout,
                self.actors_of_a_node,
            ),
            batch_size=None,  # a block is a batch already
            batch_format="pyarrow",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=self.actors),
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus,
        )
        for reference in data.iter_internal_ref_bundles():
            if stopped():
                return
            for block in ray.get(reference.block_refs):
                if len(block):
                    yield block
            yield None


class _Actor:
    """Ray actor that supervises one worker process of its own."""

    def __init__(self, work: Any, widths: Widths, timeout: float, together: int) -> None:
        memory = machine.memory_share(together)
        self._supervisor = Supervisor(
            [_import_ray().get(work)],
            lambda task, record: to_table(task, [record], widths),
            timeout=timeout,
            memory_limit=memory,
        )

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        for table in self._supervisor.run(iter([_to_task(block)])):
            if table is not None:
                yield table


def _to_block(task: Task) -> pa.Table:
    import pyarrow as pa

    inputs = pa.Table.from_batches([to_arrow([item for _, item in task])])
    return inputs.append_column(_PLACE, [[place for place, _ in task]])


def _to_task(block: pa.Table) -> Task:
    return list(zip(block[_PLACE].to_pylist(), from_arrow(block)))
