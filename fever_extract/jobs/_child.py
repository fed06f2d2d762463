"""Run a module of this package in a child process, connected by a pipe.

Not `multiprocessing.Process`, which would run its user's script again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import IO

_PR_SET_PDEATHSIG = 1


def can_start() -> bool:
    """Tell whether there is a Python to start: not on Windows, nor in a frozen application."""
    return os.name != "nt" and bool(sys.executable) and not getattr(sys, "frozen", False)


def start(
    module: str, *files: IO[bytes], errors: IO[bytes] | int = subprocess.DEVNULL
) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a module's ``main``, which calls `begin`.

    Args:
        module: its full name.
        files: that it shall have too.
        errors: for what it and its decoders write to stderr.
    """
    import fcntl  # there is none on Windows

    ours, theirs = Pipe()
    # Not 0 to 2, which may be free here, and are the child's own there.
    least = fcntl.F_DUPFD_CLOEXEC
    ends = [theirs.fileno(), *(file.fileno() for file in files)]
    numbers = [fcntl.fcntl(end, least, 3) for end in ends]
    # Found wherever this process found it; not in the working directory, as with -m.
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; "
    process = subprocess.Popen(
        [sys.executable, "-c", code + "main()", str(os.getpid()), *map(str, numbers)],
        pass_fds=numbers,
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
    )
    theirs.close()
    for number in numbers:
        os.close(number)
    return process, ours


def begin() -> tuple[Connection, list[int]]:
    """Return a child's end of the pipe, and the numbers of its files."""
    parent, pipe, *files = map(int, sys.argv[1:])
    # The parent decides when work ends: Ctrl-C in a terminal reaches this process too.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    if sys.platform == "linux":
        # Die with the parent, even while a decoder hangs.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit()
    return Connection(pipe), files
