"""Progress bars for people, which never end the work they show."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TextIO

from tqdm import tqdm


class _Patient:
    """An output whose faults end no job: full, closed, or none at all."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)  # type: ignore[union-attr]

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()  # type: ignore[union-attr]

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def bar(iterable: Iterable[Any] | None = None, show: bool | None = None, **settings: Any) -> Any:
    """A tqdm bar on standard error, whatever has become of that.

    Args:
        iterable: as tqdm's.
        show: None shows it only on a terminal.
        settings: tqdm's own.
    """
    hidden = None if show is None else not show
    return tqdm(iterable, file=_Patient(sys.stderr), disable=hidden, **settings)
