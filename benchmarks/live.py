"""What `fever-extract live` makes of a clip in real time, at 640x480 and 25 frames/s.

    python benchmarks/live.py ../shared/photos/clip_long.mp4 [SECONDS]

For each way of looking: frames/s that are analysed, those that are dropped, how old a result is,
and what a frame costs of one core, from decoding to the JPEG for the page.
"""

import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from fever_extract import Extractor
from fever_extract.live.analysis import Analysis
from fever_extract.live.page import pack
from fever_extract.live.sources import Source

RATE, WIDTH, HEIGHT = 25, 640, 480
WAYS = (1, 2, 4)  # faces are looked for in every n-th frame


def resample(clip: str, output: Path, seconds: float) -> None:
    """Write a clip's first frames again, at that size and rate."""
    with av.open(clip) as given, av.open(str(output), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, width=WIDTH, height=HEIGHT)
        stream.pix_fmt = "yuv420p"
        frames = given.decode(video=0)
        for number, frame in zip(range(int(seconds * RATE)), frames):
            small = frame.reformat(WIDTH, HEIGHT, "yuv420p")
            small.pts, small.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(small))
        container.mux(stream.encode())


def main(clip: str, seconds: float = 20) -> None:
    extractor = Extractor(device="cpu", detect_size=640)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        resample(clip, path, seconds)
        print(f"{WIDTH}x{HEIGHT}, {RATE} frames/s, {threads} threads\n")
        print("| faces are looked for in | analysed | dropped | age, 50th and 95th | CPU a frame |")
        print("| --- | --- | --- | --- | --- |")
        for every in WAYS:
            results = []

            def publish(result, results=results):
                results.append((result.time, result.latency, result.dropped, len(pack(result))))

            source = Source(str(path))
            cpu, began = time.process_time(), time.monotonic()
            analysis = Analysis(extractor, source, publish, threads=threads, detect_every=every)
            analysis.wait()
            cpu, passed = time.process_time() - cpu, time.monotonic() - began
            ages = 1000 * np.percentile([latency for _, latency, *_ in results], [50, 95])
            print(
                f"| {'every frame' if every == 1 else f'every {every}th'} "
                f"| {len(results) / passed:.1f} frames/s | {results[-1][2]} "
                f"| {ages[0]:.0f}, {ages[1]:.0f} ms | {1000 * cpu / len(results):.1f} ms |"
            )


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
