"""The body of each ``fever-extract`` command; `fever_extract.cli.main` parses the arguments.

Each takes the parsed line and returns the exit code. torch is imported as late as can be.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import defaultdict
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract._utils.terminal import complain, say
from fever_extract.options import SELECT, Options
from fever_extract.records import Status, Summary

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor

DONE, NOTHING_READ, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

_PACKAGES = (
    "torch torchvision facenet-pytorch huggingface-hub safetensors pillow numpy pyarrow "
    "scikit-learn av"
).split()
_JOB = (
    "sources output all_faces embedding device engine address workers overwrite save_crops "
    "fps start end detect_every no_clips only_clips retry_failed"
).split()
_tell = partial(say, required=True)
_SHOWN_FAILURES = 10  # of each status


def extract(chosen: argparse.Namespace) -> int:
    """Run ``extract``: many images to a table of embeddings."""
    from fever_extract import hub
    from fever_extract.jobs.job import Job
    from fever_extract.jobs.run import run
    from fever_extract.jobs.sources import NoImagesError

    options = {**face_options(chosen), "normalize": chosen.normalize}
    for name in ("batch_size", "dtype", "prior"):
        if getattr(chosen, name) is not None:
            options[name] = getattr(chosen, name)
    if chosen.quiet:
        options["show_progress"] = False
    job = Job(
        options=Options(**options),
        **{name: getattr(chosen, name) for name in _JOB},
    )
    job.check()  # before weights are downloaded
    try:
        summary = run(job, hub.load(chosen.weights, hub.HubOptions(revision=chosen.revision)))
    except NoImagesError as error:
        complain(f"{error}")
        return NOTHING_READ
    if not chosen.quiet:
        _print_summary(summary)
    if not any(status.was_searched for status in summary.statuses):
        complain(f"no image in {', '.join(chosen.sources)} could be read")
        return NOTHING_READ
    failed = any(status is not Status.OK for status in summary.statuses)
    return NOTHING_READ if chosen.strict and failed else DONE


def _print_summary(summary: Summary) -> None:
    say(str(summary))
    by_status: dict[Status, list[str]] = defaultdict(list)
    for path, status, message in summary.failures:
        by_status[status].append(f"  {path}: {message}")
    for status, lines in by_status.items():
        say(f"{status} ({summary.statuses[status]}):")
        for line in lines[:_SHOWN_FAILURES]:
            say(line)
        if len(lines) > _SHOWN_FAILURES:
            say(f"  ... and {len(lines) - _SHOWN_FAILURES} more; the table has them all")


def report(chosen: argparse.Namespace) -> int:
    """Run ``report``: a table as one HTML page."""
    from fever_extract.report.page import write_report

    done = write_report(chosen.table, chosen.output, photos=chosen.photos, color=chosen.color)
    say(f"{done.output}: {done.shown} of {done.faces} faces, {done.pictures} with a picture")
    if chosen.photos is not None and done.shown and not done.pictures:
        complain(
            f"no photograph of {chosen.table} was found in {chosen.photos}; give "
            "the folder that its paths are relative to"
        )
    return DONE


def demo(chosen: argparse.Namespace) -> int:
    """Run ``demo``: print and draw the faces of a photograph that comes with the package."""
    from fever_extract import images
    from fever_extract._utils.files import replace_atomically
    from fever_extract.report.drawing import annotate

    output = Path(chosen.output)
    format_ = _picture_format(output)
    photograph = resources.files("fever_extract.assets") / "astronaut.jpg"
    pixels = images.read(photograph.read_bytes())
    extractor = make_extractor(chosen)
    faces = extractor.extract_faces(pixels)
    say(f"{extractor!r}")
    say("photograph: Eileen Collins, NASA (public domain), 512x512")
    for face in faces:
        say(f"face: box {face.box.round().astype(int).tolist()}, score {face.score:.3f}")
        ranked = sorted(face.expressions.items(), key=lambda item: -item[1])
        say("expressions: " + ", ".join(f"{name} {value:.2f}" for name, value in ranked))
        start = ", ".join(f"{value:.3f}" for value in face.embedding[:4])
        say(f"embedding: {len(face.embedding)} numbers, starting {start}")
    with replace_atomically(output) as temporary:
        annotate(pixels, faces).save(temporary, format=format_)
    say(f"annotated picture: {output}")
    return DONE


def _picture_format(path: Path) -> str:
    from PIL import Image

    name = Image.registered_extensions().get(path.suffix.lower())
    if name is None or name not in Image.SAVE:
        raise ValueError(f"{path}: give a picture's name, such as demo.jpg or demo.png")
    return name


def info(chosen: argparse.Namespace) -> int:
    """Run ``info``: print version, weights, device and packages."""
    from fever_extract.kernels.library import INSTRUCTIONS, instructions

    extractor = make_extractor(chosen)
    _tell(f"fever-extract {metadata.version('fever-extract')}, Python {sys.version.split()[0]}")
    _tell(f"weights: {extractor.config.name} ({extractor.source})")
    _tell(f"  sha256: {extractor.sha256}")
    _tell(f"  licence: {extractor.config.license}")
    _tell(f"  embedding: {extractor.embedding_dim} numbers")
    _tell(f"  heads: {', '.join(extractor.config.heads) or 'none'}")
    _tell(f"device: {extractor.device}")
    _tell(f"networks on a CPU: {INSTRUCTIONS[instructions()]}")
    for name in _PACKAGES:
        try:
            _tell(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            _tell(f"{name} is not installed")
    return DONE


def download(chosen: argparse.Namespace) -> int:
    """Run ``download``: weights from the Hub into its cache."""
    from fever_extract.hub import download as hub

    # Load them too: a repository that can't be used is reported now.
    options = hub.HubOptions(revision=chosen.revision)
    hub.load(chosen.name, options)
    path = hub.download(chosen.name, dataclasses.replace(options, local_files_only=True))
    _tell(str(path))
    return DONE


def push(chosen: argparse.Namespace) -> int:
    """Run ``push``: publish weights on the Hub."""
    url = make_extractor(chosen).push_to_hub(
        chosen.name,
        revision=chosen.to,
        private=chosen.private,
        create_pr=chosen.create_pr,
        bundle=False if chosen.no_bundle else None,
    )
    say(url)
    return DONE


def export(chosen: argparse.Namespace) -> int:
    """Run ``export``: write the network as an ONNX file, or a bundle."""
    from fever_extract import hub
    from fever_extract.models.onnx import export_onnx

    if (chosen.output is None) == (chosen.bundle is None):
        raise ValueError("export takes either MODEL.onnx or --bundle FOLDER")
    if chosen.precision and not chosen.bundle:
        raise ValueError("--precision is for --bundle; MODEL.onnx is float32")
    checkpoint = hub.load(chosen.weights, hub.HubOptions(revision=chosen.revision))
    if chosen.bundle:
        from fever_extract.bundle import precision, writing

        sizes = writing.write(checkpoint, chosen.bundle, chosen.precision or precision.PRECISIONS)
        shown = ", ".join(f"{n} {size / 1e6:.1f}" for n, size in sizes.items() if size > 1e6)
        print(f"{chosen.bundle}: {len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB ({shown})")
        return DONE
    difference = export_onnx(checkpoint, Path(chosen.output))
    say(f"{chosen.output}: differs from torch by at most {difference:.1e}")
    return DONE


def conform(chosen: argparse.Namespace) -> int:
    """Run ``conform``: check a bundle; 1 if it does not give the package's embeddings."""
    from fever_extract import hub
    from fever_extract.models.onnx import check_packages

    check_packages()
    from fever_extract.bundle.checking import check
    from fever_extract.bundle.conformance import COSINE, PIXELS
    from fever_extract.bundle.precision import LEAST_COSINE

    checkpoint = hub.load(chosen.weights, hub.HubOptions(revision=chosen.revision))
    failed = False
    for name, differences in check(chosen.bundle, checkpoint):
        problems = [one for one in differences if one.problem]
        print(
            f"{name}: {len(differences) - len(problems)} of {len(differences)} pictures agree; "
            f"least cosine {min(one.cosine for one in differences):.6f} "
            f"({LEAST_COSINE.get(name, COSINE)} passes), boxes within "
            f"{max(one.pixels for one in differences):.2f} pixels ({PIXELS:g} passes)"
        )
        failed = failed or bool(problems)
        for one in problems:
            print(f"  {one.picture}: {one.problem}")
    return NOTHING_READ if failed else DONE


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of face detection to a command; `face_options` reads them."""
    faces = parser.add_argument_group("face detection")
    faces.add_argument("--select", choices=SELECT, help="which of several faces comes first")
    faces.add_argument(
        "--detect-size",
        type=int,
        metavar="PIXELS",
        help="shrink the image to this longer side for detection: faster (default: full size)",
    )
    faces.add_argument(
        "--min-face-size", type=float, metavar="PIXELS", help="smallest face to detect"
    )
    faces.add_argument(
        "--min-confidence", type=float, metavar="0..1", help="drop detections with a lower score"
    )
    faces.add_argument(
        "--aligned",
        action="store_true",
        help="the images are aligned face crops already: skip detection",
    )
    faces.add_argument(
        "--fallback",
        choices=["whole"],
        help="take the whole image as the face where none is detected",
    )
    faces.add_argument(
        "--any-orientation",
        action="store_true",
        help="also detect faces on their side or upside down: four times as slow",
    )


def add_detect_every(parser: argparse._ActionsContainer) -> None:
    """Add the option of how often faces of clips are detected."""
    parser.add_argument(
        "--detect-every",
        type=int,
        default=1,
        metavar="N",
        help="detect faces in every n-th frame, and follow them between: faster (default: 1)",
    )


def add_clip_options(parser: argparse._ActionsContainer) -> None:
    """Add which frames of clips are taken: ``--fps``, ``--start`` and ``--end``."""
    parser.add_argument(
        "--fps", type=float, metavar="N", help="frames a second to take (default: every frame)"
    )
    parser.add_argument("--start", type=float, metavar="SECONDS", help="where to begin in a clip")
    parser.add_argument("--end", type=float, metavar="SECONDS", help="where to stop in a clip")


def face_options(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `add_face_options` that were given, as arguments of `Options`."""
    names = "select detect_size min_face_size min_confidence fallback".split()
    options = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    return {
        **options,
        "aligned": chosen.aligned,
        "any_orientation": chosen.any_orientation,
    }


def make_extractor(chosen: argparse.Namespace, **options: Any) -> Extractor:
    """Build the extractor that the command line asks for, with options by default."""
    from fever_extract.extractor import Extractor

    return Extractor(chosen.weights, revision=chosen.revision, device=chosen.device, **options)
