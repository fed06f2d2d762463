"""A source that is open only while somebody looks at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from fever_extract.live.analysis import Analysis, Result
from fever_extract.live.sources import Source
from fever_extract.records import ExtractionError

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor

_GRACE = 3.0  # seconds without a page after which the source is closed


class Session:
    """Open a source when a page asks for it, and close it when no page does any more.

    Args:
        extractor, source, publish: see `Analysis`.
        settings: ``threads`` and ``detect_every`` of it.
    """

    def __init__(
        self,
        extractor: Extractor,
        source: Source,
        publish: Callable[[Result], None],
        **settings: Any,
    ) -> None:
        self._analyse = partial(Analysis, extractor, source, publish, **settings)
        self._lock = threading.Lock()
        self._analysis: Analysis | None = None
        self._asked = 0.0
        self._idle = True
        self.problem: str | None = None

    def watch(self, from_start: bool) -> str | None:
        """Note that a page looks, and open the source if it is closed; it may take seconds.

        Args:
            from_start: begin again where the source has ended or failed.

        Returns:
            Why there is nothing to see; None if there is.
        """
        self._asked = time.monotonic()
        with self._lock:
            running = self._analysis is not None and self._analysis.is_running
            if running:
                return None
            if self.problem is not None and not from_start and not self._idle:
                return self.problem
            self._start()
            return self.problem

    def stop(self) -> None:
        """Close the source."""
        with self._lock:
            if self._analysis is not None:
                self._analysis.stop()

    def _start(self) -> None:
        first = 0 if self._analysis is None else self._analysis.next_number
        self.problem, self._idle = None, False
        try:
            self._analysis = self._analyse(ended=self._end, first=first, wanted=self._is_watched)
        except (ExtractionError, OSError) as error:
            self.problem = str(error)

    def _is_watched(self) -> bool:
        self._idle = time.monotonic() - self._asked > _GRACE
        return not self._idle

    def _end(self, reason: str, _: bool) -> None:
        self.problem = reason
