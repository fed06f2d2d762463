"""Frames a second of a clip, split into decoding, turning to RGB, and all of it.

python benchmarks/video.py ../shared/photos/clip_long.mp4
"""

import platform
import sys
import time
from collections.abc import Iterable

import torch

from fever_extract import Extractor
from fever_extract.video.decoding import Clip, upright


def frames(path: str) -> Iterable[object]:
    with Clip(path, torch.get_num_threads()) as clip:
        yield from clip.frames()


def pixels(path: str) -> Iterable[object]:
    with Clip(path, torch.get_num_threads()) as clip:
        yield from (upright(frame, clip.pixel_aspect) for _, frame in clip.frames())


def main() -> None:
    path = sys.argv[1]
    extractor = Extractor(device="cpu")
    with Clip(path) as clip:
        height, width = upright(next(clip.frames())[1], clip.pixel_aspect).shape[:2]
    print(
        f"{width}x{height}, {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )
    for name, job in (
        ("decoding", frames),
        ("decoding to RGB", pixels),
        ("all: faces, vectors, ids", extractor.extract_video),
    ):
        start = time.perf_counter()
        count = sum(1 for _ in job(path))
        print(f"{name:26} {count / (time.perf_counter() - start):8.1f} frames/s  {count} frames")


if __name__ == "__main__":
    main()
