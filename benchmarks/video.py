"""Frames a second of a clip, with faces detected in all frames or some; and what that costs.

python benchmarks/video.py ../shared/photos/clip_long.mp4 [REPEATS]
"""

import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from fever_extract import Extractor
from fever_extract.records import Face, Record
from fever_extract.video import segments
from fever_extract.video.decoding import Clip, upright

DETECT_EVERY = (1, 2, 5, 10)
SAME = 0.5  # mean distance of landmarks, in distances between the eyes, below which a face is one


def frames(path: str) -> Iterable[object]:
    with Clip(path, torch.get_num_threads()) as clip:
        yield from clip.frames()


def pixels(path: str) -> Iterator[tuple[float, np.ndarray]]:
    with Clip(path, torch.get_num_threads()) as clip:
        for moment, frame in clip.frames():
            yield moment, upright(frame, clip.pixel_aspect)


def decoded(
    extractor: Extractor, pictures: Sequence[tuple[float, np.ndarray]], detect_every: int
) -> Iterable[Record]:
    """Records of frames that are in memory, without ids."""
    pipeline, options = extractor._pipeline, extractor._options
    if detect_every == 1:
        few = options.replace({"batch_size": 4})
        return pipeline.stream((picture for _, picture in pictures), few, all_faces=True)
    return segments.follow(pipeline, pictures, options, detect_every)


def pairs(expected: Sequence[Record], found: Sequence[Record]) -> Iterator[tuple[Face, Face]]:
    """Pairs of one face, of those that are in both."""
    for record, other in zip(expected, found, strict=True):
        left = list(other.faces)
        for face in record.faces:
            near = [one for one in left if distance(face, one) < SAME]
            if near:
                best = min(near, key=lambda one, face=face: distance(face, one))
                left.remove(best)
                yield face, best


def distance(face: Face, other: Face) -> float:
    """The mean distance of their landmarks, in distances between the first one's eyes."""
    eyes = np.linalg.norm(face.landmarks[1] - face.landmarks[0])
    return float(np.linalg.norm(face.landmarks - other.landmarks, axis=1).mean() / eyes)


def cosine(face: Face, other: Face) -> float:
    a, b = face.embedding, other.embedding
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def is_cut(face: Face, height: int, width: int) -> bool:
    """Whether a square around the box is not all in the picture."""
    corners = face.box.reshape(2, 2)
    middle, half = corners.mean(axis=0), 0.45 * (corners[1] - corners[0]).max()
    return bool((middle < half).any() or (middle + half > (width, height)).any())


def compare(expected: Sequence[Record], found: Sequence[Record], height: int, width: int) -> str:
    """What detection in fewer frames costs, in words."""
    both = list(pairs(expected, found))
    total, others = (sum(len(record.faces) for record in records) for records in (expected, found))
    ids = sum(face.track == other.track for face, other in both)
    parts = [f"{len(both)} of {total} faces, {others - len(both)} others, {ids} with one id"]
    for name, cut in (("inside", False), ("cut by the border", True)):
        some = [pair for pair in both if is_cut(pair[0], height, width) == cut]
        if some:
            apart = np.percentile([distance(*pair) for pair in some], (50, 95))
            alike = np.percentile([cosine(*pair) for pair in some], (50, 5))
            parts.append(
                f"{len(some)} {name}: landmarks {apart[0]:.3f} (95 %: {apart[1]:.3f}), "
                f"cosine {alike[0]:.4f} (5 %: {alike[1]:.4f})"
            )
    return "; ".join(parts)


def main(path: str, repeats: str = "3") -> None:
    extractor = Extractor(device="cpu", show_progress=False)
    pictures = list(pixels(path))
    height, width = pictures[0][1].shape[:2]
    print(
        f"{width}x{height}, {len(pictures)} frames, {platform.machine()}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    jobs: dict[str, Callable[[], Iterable[object]]] = {
        "decoding": lambda: frames(path),
        "decoding to RGB": lambda: pixels(path),
    }
    for every in DETECT_EVERY:
        jobs[f"decoded, detect_every={every}"] = partial(decoded, extractor, pictures, every)
        jobs[f"of the file, detect_every={every}"] = partial(
            extractor.extract_video, path, detect_every=every
        )
    rates: dict[str, float] = dict.fromkeys(jobs, 0.0)
    costs: dict[str, float] = {}
    found: dict[str, list[Any]] = {}
    for _ in range(int(repeats)):  # in turn, so that all have good moments and bad ones
        for name, job in jobs.items():
            start, spent = time.perf_counter(), time.process_time()
            found[name] = list(job())
            rates[name] = max(rates[name], len(pictures) / (time.perf_counter() - start))
            cost = 1e3 * (time.process_time() - spent) / len(pictures)
            costs[name] = min(cost, costs.get(name, cost))
    for name, rate in rates.items():
        print(f"{name:28} {rate:8.1f} frames/s, {costs[name]:5.2f} ms of CPU time a frame")
    expected, *others = [found[name] for name in jobs if name.startswith("of the file")]
    for every, records in zip(DETECT_EVERY[1:], others):
        print(f"detect_every={every}: {compare(expected, records, height, width)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
