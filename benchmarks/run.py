"""Speed, as ratios to baselines in the same run; writes RESULTS.md beside this file.

    python benchmarks/run.py PHOTOS [--data ../shared/data] [--clip CLIP.mp4] [--long [COUNT...]]
        [--peers PYTHON]

PHOTOS is a folder of photographs (make_photos.py makes the one that RESULTS.md is about). The
plain pipeline is what one writes in an afternoon: facenet-pytorch's MTCNN at its defaults,
then EfficientNet-B0 at 224 pixels on each face, image by image. PYTHON is an interpreter with
peers installed, see README.md: they need other versions of what this package needs.
"""

import argparse
import io
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from facenet_pytorch import MTCNN
from PIL import Image
from torchvision.models import efficientnet_b0
from torchvision.transforms import functional as transforms

from fever_extract import Extractor, images
from fever_extract._utils.threads import map_batches, thread_pool
from fever_extract.detection.parameters import smallest_face
from fever_extract.folders import list_images
from fever_extract.models.network import build
from fever_extract.options import Options

FAST = {"detect_size": 640}
# bfloat16 runs on torch: where float32 is compiled it gains nothing.
SETTINGS = ({}, FAST, {**FAST, "dtype": "bfloat16"})
REPEATS = 3  # of which the median counts
LIVE_CALLS = 300
RESULTS = Path(__file__).with_name("RESULTS.md")


@dataclass
class Row:
    """One line of the table: rates or times, and how many times as fast ours is."""

    what: str
    baseline: str
    ours: str
    ratio: float | None
    target: str

    def __str__(self) -> str:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        return f"| {self.what} | {self.baseline} | {self.ours} | {ratio} | {self.target} |"


