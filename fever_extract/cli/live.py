"""``fever-extract live``: a camera, a stream or a clip in real time, on a local page or as JSON."""

from __future__ import annotations

import argparse
import json
import re
import secrets
from typing import TYPE_CHECKING

from fever_extract._utils.extras import require
from fever_extract._utils.terminal import complain, say
from fever_extract.cli import commands
from fever_extract.cli.serve import port

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor
    from fever_extract.live.analysis import Result
    from fever_extract.live.sources import Source

_DETECT_SIZE = 640
_MOST_THREADS = 4
_HOST = "127.0.0.1"


def add(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    weights: argparse.ArgumentParser,
) -> None:
    """Add the command."""
    command = subparsers.add_parser(
        "live", parents=[weights], help="faces of a camera, a stream or a clip in real time"
    )
    command.add_argument(
        "source", metavar="SOURCE", help="a camera's number or device, an address, or a clip"
    )
    command.add_argument(
        "--json", action="store_true", help="print a line of JSON a frame instead of a page"
    )
    command.add_argument("--open", action="store_true", help="open the page in the browser")
    command.add_argument(
        "--port", type=port, default=0, help="of the page, on this machine only (default: any)"
    )
    command.add_argument(
        "--size", type=_size, default="640x480", metavar="WxH", help="asked of a camera"
    )
    command.add_argument("--rate", type=float, metavar="FPS", help="asked of a camera")
    commands.add_detect_every(command)
    command.add_argument("--threads", type=int, metavar="N", help="that analyse, a frame each")
    commands.add_face_options(command)
    command.set_defaults(run=live)


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise ValueError
    return int(match[1]), int(match[2])


def live(chosen: argparse.Namespace) -> int:
    """Analyse until the end, SIGTERM or Ctrl-C."""
    require("av", extra="video", needed_by="live")
    if not chosen.json:
        require("starlette", "uvicorn", extra="serve", needed_by="live's page (--json needs none)")
    for name in ("detect_every", "threads"):
        value = getattr(chosen, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    from fever_extract.live.sources import Source
    from fever_extract.options import Options
    from fever_extract.video.stretch import check_sampling

    options = {"detect_size": _DETECT_SIZE, **commands.face_options(chosen)}
    every = chosen.detect_every
    check_sampling(None, None, None, detect_every=every, options=Options(**options))
    source = Source(chosen.source, chosen.size, chosen.rate)
    if not _can_be_opened(source):
        return commands.NOTHING_READ
    extractor = commands.make_extractor(chosen, show_progress=False, **options)
    import torch

    threads = chosen.threads or min(_MOST_THREADS, torch.get_num_threads())
    if chosen.json:
        return _print_lines(extractor, source, threads, chosen.detect_every)
    return _show_page(extractor, source, threads, chosen)


def _can_be_opened(source: Source) -> bool:
    """Open and close the source, so that a mistake is told before anything else is done."""
    from fever_extract.records import ExtractionError

    try:
        clip, container = source.open()
    except ExtractionError as error:
        complain(f"{source.text}: {error}")
        return False
    clip.close()
    if container is not None:
        container.close()
    return True


def _print_lines(extractor: Extractor, source: Source, threads: int, detect_every: int) -> int:
    from fever_extract.live.analysis import Analysis, fields

    problems: list[str] = []

    def publish(result: Result) -> None:
        print(json.dumps(fields(result), allow_nan=False), flush=True)

    def ended(reason: str, failed: bool) -> None:
        if failed:
            problems.append(reason)

    analysis = Analysis(
        extractor, source, publish, ended, threads=threads, detect_every=detect_every
    )
    try:
        while not analysis.wait(0.2):
            pass
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the source is closed") from None
    finally:
        analysis.stop()
    if problems and not problems[0].startswith("BrokenPipeError"):
        complain(f"{source.text}: {problems[0]}")
        return commands.NOTHING_READ
    return commands.DONE


def _show_page(
    extractor: Extractor, source: Source, threads: int, chosen: argparse.Namespace
) -> int:
    import webbrowser

    from fever_extract.live.page import create_app
    from fever_extract.serve import server

    taken = server.bind(_HOST, chosen.port)
    number = taken.getsockname()[1]
    token = secrets.token_urlsafe(16)
    url = f"http://{_HOST}:{number}/?token={token}"
    app = create_app(
        extractor,
        source,
        token=token,
        hosts=(f"{_HOST}:{number}", f"localhost:{number}"),
        threads=threads,
        detect_every=chosen.detect_every,
    )

    def announce() -> None:
        # Not by `say`, which would take the token out.
        print(f"{source.title}: open {url} (Ctrl-C ends)", flush=True)
        if chosen.open:
            webbrowser.open(url)

    server.run(app, taken, announce=announce, grace=5)
    say("ended; the source is closed")
    return commands.DONE
