"""Job engines: their protocol, and the local one; Ray's is in `fever_extract.jobs.ray`.

An engine takes tasks (batches of inputs) and gives Arrow tables of their rows. Planning, order
and writing are not its concern: see `fever_extract.jobs.sharded`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fever_extract.jobs.machine import spread
from fever_extract.jobs.supervisor import Report, Supervisor
from fever_extract.jobs.worker import Task, Work, to_table
from fever_extract.tables.schema import Widths

if TYPE_CHECKING:
    import pyarrow as pa


class Stop(Protocol):
    """Return whether someone asked to stop."""

    def __call__(self) -> bool: ...


class Engine(Protocol):
    """Does the work; see `fever_extract.jobs.supervisor.Supervisor.run`."""

    def run(self, tasks: Iterator[Task], stopped: Stop) -> Iterator[pa.Table | None]:
        """Do all tasks, in any order, until ``stopped()``."""


class EngineMaker(Protocol):
    """Starts an engine; leaving the context ends all that it started."""

    def __call__(
        self, work: Work, widths: Widths, job: Path, report: Report
    ) -> AbstractContextManager[Engine]: ...


def local(workers: int | None = None, **settings: Any) -> EngineMaker:
    """Use processes of this machine.

    Args:
        workers: how many; by default one per core, or per GPU.
        settings: those of `Supervisor`.

    Raises:
        ValueError: if ``workers`` is less than 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")

    def make(work: Work, widths: Widths, job: Path, report: Report) -> Supervisor[pa.Table]:
        return Supervisor(
            spread(work, workers),
            lambda task, record: to_table(task, [record], widths),
            errors=job / "workers.log",
            report=report,
            **settings,
        )

    return make