class Plain:
    """The plain pipeline.

    Args:
        device: where its networks run.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.mtcnn = MTCNN(keep_all=True, device=device)
        self.network = efficientnet_b0().eval().to(device)

    @torch.inference_mode()
    def __call__(self, image: Image.Image) -> int:
        boxes, scores = self.mtcnn.detect(image)
        faces = 0
        for box, score in zip([] if boxes is None else boxes, scores):
            if score > 0.9:
                crop = image.crop(box.tolist()).resize((224, 224))
                self.embed(crop)
                faces += 1
        return faces

    @torch.inference_mode()
    def embed(self, crop: Image.Image) -> np.ndarray:
        """One face of 224 pixels a side."""
        return self.network(transforms.to_tensor(crop)[None].to(self.device)).cpu().numpy()


def seconds(job: Callable[[], object]) -> float:
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def median(job: Callable[[], object]) -> float:
    return float(np.median([seconds(job) for _ in range(REPEATS)]))


def decode(path: Path) -> None:
    """With the JPEG decoder's own reduction, as far as ours would go."""
    with Image.open(path) as file:
        factor = max(1, max(file.size) // FAST["detect_size"])
        file.draft(file.mode, (file.width // factor, file.height // factor))
        np.array(file.convert("RGB"))


def folder_rows(folder: Path, paths: list[Path], extractor: Extractor) -> Iterable[Row]:
    plain, found = Plain(), 0

    def baseline() -> None:
        nonlocal found
        found = sum(plain(Image.open(path).convert("RGB")) for path in paths)

    slow = len(paths) / median(baseline)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        decoded = len(paths) / median(lambda: list(pool.map(decode, paths)))
    for options in SETTINGS:
        name = json.dumps(options) if options else "defaults"
        with tempfile.TemporaryDirectory() as work:
            summaries = [
                extractor.extract_folder(
                    folder,
                    Path(work) / "features.parquet",
                    all_faces=True,
                    show_progress=False,
                    **options,
                )
                for _ in range(REPEATS)
            ]
        rate = len(paths) / float(np.median([summary.seconds for summary in summaries]))
        faces = f"{summaries[0].faces} faces"
        yield Row(
            f"folder to Parquet, {name}",
            f"plain pipeline {slow:.1f} images/s, {found} faces",
            f"{rate:.1f} images/s, {faces}",
            rate / slow,
            "25" if options else "15",
        )
        yield Row(
            f"the same, {name}",
            f"decoding alone with draft {decoded:.0f} images/s",
            f"{rate:.1f} images/s",
            rate / decoded,
            "0.2",
        )


def detection_row(paths: list[Path], extractor: Extractor) -> Row:
    pictures = [images.read(path) for path in paths]
    mtcnn = MTCNN(keep_all=True)
    theirs = seconds(lambda: [mtcnn.detect(Image.fromarray(picture)) for picture in pictures])
    detector = extractor._pipeline._detector

    def detect(some: list[np.ndarray]) -> None:
        detector.detect(some, [smallest_face(*picture.shape[:2]) for picture in some])

    groups = [pictures[start : start + 4] for start in range(0, len(pictures), 4)]

    with thread_pool("detect") as pool:
        list(pool.map(detect, groups[:2]))
        ours = seconds(lambda: list(pool.map(detect, groups)))
    return Row(
        "detection only, equal images",
        f"facenet_pytorch.MTCNN {1e3 * theirs / len(pictures):.1f} ms",
        f"{1e3 * ours / len(pictures):.1f} ms",
        theirs / ours,
        "15",
    )


def peer_rows(folder: Path, paths: list[Path], extractor: Extractor, python: str) -> Iterable[Row]:
    """Peers' detectors, one decoded photograph after the other, and ours the same way."""
    pictures = [images.read(path) for path in paths]
    detector = extractor._pipeline._detector

    def ours() -> int:
        found = (
            detector.detect([picture], [smallest_face(*picture.shape[:2])])[0]
            for picture in pictures
        )
        return sum(map(len, found))

    faces = ours()
    rate = len(pictures) / seconds(ours)
    script = Path(__file__).with_name("peers.py")
    answers = subprocess.run(
        [python, str(script), str(folder)], check=True, capture_output=True, text=True
    )
    # A peer may print, too.
    for answer in map(json.loads, re.findall("^{.*}$", answers.stdout, re.MULTILINE)):
        theirs = 0.0 if "problem" in answer else len(pictures) / answer["seconds"]
        yield Row(
            f"detection, one photograph at a time, beside {answer['peer']}",
            answer.get("problem") or f"{theirs:.1f} images/s, {answer['faces']} faces",
            f"{rate:.1f} images/s, {faces} faces",
            rate / theirs if theirs else None,
            "a row each",
        )


@torch.inference_mode()
def embedding_rows(paths: list[Path], data: Path | None, extractor: Extractor) -> Iterable[Row]:
    if data:
        import pyarrow.parquet as pq

        column = pq.read_table(data / "faces.parquet", columns=["image"])["image"][:640]
        crops = [np.array(Image.open(io.BytesIO(one.as_py())).convert("RGB")) for one in column]
    else:
        crops = [images.read(path) for path in paths][:64] * 10
    plain = build(extractor.config, extractor._checkpoint.state_dict)
    pipeline = extractor._pipeline
    whole = torch.cat([pipeline._whole(crop).crops for crop in crops])
    alone = seconds(lambda: [plain(crop[None]) for crop in whole]) / len(whole)
    batch = seconds(lambda: [plain(crops) for crops in whole.split(32)]) / len(whole)
    for dtype in ("float32", "bfloat16"):
        options = extractor._options.replace({"dtype": dtype})

        # As `Pipeline.stream` has it: each thread takes some faces.
        def embed(crops: Sequence[torch.Tensor], options: Options = options) -> int:
            work = pipeline.embedder.embed
            return len(list(map_batches(lambda some: list(work(some, options)), crops, 16)))

        embed(whole[:64].split(1))
        ours = seconds(lambda embed=embed: embed(whole.split(1))) / len(whole)
        for name, theirs, target in (
            ("one at a time", alone, "6"),
            ("batches of 32", batch, "1.5"),
        ):
            yield Row(
                f"embedding only, {dtype}",
                f"eager float32, {name}, {1e3 * theirs:.2f} ms a face",
                f"{1e3 * ours:.2f} ms",
                theirs / ours,
                target,
            )


def live_rows(paths: list[Path], extractor: Extractor) -> Iterable[Row]:
    """One call a photograph, as a service gets them; then beside a core that does other work."""
    pictures = [Image.open(path).convert("RGB").resize((640, 480)) for path in paths]
    plain = Plain()
    theirs = [seconds(lambda p=p: plain(p)) for p in pictures]
    arrays = [np.array(picture) for picture in pictures]
    extractor.extract_records(arrays[0])

    def measure() -> list[float]:
        # As many calls as a 99th percentile needs.
        rounds = -(-LIVE_CALLS // len(arrays))
        times = [seconds(lambda a=a: extractor.extract_records(a)) for a in arrays * rounds]
        return [float(value) for value in 1e3 * np.percentile(times, (50, 95, 99))]

    alone = measure()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            busy = measure()
        finally:
            other.kill()
    median, late = 1e3 * np.percentile(theirs, (50, 95))
    yield Row(
        "one 640x480 photograph, median and 95th percentile",
        f"plain pipeline {median:.0f} and {late:.0f} ms",
        f"{alone[0]:.1f} and {alone[1]:.1f} ms",
        median / alone[0],
        "8; 12 ms",
    )
    yield Row(
        "the same beside a busy core, median and 99th percentile",
        f"without it {alone[0]:.1f} and {alone[2]:.1f} ms",
        f"{busy[0]:.1f} and {busy[2]:.1f} ms",
        None,
        "within three medians",
    )


def stream_row(clip: Path | None, paths: list[Path], extractor: Extractor) -> Row:
    if clip:
        import av

        with av.open(str(clip)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    else:
        frames = [np.array(Image.open(p).convert("RGB").resize((640, 360))) for p in paths]
    rate = len(frames) / seconds(lambda: extractor.extract_records(frames, show_progress=False))
    return Row(
        f"frames of {frames[0].shape[1]}x{frames[0].shape[0]} in order, already decoded",
        "",
        f"{rate:.0f} frames/s",
        None,
        "300, with following",
    )


def start_rows(path: Path) -> Iterable[Row]:
    code = f"from fever_extract import Extractor; Extractor(device='cpu').extract({str(path)!r})"
    run = lambda *command: seconds(lambda: subprocess.run(command, check=True, capture_output=True))  # noqa: E731
    first = min(run(sys.executable, "-c", code) for _ in range(2))
    bare = min(run(sys.executable, "-c", "pass") for _ in range(2))
    usage = min(run(sys.executable, "-m", "fever_extract.cli", "--help") for _ in range(2))
    yield Row(
        "first vector of a new process",
        f"bare Python {bare:.2f} s",
        f"{first:.1f} s",
        None,
        "2.5 s",
    )
    yield Row("`fever-extract --help`", "", f"{usage:.2f} s", None, "under 0.3 s")


def long_rows(folder: Path, counts: tuple[int, ...]) -> Iterable[Row]:
    """The same job on more and more photographs, each in a process of its own."""
    names = [folder / name for name in list_images(folder)]
    measured = []
    for count in counts:
        with tempfile.TemporaryDirectory() as work:
            photos = Path(work) / "photos"
            photos.mkdir()
            for index in range(count):
                os.link(names[index % len(names)], photos / f"{index:06}.jpg")
            # Not getrusage: it begins at the peak of the process that started this one.
            code = (
                "import json, pathlib, re, sys, time; from fever_extract import Extractor\n"
                "extractor = Extractor(device='cpu'); start = time.perf_counter()\n"
                "extractor.extract_folder(sys.argv[1], sys.argv[2], show_progress=False)\n"
                "took = time.perf_counter() - start\n"
                "status = pathlib.Path('/proc/self/status').read_text()\n"
                "print(json.dumps([took, int(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1])]))"
            )
            output = subprocess.run(
                [sys.executable, "-c", code, str(photos), f"{work}/features.parquet"],
                check=True,
                capture_output=True,
                text=True,
            )
        took, peak = json.loads(output.stdout)
        measured.append((1e3 * took / count, peak / 1024))
        yield Row(
            f"{count} photographs: time for one, peak memory",
            f"{counts[0]}: {measured[0][0]:.1f} ms, {measured[0][1]:.0f} MB",
            f"{measured[-1][0]:.1f} ms, {measured[-1][1]:.0f} MB",
            measured[0][0] / measured[-1][0],
            "time within 10 %, memory at most 5 % more and 1.5 GB",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--data", type=Path, help="the folder of faces.parquet")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--long", type=int, nargs="*", metavar="COUNT", help="photographs")
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter with peers installed")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the table to write")
    chosen = parser.parse_args()
    paths = [chosen.photos / name for name in list_images(chosen.photos)]
    extractor = Extractor(device="cpu")
    extractor.extract_records(paths[:8], show_progress=False)  # what is made at first use
    mean = np.mean([np.prod(Image.open(path).size) for path in paths]) / 1e6
    lines = [
        f"`python benchmarks/run.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}: "
        f"{platform.machine()}, {torch.get_num_threads()} threads "
        f"({torch.backends.cpu.get_cpu_capability()}, "
        f"{'with' if torch.cpu._is_amx_tile_supported() else 'no'} AMX), "
        f"Python {platform.python_version()}, torch {torch.__version__}; "
        f"{len(paths)} photographs of {mean:.2f} megapixels on average.",
        "",
        "| what | baseline | fever-extract | ratio | target |",
        "| --- | --- | --- | --- | --- |",
    ]
    print("\n".join(lines), flush=True)

    def rows() -> Iterable[Row]:
        yield from folder_rows(chosen.photos, paths, extractor)
        yield detection_row(paths, extractor)
        if chosen.peers:
            yield from peer_rows(chosen.photos, paths, extractor, chosen.peers)
        yield from embedding_rows(paths, chosen.data, extractor)
        yield from live_rows(paths, extractor)
        yield stream_row(chosen.clip, paths, extractor)
        yield from start_rows(paths[0])
        if chosen.long is not None:
            yield from long_rows(chosen.photos, tuple(chosen.long) or (1000, 10_000, 50_000))

    for row in rows():
        lines.append(str(row))
        print(row, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lines += ["", f"Peak memory of this run, baselines included: {peak:.0f} MB."]
    chosen.results.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
