"""What is compiled, beside the same on torch: CPU time of one thread, alternating in one process.

python benchmarks/kernels.py PHOTOS

Each figure is the least of several passes; of photographs, the mean of each one's least.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fever_extract import alignment, images
from fever_extract.detection.compiled import CompiledMtcnn
from fever_extract.detection.detector import Detector
from fever_extract.detection.mtcnn import Mtcnn
from fever_extract.detection.parameters import smallest_face
from fever_extract.detection.pyramid import Pyramids
from fever_extract.folders import list_images
from fever_extract.hub.download import load
from fever_extract.kernels.library import INSTRUCTIONS, instructions
from fever_extract.kernels.pixels import to_array
from fever_extract.models.compiled import compile_layers
from fever_extract.models.inference import for_inference
from fever_extract.models.network import build

PASSES = 3
STAGES = ("_propose", "_refine", "_output", "_settle")


def least(jobs: dict[str, Callable[[], object]], repeats: int = 30) -> dict[str, float]:
    """Milliseconds of CPU time that each job takes, at least."""
    best = dict.fromkeys(jobs, np.inf)
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.thread_time()
            job()
            best[name] = min(best[name], 1e3 * (time.thread_time() - start))
    return best


def tell(what: str, times: dict[str, float]) -> None:
    """Print a row: milliseconds, and how many times as fast as torch."""
    torch_time = times["torch"]
    shown = (f"{name} {ms:.2f} ms ({torch_time / ms:.2f})" for name, ms in times.items())
    print(f"{what}: " + ", ".join(shown), flush=True)


def networks(picture: np.ndarray) -> None:
    """Compare the three networks and the resampling of images."""
    random = np.random.default_rng(0)
    plain = Mtcnn(torch.device("cpu"))
    kinds = {"torch": plain} | {
        INSTRUCTIONS[level]: CompiledMtcnn(level) for level in range(1, instructions() + 1)
    }
    levels = [level.pixels for level in Pyramids([picture], torch.device("cpu")).levels([0.3])]
    tell(
        f"P-Net, {len(levels)} levels of one 640x480",
        least({name: lambda k=kind: k.propose(levels, 0.7) for name, kind in kinds.items()}),
    )
    for name, side, count in (("refine", 24, 33), ("locate", 48, 1), ("locate", 48, 3)):
        crops = torch.from_numpy(random.uniform(0, 255, (count, side, side, 3)).astype(np.float32))
        jobs = {n: partial(getattr(k, name), crops) for n, k in kinds.items()}
        tell(f"{'R-Net' if side == 24 else 'O-Net'}, {count} crops", least(jobs))
    corners = random.uniform(0, 380, (33, 2))
    boxes = np.hstack([corners, corners + random.uniform(40, 100, (33, 1))]).astype(np.float32)
    owners = np.zeros(33, np.intp)
    resizing, sampling = {}, {}
    for name, kind in kinds.items():
        sampler = None if kind is plain else kind
        make = partial(Pyramids, [picture], torch.device("cpu"), sampler)
        resizing[name] = lambda make=make: make().levels([0.3])
        sampling[name] = partial(make().crop, owners, boxes, 24)
    tell("resizing of one 640x480 to octaves and levels", least(resizing))
    tell("sampling of 33 crops", least(sampling))


def embedding() -> None:
    """Compare the embedding network, for one face and for as many as are embedded together."""
    checkpoint = load()
    make = partial(build, checkpoint.config, checkpoint.state_dict)
    kinds = {"torch": for_inference(make())}
    for level in range(1, instructions() + 1):
        kinds[INSTRUCTIONS[level]] = make()
        compile_layers(kinds[INSTRUCTIONS[level]], level)
    size = checkpoint.config.preprocessing.size
    for count in (1, 4, 16):
        crops = torch.rand(count, 3, size, size) * 255
        tell(
            f"embedding of {count} crops",
            least({name: partial(network, crops) for name, network in kinds.items()}),
        )


def pixels(picture: np.ndarray) -> None:
    """Compare what is done to pixels before and after detection."""
    image = Image.fromarray(picture)
    jobs = {"torch": partial(np.array, image), "compiled": partial(to_array, image)}
    tell("a 640x480 Pillow image as an array (by NumPy, not torch)", least(jobs))
    matrix = np.array([[1.3, -0.2, 40], [0.2, 1.3, 20]])
    face = np.ascontiguousarray(picture[:170, :170])
    region = torch.from_numpy(face).permute(2, 0, 1)[None]
    maps = torch.from_numpy(matrix)[None].float()
    jobs = {
        "torch": lambda: alignment.warp(region.float(), maps, 96),
        "compiled": lambda: alignment._warp_compiled(face, matrix, 96),
    }
    tell("warping of one face", least(jobs))


def detection(name: str, pictures: list[np.ndarray]) -> None:
    """Compare whole detection, and its stages."""
    detectors = {"torch": Detector(compiled=False), "compiled": Detector(compiled=True)}
    best = {kind: np.full(len(pictures), np.inf) for kind in detectors}
    stages = {kind: Counter() for kind in detectors}
    faces = {}
    for kind, found in detectors.items():
        for stage in STAGES:
            setattr(found, stage, timed(getattr(found, stage), stages[kind], stage))
    for _ in range(PASSES):
        for index, pixels in enumerate(pictures):
            for kind, found in detectors.items():
                start = time.thread_time()
                (faces[kind, index],) = found.detect([pixels], [smallest_face(*pixels.shape[:2])])
                taken = 1e3 * (time.thread_time() - start)
                best[kind][index] = min(best[kind][index], taken)
    tell(f"detection, {name}", {kind: float(times.mean()) for kind, times in best.items()})
    for kind in detectors:
        each = len(pictures) * PASSES
        parts = ", ".join(f"{s[1:]} {1e3 * t / each:.2f} ms" for s, t in stages[kind].items())
        print(f"  {kind}: {parts}; {sum(len(faces[kind, i]) for i in range(len(pictures)))} faces")


def timed(stage: Callable, times: Counter, name: str) -> Callable:
    """Add up the CPU time of calls."""

    def call(*arguments: object) -> object:
        start = time.thread_time()
        result = stage(*arguments)
        times[name] += time.thread_time() - start
        return result

    return call


def main() -> None:
    """Print all rows."""
    torch.set_num_threads(1)
    if not instructions():
        sys.exit("nothing was compiled here: install a C++ compiler, then the package again")
    folder = Path(sys.argv[1])
    paths = [folder / name for name in list_images(folder)]
    small = [np.array(Image.open(path).convert("RGB").resize((640, 480))) for path in paths]
    with torch.inference_mode():
        networks(small[0])
        embedding()
        pixels(small[0])
    detection("each at 640x480", small)
    detection("as they are", [images.read(path) for path in paths])


if __name__ == "__main__":
    main()
