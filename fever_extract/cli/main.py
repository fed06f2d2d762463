"""The command ``fever-extract``: its arguments, exit codes and error messages."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from importlib import metadata

from fever_extract._utils import terminal
from fever_extract._utils.names import printable
from fever_extract.cli import commands, course, live, serve
from fever_extract.cli.similar import similar
from fever_extract.options import DTYPES, PRIORS
from fever_extract.tables.search import METRICS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 nothing could be read, 2 wrong usage."""
    terminal.prepare()
    usual = warnings.formatwarning
    warnings.formatwarning = _formatted  # type: ignore[assignment]
    try:
        return _run(arguments)
    finally:
        warnings.formatwarning = usual
        terminal.finish()


def _formatted(message: Warning | str, *_: object) -> str:
    """Format a warning as one line, without the place in the code that Python adds."""
    return f"fever-extract: {printable(str(message))}\n"


def _run(arguments: Sequence[str] | None) -> int:
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except (OSError, ValueError, ImportError) as error:
        # What a user can mend ends in one line; anything else is a bug and shows its trace.
        terminal.complain(f"{error}")
        return commands.WRONG_USAGE
    except KeyboardInterrupt as stop:
        left = str(stop) or "nothing half done was left"
        terminal.complain(f"interrupted; {left}")
        return commands.INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fever-extract", description="Facial-expression embeddings from photographs."
    )
    parser.add_argument("--version", action="version", version=metadata.version("fever-extract"))
    subparsers = parser.add_subparsers(dest="command", required=True)

    source = argparse.ArgumentParser(add_help=False)
    source.add_argument(
        "--weights",
        metavar="SOURCE",
        help="folder or Hub repository org/name[@revision] (default: the embedded weights)",
    )
    source.add_argument("--revision", help="branch, tag or commit of a Hub repository")
    weights = argparse.ArgumentParser(add_help=False, parents=[source])
    weights.add_argument("--device", help="torch device (default: cuda if available)")

    _add_extract(subparsers, weights)
    _add_report(subparsers)

    _add_similar(subparsers, weights)
    course.add(subparsers, weights)
    serve.add(subparsers, weights)
    live.add(subparsers, weights)

    demo = subparsers.add_parser(
        "demo", parents=[weights], help="try it on a photograph that comes with the package"
    )
    demo.add_argument("-o", "--output", default="fever-demo.jpg", help="annotated picture to write")
    demo.set_defaults(run=commands.demo)

    info = subparsers.add_parser("info", help="show version, weights, device and packages")
    info.add_argument("weights", nargs="?", metavar="SOURCE", help="folder or org/name[@revision]")
    info.add_argument("--revision", help="branch, tag or commit of a Hub repository")
    info.add_argument("--device", help="torch device (default: cuda if available)")
    info.set_defaults(run=commands.info)

    download = subparsers.add_parser(
        "download", help="download weights from the Hub into its cache"
    )
    download.add_argument("name", metavar="ORG/NAME[@REVISION]")
    download.add_argument("--revision", help="branch, tag or commit")
    download.set_defaults(run=commands.download)

    push = subparsers.add_parser("push", parents=[weights], help="publish weights on the Hub")
    push.add_argument("name", metavar="ORG/NAME")
    push.add_argument("--to", metavar="BRANCH", help="branch to commit to (default: main)")
    push.add_argument(
        "--private", action="store_true", default=None, help="make a new repository private"
    )
    push.add_argument("--create-pr", action="store_true", help="open a pull request")
    push.add_argument(
        "--no-bundle", action="store_true", help="leave out the ONNX files and programs"
    )
    push.set_defaults(run=commands.push)

    export = subparsers.add_parser(
        "export",
        parents=[source],
        help="write the network as ONNX, or a bundle: a folder that needs no torch",
    )
    export.add_argument(
        "output", nargs="?", metavar="MODEL.onnx", help="file for the network alone"
    )
    export.add_argument(
        "--bundle",
        metavar="FOLDER",
        help="write detector, network, programs and test pictures here",
    )
    export.add_argument(
        "--precision",
        nargs="+",
        metavar="NAME",
        help="any of float32, float16, int8 (default: all)",
    )
    export.set_defaults(run=commands.export)

    conform = subparsers.add_parser(
        "conform", parents=[source], help="check that a bundle gives its weights' embeddings"
    )
    conform.add_argument("bundle", metavar="BUNDLE")
    conform.set_defaults(run=commands.conform)
    return parser


