"""Printing to a terminal that may close: a closed output never ends a job.

What is printed may quote names from outside, so each line is made `printable` first.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO

from fever_extract._utils.names import printable


def say(line: str, *, required: bool = False) -> None:
    """Print one line on standard output.

    Args:
        line: anything; what would need more than a line is escaped.
        required: the line is what the command is for, and not a word about it.

    Raises:
        OSError: if it is required and can't be written, unless its reader has gone.
    """
    _print(line, sys.stdout, required)


def complain(line: str) -> None:
    """Print one line on standard error."""
    _print(f"fever-extract: {line}", sys.stderr, required=False)


def prepare() -> None:
    """Open those of standard input, output and error that are closed, as /dev/null.

    Else the next file that is opened would take the number of one of them, and whatever a
    library complains of would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Windows redirects to a code page that lacks some letters of file names.
        sys.stdout.reconfigure(errors="backslashreplace")


def finish() -> None:
    """Flush both outputs, so that Python does not complain at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _abandon(stream)


def _print(line: str, stream: TextIO | None, required: bool) -> None:
    if stream is None:
        return
    try:
        print(printable(line), file=stream, flush=True)
    except (OSError, ValueError) as error:
        _abandon(stream)
        if required and isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise


def _abandon(stream: TextIO) -> None:
    """Redirect a broken stream to /dev/null, so that Python can flush it at exit."""
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
