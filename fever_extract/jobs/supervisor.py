"""Supervisor of worker processes: replaces those that die, hang or use too much memory.

Which image is to blame is found out, not guessed: the batch in hand is done again image by
image, and who ends its process alone once more is recorded as `Status.CRASHED`.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from fever_extract.jobs import _child, machine
from fever_extract.jobs.worker import READY, Task, Work
from fever_extract.records import Frame, Record, Status

Answer = TypeVar("Answer")

TIMEOUT = 60.0
"""Seconds that one image or frame may take; a batch of 32, three times as long."""

_AGAIN = "it was tried again alone"

_START_TIMEOUT = 600.0
_TICK = 0.5
_GRACE = 10.0  # to finish the batches in hand after a stop was asked for
# Bytes that fit into a connection whose reader is busy: on macOS it holds 8192, headers included.
_SMALL = 4096 if sys.platform == "darwin" else 65536
# SIGKILL may have come from outside and mean nothing: it takes more to blame the image.
_TRIES_ALONE = {-9: 3}

Report = Callable[..., None]


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    since: float
    ready: bool = False
    tasks: deque[Task] = field(default_factory=deque)
    verdict: str = ""


class Supervisor(Generic[Answer]):
    """Run tasks in worker processes; a context manager.

    Args:
        works: what each of them is to do; they differ in the device only.
        crashed: makes an answer of a task of one input, which is to blame, and its record.
        timeout: seconds that an image may take.
        memory_limit: bytes that a worker may use (resident); None for a share of what
            the machine or its container has.
        errors: a file for what workers and their decoders write to stderr.
        report: called with ``event="ready"`` when a worker is, with ``"worker"`` when one ended
            and why, and with ``"crashed"`` when an image is to blame.
    """

    def __init__(
        self,
        works: Sequence[Work],
        crashed: Callable[[Task, Record], Answer],
        *,
        timeout: float = TIMEOUT,
        memory_limit: int | None = None,
        errors: Path | None = None,
        report: Report = lambda **_: None,
    ) -> None:
        self._crashed, self._timeout, self._report = crashed, timeout, report
        self._memory = memory_limit or machine.memory_share(len(works))
        self._errors: IO[bytes] | int = subprocess.DEVNULL
        if errors is not None:
            self._errors = open(errors, "ab")  # noqa: SIM115
        self._works = []
        for work in works:
            file = tempfile.TemporaryFile()  # noqa: SIM115
            pickle.dump(work, file)
            file.flush()
            self._works.append(file)
        self._workers: list[_Worker | None] = [None] * len(works)
        self._pending: deque[Task] = deque()
        self._alone: deque[Task] = deque()
        self._suspects: set[int] = set()
        self._blamed: Counter[int] = Counter()
        self._deaths = 0  # since the last result

    def __enter__(self) -> Supervisor[Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            if worker is not None:
                worker.process.kill()
                worker.process.wait()
                worker.connection.close()
        for file in self._works:
            file.close()
        if not isinstance(self._errors, int):
            self._errors.close()

    def start(self, most: int) -> None:
        """Start some workers before there is a task; the others start when they are needed."""
        for slot, worker in enumerate(self._workers[:most]):
            self._workers[slot] = worker or self._start(slot)

    def run(
        self, tasks: Iterator[Task], stopped: Callable[[], bool] = lambda: False
    ) -> Iterator[Answer | None]:
        """Run all tasks, in any order.

        Args:
            tasks: taken only as workers come free.
            stopped: once it returns True, what is in hand is finished and no more begun.

        Yields:
            What `fever_extract.jobs.worker.process` made of each; None at least twice a second,
            so that the caller can do other things.

        Raises:
            OSError: if workers can't start, or die again and again.
        """
        deadline = None
        while True:
            if stopped():
                deadline = deadline or time.monotonic() + _GRACE
                if not self._in_hand() or time.monotonic() > deadline:
                    return
            else:
                self._feed(tasks)
                if not self._pending and not self._alone and not self._in_hand():
                    return
            for worker in self._answering():
                yield from self._receive(worker)
            for watched in self._workers:
                if watched is not None and self._judge(watched):
                    watched.process.kill()
            yield None

    def _in_hand(self) -> bool:
        return any(worker is not None and worker.tasks for worker in self._workers)

    def _answering(self) -> list[_Worker]:
        by_connection = {w.connection: w for w in self._workers if w is not None}
        return [by_connection[c] for c in wait(list(by_connection), _TICK)]  # type: ignore[index]

    def _feed(self, tasks: Iterator[Task]) -> None:
        """Give each worker a task, and a small one ahead, so that none waits."""
        self._take(tasks)
        waiting = len(self._pending) + len(self._alone)
        for slot, worker in enumerate(self._workers):
            if worker is None and waiting > 0:
                self._workers[slot] = self._start(slot)
            waiting -= worker is None or not worker.ready
        ready = [worker for worker in self._workers if worker is not None and worker.ready]
        for worker in ready:
            if not worker.tasks and (self._alone or self._pending):
                task = self._alone.popleft() if self._alone else self._pending.popleft()
                self._give(worker, task, pickle.dumps(task))
        self._take(tasks)
        for worker in ready:
            # Nothing waits behind an image that is under suspicion.
            if self._pending and len(worker.tasks) == 1 and not self._is_alone(worker.tasks[0]):
                message = pickle.dumps(self._pending[0])
                if len(message) < _SMALL:
                    self._give(worker, self._pending.popleft(), message)

    def _take(self, tasks: Iterator[Task]) -> None:
        missing = len(self._workers) - len(self._pending)
        self._pending.extend(islice(tasks, max(0, missing)))

    def _give(self, worker: _Worker, task: Task, message: bytes) -> None:
        if not worker.tasks:
            worker.since = time.monotonic()
        worker.tasks.append(task)
        with suppress(OSError):  # if it is dead, that is seen next
            worker.connection.send_bytes(message)

    def _receive(self, worker: _Worker) -> Iterator[Answer]:
        try:
            answer: Any = worker.connection.recv()
        except (EOFError, OSError):
            yield from self._bury(worker)
            return
        worker.since = time.monotonic()
        if not worker.ready:
            if answer != READY:
                raise OSError(f"a worker can't start: {answer}")
            worker.ready = True
            self._report(event="ready", pid=worker.process.pid)
            return
        if answer is None:
            return  # it is at work on a stretch of a clip
        self._deaths = 0
        task = worker.tasks.popleft()
        if isinstance(answer, str):
            yield from self._again(task, answer, tries=1)
        else:
            yield answer

    def _bury(self, worker: _Worker) -> Iterator[Answer]:
        """Recover the tasks of a dead worker; the first of them is suspected."""
        worker.connection.close()
        code = worker.process.wait()
        self._workers[self._workers.index(worker)] = None
        reason = worker.verdict or f"its process ended ({_describe(code)})"
        self._report(event="worker", pid=worker.process.pid, reason=reason)
        self._deaths += 1
        if self._deaths > 10 + 5 * len(self._workers):
            raise OSError(
                f"workers died {self._deaths} times in a row without a result; the last: {reason}. "
                "Is there memory enough? Fewer workers need less"
            )
        tasks = list(worker.tasks)
        self._pending.extendleft(reversed(tasks[1:]))
        if tasks:
            tries = 1 if worker.verdict else _TRIES_ALONE.get(code, 1)
            yield from self._again(tasks[0], reason, tries)

    def _is_alone(self, task: Task) -> bool:
        return task[0][0] in self._suspects

    def _again(self, task: Task, reason: str, tries: int) -> Iterator[Answer]:
        if not self._is_alone(task):
            self._alone.extend([item] for item in task)
            self._suspects.update(index for index, _ in task)
            return
        ((index, item),) = task
        self._blamed[index] += 1
        if self._blamed[index] < tries:
            self._alone.append(task)
            return
        self._deaths = 0
        self._report(event="crashed", path=item.name, reason=reason)
        record = Record(Status.CRASHED, f"{reason} while this image was read; {_AGAIN}")
        if item.stretch is not None:
            message = f"{reason} while {item.stretch} was read; {_AGAIN}"
            record = Frame(Status.CRASHED, message, time=item.stretch.start)
        yield self._crashed(task, record)

    def _judge(self, worker: _Worker) -> bool:
        """Decide whether to kill a worker: out of time or memory."""
        if worker.ready and not worker.tasks:
            return False
        seconds = time.monotonic() - worker.since
        count = len(worker.tasks[0]) if worker.tasks else 0
        limit = self._timeout * (1 + (count - 1) / 16) if worker.ready else _START_TIMEOUT
        used = machine.resident(worker.process.pid)
        if seconds > limit:
            worker.verdict = f"time ran out after {seconds:.0f} s"
        elif used > self._memory:
            worker.verdict = f"its process used {used / 1e9:.1f} GB of memory"
        return bool(worker.verdict)

    def _start(self, slot: int) -> _Worker:
        module = "fever_extract.jobs.worker"
        process, connection = _child.start(module, self._works[slot], errors=self._errors)
        return _Worker(process, connection, time.monotonic())


def _describe(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
