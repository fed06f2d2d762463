"""Load on the service, over loopback; prints a table.

    python benchmarks/serve.py PHOTOS [--requests 400] [--clients 16]

Batching is compared with one image at a time in alternating rounds, so that other work on the
machine hits both. Then the service is killed and started again while clients ask and retry: each
request must be answered once, with the embeddings that it had before.
"""

import argparse
import http.client
import io
import itertools
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from json import loads
from pathlib import Path

import numpy as np
from PIL import Image

from fever_extract.folders import list_images

ROUNDS = 3
KILLS = 3
PAUSE = 0.1  # seconds before a client tries again
LONGEST = 640  # pixels
LARGEST_DIFFERENCE = 1e-4


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen
    port: int


@contextmanager
def service(*arguments: str, port: int = 0) -> Iterator[Service]:
    """Start the command, and end it."""
    command = [sys.executable, "-m", "fever_extract.cli", "serve", "--port", str(port), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        yield Service(process, int(re.search(r"http://[^:]*:(\d+)", line)[1]))
        process.terminate()


@dataclass
class Client:
    """One connection, kept open."""

    port: int
    retry: bool = False
    refused: int = 0
    connection: http.client.HTTPConnection | None = None

    def ask(self, image: bytes) -> np.ndarray:
        """The embedding of an image, (d,) float32; NaN if it has none."""
        while True:
            try:
                if self.connection is None:
                    self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                self.connection.request("POST", "/extract", image, {"Content-Type": "image/jpeg"})
                answer = self.connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    (record,) = loads(body)["records"]
                    faces = record["faces"]
                    return np.array(faces[0]["embedding"] if faces else np.nan, np.float32)
                if answer.status != 503:
                    raise RuntimeError(f"{answer.status}: {body[:200]!r}")
                self.refused += 1
            except (OSError, http.client.HTTPException):
                if not self.retry:
                    raise
                self.connection = None
            time.sleep(PAUSE)


def load(port: int, images: Sequence[bytes], requests: int, clients: int) -> list[float]:
    """Ask from all clients at once; seconds of each request, and of all of them as the last."""
    numbers, times, lock = iter(range(requests)), [], threading.Lock()

    def run(_: int) -> None:
        client = Client(port)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            began = time.perf_counter()
            client.ask(images[number % len(images)])
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(run, range(clients)))
    return [*times, time.perf_counter() - began]


def compare(images: Sequence[bytes], requests: int, clients: int) -> None:
    """Batching against one image at a time."""
    one = ("--max-batch", "1", "--max-wait", "0")
    rates: dict[str, list[float]] = {"in batches": [], "one at a time": []}
    times: dict[str, list[float]] = {name: [] for name in rates}
    with service() as batched, service(*one) as single:
        servers = dict(zip(rates, (batched, single)))
        for server in servers.values():
            load(server.port, images, 2 * clients, clients)
        for _ in range(ROUNDS):
            for name, server in servers.items():
                *each, whole = load(server.port, images, requests, clients)
                times[name] += each
                rates[name].append(requests / whole)
    print(f"{requests} requests of one image from {clients} clients, {ROUNDS} rounds of each\n")
    print("| | requests/s | 50th | 95th | 99th percentile |\n| --- | --- | --- | --- | --- |")
    for name, each_round in rates.items():
        marks = 1000 * np.percentile(times[name], [50, 95, 99])
        shown = " | ".join(f"{mark:.0f} ms" for mark in marks)
        print(f"| {name} | {statistics.median(each_round):.1f} | {shown} |")
    ratios = [a / b for a, b in zip(*rates.values())]
    print(f"\nbatches against one at a time: {statistics.median(ratios):.2f} times as many\n")


def kill_and_restart(images: Sequence[bytes], requests: int, clients: int) -> None:
    """Every request is answered once, whatever happens to the service."""
    with service() as first:
        port = first.port
        expected = [Client(port).ask(image) for image in images]
    numbers, lock, answers = itertools.count(), threading.Lock(), []
    done = threading.Event()

    def run(_: int) -> int:
        client = Client(port, retry=True)
        while True:
            with lock:
                number = next(numbers)
            if number >= requests:
                return client.refused
            answers.append((number, client.ask(images[number % len(images)])))

    def disturb() -> None:
        for kill in range(KILLS + 1):
            with service(port=port) as running:
                # Killed amid the work, the last time at its end.
                goal = requests * (kill + 1) // (KILLS + 1)
                while len(answers) < goal and not done.is_set():
                    time.sleep(0.01)
                if kill < KILLS:
                    running.process.send_signal(signal.SIGKILL)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    with ThreadPoolExecutor(clients) as pool:
        refused = sum(pool.map(run, range(clients)))
    done.set()
    disturbing.join()
    assert sorted(number for number, _ in answers) == list(range(requests)), "lost or repeated"
    worst = max(
        float(np.nan_to_num(np.abs(embedding - expected[number % len(images)])).max())
        for number, embedding in answers
    )
    assert worst <= LARGEST_DIFFERENCE, worst
    print(
        f"killed {KILLS} times amid {requests} requests: {len(answers)} answers, each once, "
        f"embeddings at most {worst:.1e} from before; {refused} refused and asked again"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=16)
    chosen = parser.parse_args()
    images = []
    for name in list_images(chosen.photos):
        with Image.open(Path(chosen.photos, name)) as image:
            image.thumbnail((LONGEST, LONGEST))
            images.append(encode(image.convert("RGB")))
    compare(images, chosen.requests, chosen.clients)
    kill_and_restart(images, chosen.requests, chosen.clients)


def encode(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
