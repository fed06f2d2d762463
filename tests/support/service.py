"""A command that serves on loopback, as a process of its own."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SECONDS = 120  # many times what its start or its end takes


@dataclass
class Running:
    """The process and the address that it said."""

    process: subprocess.Popen[str]
    url: str
    lines: list[str]
    reading: threading.Thread

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        code = self.process.wait(SECONDS)
        self.reading.join()
        return code


@contextmanager
def running(*arguments: object) -> Iterator[Running]:
    """Run ``fever-extract`` with these arguments; ends when it has said where it listens."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fever_extract.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    assert process.stdout is not None
    try:
        said = ""
        while (address := re.search(r"http://\S+", said)) is None:
            line = process.stdout.readline()
            assert line, f"it ended without an address: {said}"
            said += line
        watchdog.cancel()
        # Read on, so that it never waits for a reader.
        lines: list[str] = []
        reading = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
        reading.start()
        service = Running(process, address[0], lines, reading)
        yield service
        service.end()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