def _add_extract(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    weights: argparse.ArgumentParser,
) -> None:
    extract = subparsers.add_parser(
        "extract", parents=[weights], help="extract a folder of photographs and clips to a table"
    )
    extract.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a folder (with all folders below it), an image, a clip, a glob, a .tar, a list of "
        "paths (.txt, .csv, .parquet, or - for standard input), or an address such as "
        "s3://bucket/folder",
    )
    extract.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="TABLE",
        help="a .parquet, .npz or .csv file; or a folder for shards, where a stopped job resumes",
    )
    extract.add_argument(
        "--all-faces", action="store_true", help="one row per face instead of one per image"
    )
    extract.add_argument(
        "--no-embedding", dest="embedding", action="store_false", help="leave the embeddings out"
    )
    extract.add_argument(
        "--save-crops", metavar="FOLDER", help="save each aligned face as a JPEG (not for shards)"
    )
    extract.add_argument(
        "--strict", action="store_true", help="exit 1 if an image has no embedding"
    )
    extract.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    extract.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="worker processes (default: one per core, or per GPU; of few photographs to one "
        "table none); 1 writes one table without any",
    )
    commands.add_face_options(extract)
    network = extract.add_argument_group("embedding")
    network.add_argument("--normalize", action="store_true", help="scale embeddings to length 1")
    network.add_argument(
        "--prior",
        choices=PRIORS[1:],
        help="class prior of the expression probabilities (default: uniform, if the weights say "
        "which prior they learned)",
    )
    network.add_argument("--dtype", choices=DTYPES, help="floating-point type of the network")
    network.add_argument("--batch-size", type=int, metavar="N", help="images per batch")
    clips = extract.add_argument_group("clips")
    commands.add_clip_options(clips)
    commands.add_detect_every(clips)
    clips.add_argument("--no-clips", action="store_true", help="take photographs only")
    clips.add_argument("--only-clips", action="store_true", help="take clips only")
    shards = extract.add_argument_group("when the output is a folder of shards")
    shards.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="run workers on this machine, or on a Ray cluster",
    )
    shards.add_argument(
        "--address", help="address of the Ray cluster, or auto (default: start Ray on this machine)"
    )
    shards.add_argument("--overwrite", action="store_true", help="start afresh instead of resuming")
    shards.add_argument(
        "--retry-failed",
        action="store_true",
        help="do again what could not be read or crashed, when resuming",
    )
    extract.set_defaults(run=commands.extract)


def _add_report(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    report = subparsers.add_parser("report", help="show a table as one HTML page")
    report.add_argument("table", metavar="TABLE", help="a table that extract wrote")
    report.add_argument("-o", "--output", required=True, metavar="PAGE", help="an .html file")
    report.add_argument(
        "--photos", metavar="PHOTOS", help="the folder that was extracted, for thumbnails"
    )
    report.add_argument(
        "--color", metavar="COLUMN", help="column that colours the map (default: expression)"
    )
    report.set_defaults(run=commands.report)


def _add_similar(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    weights: argparse.ArgumentParser,
) -> None:
    command = subparsers.add_parser(
        "similar",
        parents=[weights],
        help="find the faces in a table that are most like those in photographs",
    )
    command.add_argument(
        "inputs",
        nargs="+",
        metavar="PHOTO... TABLE",
        help="photographs, then the table to search; with --like the table alone is enough",
    )
    command.add_argument(
        "-n", "--number", type=int, default=10, metavar="N", help="how many faces (default: 10)"
    )
    command.add_argument(
        "-o", "--output", metavar="PAGE", help="also write the pictures to this .html file"
    )
    command.add_argument(
        "--photos",
        default=".",
        metavar="PHOTOS",
        help="the folder that the table's paths are relative to",
    )
    command.add_argument(
        "--like", metavar="CONDITION", help='such as "happiness > 0.8 and bs_eyeBlinkLeft < 0.2"'
    )
    command.add_argument("--metric", choices=METRICS, default="cosine")
    commands.add_face_options(command)
    command.set_defaults(run=similar)
