"""Running code in processes that may hang: whoever takes too long is killed, and fails."""

import os
import signal
import subprocess
import sys

SECONDS = 240  # many times what it takes, on a machine that has other work


def run_script(code: str, *arguments: object) -> str:
    """Run Python code in a new process and return its standard output.

    Torch has two threads there, whatever this process has: some faults need them. All
    processes that the code leaves behind are killed.

    Raises:
        AssertionError: if it fails or takes too long.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        raise AssertionError(f"hung after {SECONDS} s: {output[-500:]} {errors[-2000:]}") from None
    assert process.returncode == 0, errors[-2000:]
    return output
