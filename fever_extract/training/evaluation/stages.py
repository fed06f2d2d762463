"""Progress bar over the stages of an evaluation, and the seconds of each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from fever_extract._utils import progress


class Stages:
    """Says which stage is under way, and keeps its seconds.

    Args:
        total: how many stages there will be.
    """

    def __init__(self, total: int) -> None:
        self.seconds: dict[str, float] = {}
        self._bar = progress.bar(total=total, unit="stage")

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        self._bar.set_description(name)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)
        self._bar.update()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()
