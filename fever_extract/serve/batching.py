"""Batch the images of concurrent requests: a bounded queue and one thread that works it off."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from fever_extract.records import Record

Extract = Callable[[list[bytes], bool], Sequence[Record]]
"""Takes encoded images and whether all faces are asked for, gives a record an image."""

_SMOOTHING = 0.2  # weight of the newest batch in the rate
_LONGEST_RETRY = 60  # seconds


class QueueFullError(Exception):
    """Raised for images that the queue has no room for.

    Attributes:
        retry_after: whole seconds in which there may be room.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"too many images are waiting; try again in {retry_after} s")
        self.retry_after = retry_after


@dataclass(eq=False)
class _Item:
    image: bytes
    all_faces: bool
    future: Future[Record] = field(default_factory=Future)


class Batcher:
    """Hand images of any number of threads to one function, in batches.

    Args:
        extract: called in a thread of its own, one call at a time.
        max_batch: images of a call, at most.
        max_wait: seconds for which the first image of a batch waits for others.
        max_queue: images that wait, at most.
        observe: called with the size of each batch.
    """

    def __init__(
        self,
        extract: Extract,
        *,
        max_batch: int,
        max_wait: float,
        max_queue: int,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._extract, self._observe = extract, observe
        self._max_batch, self._max_wait, self._max_queue = max_batch, max_wait, max_queue
        self._items: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._seconds_each = 0.0
        self._thread = threading.Thread(target=self._run, name="fever-batches", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        return self._waiting

    @property
    def alive(self) -> bool:
        """Whether the thread that works the queue off is running."""
        return self._thread.is_alive()

    def check_room(self, count: int = 1) -> None:
        """Refuse images that would not fit into the queue now.

        Raises:
            QueueFullError: if there is no room.
        """
        if self._waiting + count > self._max_queue:
            seconds = math.ceil(self._waiting * self._seconds_each)
            raise QueueFullError(min(max(1, seconds), _LONGEST_RETRY))

    def submit(self, images: Sequence[bytes], all_faces: bool) -> list[Future[Record]]:
        """Queue the images of one request, all or none.

        Returns:
            A future per image, in order; one that is cancelled in time is not worked on.

        Raises:
            QueueFullError: if there is no room.
        """
        items = [_Item(image, all_faces) for image in images]
        with self._lock:
            self.check_room(len(items))
            self._waiting += len(items)
        for item in items:
            self._items.put(item)
        return [item.future for item in items]

    def close(self) -> None:
        """Work off what is queued, and end the thread."""
        self._items.put(None)
        self._thread.join()

    def _run(self) -> None:
        ended = False
        while not ended:
            batch, ended = self._next_batch()
            for all_faces in (False, True):
                some = [item for item in batch if item.all_faces is all_faces]
                some = [item for item in some if item.future.set_running_or_notify_cancel()]
                if some:
                    self._work(some, all_faces)

    def _next_batch(self) -> tuple[list[_Item], bool]:
        """Take what waits; the first waits a little for others. True at the end of all work."""
        batch: list[_Item] = []
        ended = False
        deadline = math.inf
        while len(batch) < self._max_batch and not ended:
            try:
                item = (
                    self._items.get(timeout=max(0.0, deadline - time.monotonic()))
                    if batch
                    else self._items.get()
                )
            except queue.Empty:
                break
            if item is None:
                ended = True
            else:
                deadline = min(deadline, time.monotonic() + self._max_wait)
                batch.append(item)
        with self._lock:
            self._waiting -= len(batch)
        return batch, ended

    def _work(self, batch: list[_Item], all_faces: bool) -> None:
        began = time.monotonic()
        try:
            records = self._extract([item.image for item in batch], all_faces)
        except Exception as error:  # the requests fail, not the service
            for item in batch:
                item.future.set_exception(error)
            return
        for item, record in zip(batch, records, strict=True):
            item.future.set_result(record)
        each = (time.monotonic() - began) / len(batch)
        self._seconds_each += (_SMOOTHING if self._seconds_each else 1) * (
            each - self._seconds_each
        )
        self._observe(len(batch))
