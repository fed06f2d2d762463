"""What each command of ``fever-extract`` does; `fever_extract.cli` reads the line.

Each takes the parsed line and returns the exit code. torch is imported as late as can be.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections import defaultdict
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract.options import SELECT, Options
from fever_extract.records import Status, Summary

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor

DONE, NOTHING_READ, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

_PACKAGES = (
    "torch torchvision facenet-pytorch huggingface-hub safetensors pillow numpy pyarrow "
    "scikit-learn av"
).split()
_SHOWN_FAILURES = 10  # of each status


def extract(chosen: argparse.Namespace) -> int:
    """A folder of photographs to a table of vectors."""
    from fever_extract.images import EXTENSIONS
    from fever_extract.jobs import sources as inputs
    from fever_extract.jobs.table import CLIP_EXTENSIONS
    from fever_extract.tables.writing import check_output, is_shard_folder

    # Before torch is imported and weights are loaded: a typing error is told at once.
    if not is_shard_folder(chosen.output):
        check_output(Path(chosen.output))
    found = inputs.find(chosen.sources, EXTENSIONS | CLIP_EXTENSIONS)
    try:
        if all(map(os.path.isdir, chosen.sources)) and next(found, None) is None:
            raise inputs.describe_nothing(chosen.sources)
        summary = _run_extract(chosen)
    except inputs.NoImagesError as error:
        print(f"fever-extract: {error}", file=sys.stderr)
        return NOTHING_READ
    if not chosen.quiet:
        _print_summary(summary)
    if not any(status.was_searched for status in summary.statuses):
        sources = ", ".join(chosen.sources)
        print(f"fever-extract: no image in {sources} could be read", file=sys.stderr)
        return NOTHING_READ
    failed = any(status is not Status.OK for status in summary.statuses)
    return NOTHING_READ if chosen.strict and failed else DONE


def _run_extract(chosen: argparse.Namespace) -> Summary:
    from fever_extract.tables.writing import NO_CROPS, is_shard_folder

    options = {**face_options(chosen), "normalize": chosen.normalize}
    for name in ("batch_size", "dtype"):
        if getattr(chosen, name) is not None:
            options[name] = getattr(chosen, name)
    if chosen.quiet:
        options["show_progress"] = False
    if not is_shard_folder(chosen.output):
        if chosen.engine == "ray":
            raise ValueError(f"output {chosen.output} is one file; --engine ray fills a folder")
        return make_extractor(chosen).extract_folder(
            chosen.sources,
            chosen.output,
            all_faces=chosen.all_faces,
            embedding=chosen.embedding,
            save_crops=chosen.save_crops,
            **options,
        )
    if chosen.save_crops is not None:
        raise ValueError(NO_CROPS)

    from fever_extract import hub
    from fever_extract.jobs import machine
    from fever_extract.jobs import sharded as job

    engine = job.local(chosen.workers)
    if chosen.engine == "ray":
        from fever_extract.jobs.ray import on_ray

        gpus = 1 if str(chosen.device).startswith("cuda") else 0
        engine = on_ray(chosen.address, concurrency=chosen.workers, num_gpus=gpus)
    elif chosen.device:
        machine.devices_of(chosen.device)  # refused before anything is overwritten
    # No Extractor: the networks are the workers'.
    return job.run(
        hub.load(chosen.weights, hub.HubOptions(revision=chosen.revision)),
        chosen.sources,
        chosen.output,
        options=Options(**options),
        all_faces=chosen.all_faces,
        embedding=chosen.embedding,
        device=chosen.device,
        overwrite=chosen.overwrite,
        engine=engine,
    )


def _print_summary(summary: Summary) -> None:
    print(summary)
    by_status: dict[Status, list[str]] = defaultdict(list)
    for path, status, message in summary.failures:
        by_status[status].append(f"  {path}: {message}")
    for status, lines in by_status.items():
        print(f"{status} ({len(lines)}):")
        print("\n".join(lines[:_SHOWN_FAILURES]))
        if len(lines) > _SHOWN_FAILURES:
            print(f"  ... and {len(lines) - _SHOWN_FAILURES} more; the table has them all")


def report(chosen: argparse.Namespace) -> int:
    """A table as one HTML page."""
    from fever_extract.report.page import write_report

    done = write_report(chosen.table, chosen.output, photos=chosen.photos, color=chosen.color)
    print(f"{done.output}: {done.shown} of {done.faces} faces, {done.pictures} with a picture")
    if chosen.photos is not None and done.shown and not done.pictures:
        print(
            f"fever-extract: no photograph of {chosen.table} was found in {chosen.photos}; give "
            "the folder that its paths are relative to",
            file=sys.stderr,
        )
    return DONE


def demo(chosen: argparse.Namespace) -> int:
    """One known photograph: its faces, printed and drawn."""
    from fever_extract import images
    from fever_extract._files import replace_atomically
    from fever_extract.report.drawing import annotate

    output = Path(chosen.output)
    format_ = _picture_format(output)
    photograph = resources.files("fever_extract.assets") / "astronaut.jpg"
    pixels = images.read(photograph.read_bytes())
    extractor = make_extractor(chosen)
    faces = extractor.extract_faces(pixels)
    print(f"{extractor!r}\nphotograph: Eileen Collins, NASA (public domain), 512x512")
    for face in faces:
        print(f"face: box {face.box.round().astype(int).tolist()}, score {face.score:.3f}")
        ranked = sorted(face.expressions.items(), key=lambda item: -item[1])
        print("expressions: " + ", ".join(f"{name} {value:.2f}" for name, value in ranked))
        start = ", ".join(f"{value:.3f}" for value in face.vector[:4])
        print(f"vector: {len(face.vector)} numbers, starting {start}")
    with replace_atomically(output) as temporary:
        annotate(pixels, faces).save(temporary, format=format_)
    print(f"annotated picture: {output}")
    return DONE


def _picture_format(path: Path) -> str:
    from PIL import Image

    name = Image.registered_extensions().get(path.suffix.lower())
    if name is None or name not in Image.SAVE:
        raise ValueError(f"{path}: give a picture's name, such as demo.jpg or demo.png")
    return name


def info(chosen: argparse.Namespace) -> int:
    """Version, weights, device, packages."""
    extractor = make_extractor(chosen)
    print(f"fever-extract {metadata.version('fever-extract')}, Python {sys.version.split()[0]}")
    print(f"weights: {extractor.config.name} ({extractor.source})")
    print(f"  sha256: {extractor.sha256}")
    print(f"  licence: {extractor.config.license}")
    print(f"  vector: {extractor.embedding_dim} numbers")
    print(f"  heads: {', '.join(extractor.config.heads) or 'none'}")
    print(f"device: {extractor.device}")
    for name in _PACKAGES:
        try:
            print(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"{name} is not installed")
    return DONE


def download(chosen: argparse.Namespace) -> int:
    """Weights from the Hub into its cache."""
    from fever_extract.hub import download as hub

    # Loaded, not only fetched: a repository that can't be used is told of now.
    options = hub.HubOptions(revision=chosen.revision)
    hub.load(chosen.name, options)
    print(hub.download(chosen.name, dataclasses.replace(options, local_files_only=True)))
    return DONE


def push(chosen: argparse.Namespace) -> int:
    """Weights onto the Hub."""
    url = make_extractor(chosen).push_to_hub(
        chosen.name, revision=chosen.to, private=chosen.private, create_pr=chosen.create_pr
    )
    print(url)
    return DONE


def export(chosen: argparse.Namespace) -> int:
    """The network as an ONNX file."""
    from fever_extract import hub
    from fever_extract.models.onnx import export_onnx

    checkpoint = hub.load(chosen.weights, hub.HubOptions(revision=chosen.revision))
    difference = export_onnx(checkpoint, Path(chosen.output))
    print(f"{chosen.output}: differs from torch by at most {difference:.1e}")
    return DONE


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Say on a command line how faces are found; `face_options` has what was said."""
    parser.add_argument("--select", choices=SELECT, help="which of several faces")
    parser.add_argument(
        "--detect-size", type=int, metavar="PIXELS", help="look for faces at this size, for speed"
    )
    parser.add_argument("--min-face-size", type=float, metavar="PIXELS")
    parser.add_argument("--min-confidence", type=float, metavar="0..1")
    parser.add_argument(
        "--aligned", action="store_true", help="the images are aligned face crops: don't detect"
    )
    parser.add_argument(
        "--fallback", choices=["whole"], help="take the whole picture where no face is found"
    )


def face_options(chosen: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `add_face_options` that were given, as those of `Options`."""
    names = "select detect_size min_face_size min_confidence fallback".split()
    options = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    return {**options, "aligned": chosen.aligned}


def make_extractor(chosen: argparse.Namespace) -> Extractor:
    from fever_extract.extractor import Extractor

    return Extractor(chosen.weights, revision=chosen.revision, device=chosen.device)
