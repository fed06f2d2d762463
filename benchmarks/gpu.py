"""Speed on a GPU, beside the plain pipeline on the same GPU; writes a table of Markdown.

    python benchmarks/gpu.py [PHOTOS] [--minutes 8] [--tests] [--clip CLIP.mp4] [--output GPU.md]

PHOTOS is a folder of photographs; without, they are made of the picture that the package brings.
The plain pipeline is that of run.py, image by image. What matters most is measured first, and
each row is written as soon as it is known; what --minutes leaves no time for is left out, and
named. --tests also runs the tests that take a device on the GPU, first. A small try of the
script itself without a GPU: --device cpu.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from run import Plain, Row, seconds

from fever_extract import Extractor, alignment, images
from fever_extract.folders import list_images

SIZES = {"VGA": (640, 480), "2 MP": (1632, 1224)}
CROP = 224
TESTS = ("tests/detection", "tests/test_extractor.py", "tests/jobs/test_folder.py")


def make_photos(source: Path | None, target: Path, size: tuple[int, int], count: int) -> list[Path]:
    """JPEGs of one size: photographs, cropped to its shape; again and again, each a little else."""
    if source is None:
        from importlib import resources

        names = [Path(str(resources.files("fever_extract.assets") / "astronaut.jpg"))]
    else:
        names = [source / name for name in list_images(source)]
    pictures = [ImageOps.exif_transpose(Image.open(name)).convert("RGB") for name in names]
    paths = []
    for number in range(count):
        shift = 0.5 + 0.3 * np.sin(number)
        picture = ImageOps.fit(pictures[number % len(pictures)], size, centering=(0.5, shift))
        paths.append(target / f"{size[0]}-{number:05}.jpg")
        picture.save(paths[-1], quality=90)
    return paths


class Benchmark:
    """The measurements, in the order of their importance.

    Args:
        device: of both pipelines.
        source: folder of photographs, or None.
        work: an empty folder.
        count: photographs of each size.
        clip: a file, or None to make one of the photographs.
    """

    def __init__(
        self, device: str, source: Path | None, work: Path, count: int, clip: Path | None
    ) -> None:
        self.device, self.work, self.clip = device, work, clip
        self.photos = {name: make_photos(source, work, size, count) for name, size in SIZES.items()}
        self.extractor, self.plain = Extractor(device=device), Plain(device)
        self.rates: dict[str, tuple[float, int]] = {}
        self.profile = ""

    def rows(self) -> Iterator[tuple[str, Callable[[], Iterator[Row]]]]:
        """What can be measured: a name, and how."""
        yield "the same embeddings as on a CPU", self.agreement
        yield "VGA photographs", lambda: self.photographs("VGA")
        yield "profile", self.profiled
        yield "2 MP photographs", lambda: self.photographs("2 MP")
        yield "a folder to a table, workers on one GPU", self.folder
        yield "aligned faces", self.crops
        yield "clip", self.frames
        yield "VGA photographs in half precision", lambda: self.photographs("VGA", dtype="bfloat16")

    def agreement(self) -> Iterator[Row]:
        paths = [path for paths in self.photos.values() for path in paths[:8]]
        here = self.extractor.extract_records(paths, all_faces=True, show_progress=False)
        there = Extractor(device="cpu").extract_records(paths, all_faces=True, show_progress=False)
        pairs = [pair for a, b in zip(here, there) for pair in zip(a.faces, b.faces)]
        same = [len(record.faces) for record in here] == [len(record.faces) for record in there]
        apart = max((float(np.abs(a.embedding - b.embedding).max()) for a, b in pairs), default=0.0)
        yield Row(
            f"largest difference of {len(pairs)} faces' embeddings to the CPU's",
            "CPU",
            f"{apart:.1e}, {'the same faces' if same else 'OTHER FACES'}",
            None,
            "1e-4",
        )

    def photographs(self, size: str, **options: str) -> Iterator[Row]:
        paths = self.photos[size]
        if size not in self.rates:
            some = paths[: max(8, len(paths) // 8)]
            self.plain(Image.open(some[0]).convert("RGB"))
            found = 0

            def baseline() -> None:
                nonlocal found
                found = sum(self.plain(Image.open(path).convert("RGB")) for path in some)

            self.rates[size] = len(some) / seconds(baseline), found
            self.rates[size] = self.rates[size][0], found * len(paths) // len(some)
        self.extractor.extract_records(paths[:64], show_progress=False, **options)
        records = []

        def ours() -> None:
            records[:] = self.extractor.extract_records(
                paths, all_faces=True, show_progress=False, **options
            )

        rate = len(paths) / min(seconds(ours) for _ in range(2))
        yield Row(
            f"{len(paths)} JPEGs of {size} to embeddings{', ' if options else ''}"
            + ", ".join(f"{name} {value}" for name, value in options.items()),
            f"plain pipeline {self.rates[size][0]:.1f} images/s, about {self.rates[size][1]} faces",
            f"{rate:.0f} images/s, {sum(len(record.faces) for record in records)} faces",
            rate / self.rates[size][0],
            "20; over 1,500 images/s of VGA",
        )
        decoded = seconds(lambda: [images.read(path) for path in paths[:64]]) / 64
        yield Row(
            f"of that, decoding {size} on one core",
            "",
            f"{1e3 * decoded:.2f} ms, {1 / decoded:.0f} images/s",
            None,
            "",
        )

    def profiled(self) -> Iterator[Row]:
        """Where the time goes: a table of operators, the share of the GPU, the waits for it."""
        from torch.profiler import ProfilerActivity, profile

        paths = self.photos["VGA"][:128]
        activities = [ProfilerActivity.CPU]
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            activities.append(ProfilerActivity.CUDA)
        # One thread's batches: the profiler sees the threads that it began in.
        options = self.extractor.options.replace({"show_progress": False})
        batches = [paths[start : start + 32] for start in range(0, len(paths), 32)]

        def work() -> None:
            for batch in batches:
                self.extractor._pipeline.process(batch, options, all_faces=True)

        work()
        pixels = [[images.read(path) for path in batch] for batch in batches]

        def computing() -> None:
            for batch in pixels:
                self.extractor._pipeline.process(batch, options, all_faces=True)

        computing()
        with profile(activities=activities) as profiler:
            took = seconds(computing)
        events = profiler.key_averages()
        order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        self.profile = events.table(sort_by=order, row_limit=25, max_name_column_width=60)
        kernels = sum(event.self_device_time_total for event in events) / 1e6
        waits = sum(event.count for event in events if "Synchronize" in event.key)
        launches = sum(event.count for event in events if "LaunchKernel" in event.key)
        yield Row(
            f"profile of {len(paths)} decoded VGA photographs, one thread, batches of 32",
            f"{1e3 * seconds(work) / len(batches):.1f} ms a batch with decoding",
            f"{1e3 * took / len(batches):.1f} ms a batch, GPU busy {kernels / took:.0%}, "
            f"{launches / len(batches):.0f} launches and {waits / len(batches):.0f} waits a batch",
            None,
            "",
        )

    def folder(self) -> Iterator[Row]:
        """Several worker processes share the GPU: each has an interpreter of its own."""
        folder = self.work / "folder"
        folder.mkdir()
        for path in self.photos["VGA"]:
            os.link(path, folder / path.name)
        count = len(self.photos["VGA"])
        for workers in (1, 4) if self.device.startswith("cuda") else (1,):
            output = self.work / f"shards-{workers}"
            took = seconds(
                lambda output=output, workers=workers: self.extractor.extract_folder(
                    folder, f"{output}/", all_faces=True, workers=workers, show_progress=False
                )
            )
            yield Row(
                f"folder of {count} VGA JPEGs to shards, {workers} workers, from their start",
                f"plain pipeline {self.rates['VGA'][0]:.1f} images/s" if self.rates else "",
                f"{count / took:.0f} images/s",
                count / took / self.rates["VGA"][0] if self.rates else None,
                "",
            )

    def crops(self) -> Iterator[Row]:
        paths = []
        records = self.extractor.extract_records(self.photos["VGA"][:64], show_progress=False)
        framing = self.extractor.config.preprocessing
        for path, record in zip(self.photos["VGA"], records):
            if record.face is not None:
                crop = alignment.crop(images.read(path), record.face.landmarks, framing)
                picture = Image.fromarray(crop.round().byte().permute(1, 2, 0).numpy())
                paths.append(self.work / f"crop-{path.name}")
                picture.save(paths[-1], quality=95)
        many = paths * (len(self.photos["VGA"]) // max(1, len(paths)) + 1)
        open_crop = lambda path: Image.open(path).convert("RGB").resize((CROP, CROP))  # noqa: E731
        plain = len(paths) / seconds(lambda: [self.plain.embed(open_crop(path)) for path in paths])
        work = lambda: self.extractor.extract(many, aligned=True, show_progress=False)  # noqa: E731
        work()
        rate = len(many) / seconds(work)
        yield Row(
            f"{len(many)} JPEGs of aligned faces, {framing.size} pixels",
            f"EfficientNet-B0, one at a time, {plain:.0f} faces/s",
            f"{rate:.0f} faces/s",
            rate / plain,
            "",
        )

    def frames(self) -> Iterator[Row]:
        try:
            import av
        except ImportError:
            yield Row("clip", "", "not measured: PyAV is not installed", None, "")
            return
        clip = self.clip
        if clip is None:
            clip = self.work / "clip.mp4"
            with av.open(str(clip), "w") as container:
                stream = container.add_stream("h264", rate=30, options={"crf": "20"})
                stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
                picture = Image.open(self.photos["VGA"][0]).convert("RGB").resize((700, 400))
                for number in range(len(self.photos["VGA"])):
                    left = round(30 + 30 * np.sin(number / 20))
                    frame = picture.crop((left, 20, left + 640, 380))
                    made = av.VideoFrame.from_image(frame)
                    made.pts, made.time_base = number, Fraction(1, 30)
                    container.mux(stream.encode(made))
                container.mux(stream.encode())
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            size = f"{stream.width}x{stream.height}"
            some = [frame.to_image() for _, frame in zip(range(16), container.decode(stream))]
        plain = len(some) / seconds(lambda: [self.plain(picture) for picture in some])
        count = 0

        def ours() -> None:
            nonlocal count
            count = sum(1 for _ in self.extractor.extract_video(clip))

        rate = 1 / seconds(ours) * count
        yield Row(
            f"clip of {count} frames, {size}, decoded and followed",
            f"plain pipeline on decoded frames {plain:.1f} frames/s",
            f"{rate:.0f} frames/s",
            rate / plain,
            "",
        )


def header(device: str) -> list[str]:
    name, memory = platform.machine(), ""
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        name, memory = properties.name, f", {properties.total_memory / 2**30:.0f} GiB"
    return [
        f"`python benchmarks/gpu.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}: "
        f"{name}{memory}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}.",
        "",
        "| what | baseline | fever-extract | ratio | target |",
        "| --- | --- | --- | --- | --- |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, nargs="?", help="folder of photographs")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="no row begins after these")
    parser.add_argument("--count", type=int, help="photographs of each size (default: 1024)")
    parser.add_argument("--clip", type=Path, help="any clip (default: one is made)")
    parser.add_argument("--tests", action="store_true", help="run the tests on the GPU first")
    parser.add_argument("--output", type=Path, default=Path("GPU.md"), help="the table to write")
    chosen = parser.parse_args()
    if chosen.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no GPU that torch can use: nothing measured (--device cpu tries the script)")
    start = time.monotonic()
    lines = header(chosen.device)

    def say(line: str) -> None:
        lines.append(line)
        print(line, flush=True)
        chosen.output.write_text("\n".join(lines) + "\n", encoding="utf-8")

    print("\n".join(lines), flush=True)
    if chosen.tests:
        command = [sys.executable, "-m", "pytest", "-q", "-k", chosen.device, *TESTS]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        print(answer.stdout[-4000:], flush=True)
        say(str(Row("tests on this device", "", answer.stdout.splitlines()[-1], None, "pass")))
    count = chosen.count or (1024 if chosen.device.startswith("cuda") else 16)
    with tempfile.TemporaryDirectory() as work:
        benchmark = Benchmark(chosen.device, chosen.photos, Path(work), count, chosen.clip)
        for name, measure in benchmark.rows():
            if time.monotonic() - start > 60 * chosen.minutes:
                say(str(Row(name, "", "left out: no time", None, "")))
                continue
            try:
                for row in measure():
                    say(str(row))
            except (RuntimeError, ValueError, OSError) as error:  # the others still count
                say(str(Row(name, "", f"failed: {str(error).splitlines()[0]}", None, "")))
        if benchmark.profile:
            for line in ("", "```", *benchmark.profile.splitlines(), "```"):
                say(line)


if __name__ == "__main__":
    main()
