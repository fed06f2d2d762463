"""Threads that make and use Extractors of both dtypes, in several processes: every call right?

    python benchmarks/stress.py PHOTO... [--threads 8] [--processes 2] [--seconds 60]

Each process is forked from one in which torch's threads have been at work. A call that raises or
whose vectors are not those of one thread is wrong; the exit code is 1 then. A process that hangs
is killed.
"""

import argparse
import multiprocessing
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import numpy as np
import torch

from fever_extract import Extractor

DTYPES = ("float32", "bfloat16")
TOLERANCE = 1e-4
GRACE = 120.0  # seconds that a process may need for its last calls


class Stress:
    """What is expected, and the calls that are made.

    Args:
        paths: photographs.
    """

    def __init__(self, paths: list[Path]) -> None:
        self.paths = [str(path) for path in paths]
        self.shared = Extractor(device="cpu")
        self.expected = {
            dtype: self.shared.extract(self.paths, dtype=dtype, show_progress=False)
            for dtype in DTYPES
        }

    def call(self, number: int) -> str:
        """One call of some kind; returns which, raises if it is wrong."""
        dtype = DTYPES[number % 2]
        makes, many = number // 2 % 2 == 0, number // 4 % 2 == 0
        extractor = Extractor(device="cpu") if makes else self.shared
        index = number % len(self.paths)
        if many:
            inputs, expected = self.paths, self.expected[dtype]
        else:
            inputs, expected = self.paths[index], self.expected[dtype][index]
        vectors = extractor.extract(inputs, dtype=dtype, show_progress=False)
        # bfloat16 rounds differently in batches of other sizes.
        scale = 1 if dtype == "float32" else 100 * np.abs(np.nan_to_num(expected)).max()
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=TOLERANCE * scale)
        return f"{dtype}, {'new' if makes else 'shared'}, {'many' if many else 'one'}"

    def run(self, threads: int, seconds: float) -> Counter[str]:
        """Calls by many threads, counted by kind; what was wrong is counted by its message."""
        end = time.monotonic() + seconds
        counts: Counter[str] = Counter()
        lock = threading.Lock()

        def work(first: int) -> None:
            number = first
            while number == first or time.monotonic() < end:
                try:
                    kind = self.call(number)
                except Exception as error:
                    traceback.print_exc()
                    kind = f"wrong: {type(error).__name__}"
                with lock:
                    counts[kind] += 1
                number += 1

        running = [threading.Thread(target=work, args=(index,)) for index in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return counts

    def run_in_child(
        self, threads: int, seconds: float, answers: "SimpleQueue[Counter[str]]"
    ) -> None:
        """The same in a process that was forked."""
        torch.set_num_threads(2)  # more than the fork left: so that batches are shared out
        answers.put(self.run(threads, seconds))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="+", metavar="PHOTO")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--processes", type=int, default=2, help="beside the first one")
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args(arguments)
    warnings.simplefilter("ignore", UserWarning)  # photographs without a face
    stress = Stress(chosen.photos)
    (torch.rand(1_000_000) + 1).sum()  # torch's own threads begin
    context = multiprocessing.get_context("fork")
    answers: SimpleQueue[Counter[str]] = context.SimpleQueue()
    children = [
        context.Process(
            target=stress.run_in_child, args=(chosen.threads, chosen.seconds, answers), daemon=True
        )
        for _ in range(chosen.processes)
    ]
    for child in children:
        child.start()
    counts = stress.run(chosen.threads, chosen.seconds)
    deadline = time.monotonic() + GRACE
    for child in children:
        child.join(max(0, deadline - time.monotonic()))
        if child.is_alive():
            child.kill()
            counts["wrong: a process hung"] += 1
        elif child.exitcode:
            counts[f"wrong: a process ended with exit code {child.exitcode}"] += 1
        else:
            counts += answers.get()
    for kind, count in sorted(counts.items()):
        print(f"{count:6} {kind}")
    wrong = sum(count for kind, count in counts.items() if kind.startswith("wrong"))
    print(f"{counts.total()} calls in {1 + len(children)} processes, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
