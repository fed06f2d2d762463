"""``fever-extract serve``: extraction as an HTTP service."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import warnings

from fever_extract._utils.extras import require
from fever_extract._utils.terminal import say
from fever_extract.cli import commands

_PACKAGES = ("fastapi", "fastapi_offline", "uvicorn", "python_multipart", "prometheus_client")
_MEGABYTE = 1024**2
_HEAD_SECONDS = 10.0


def add(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    weights: argparse.ArgumentParser,
) -> None:
    """Add the command."""
    command = subparsers.add_parser(
        "serve", parents=[weights], help="extract the images that are posted to an HTTP service"
    )
    command.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only)"
    )
    command.add_argument("--port", type=port, default=8000, help="0 takes any (default: 8000)")
    command.add_argument("--access-log", action="store_true", help="log a line a request")
    commands.add_face_options(command)
    network = command.add_argument_group("embedding")
    network.add_argument("--normalize", action="store_true", help="scale embeddings to length 1")
    limits = command.add_argument_group("limits")
    limits.add_argument(
        "--max-body", type=float, metavar="MB", help="size of a request (default: 32)"
    )
    limits.add_argument("--max-images", type=int, metavar="N", help="of a request (default: 32)")
    limits.add_argument(
        "--max-pixels", type=float, default=50, metavar="MILLIONS", help="of an image (default: 50)"
    )
    limits.add_argument(
        "--max-queue", type=int, metavar="N", help="images that wait, at most (default: 256)"
    )
    limits.add_argument(
        "--max-batch", type=int, metavar="N", help="images worked on together (default: 16)"
    )
    limits.add_argument(
        "--max-wait", type=float, metavar="MS", help="a batch's wait for others (default: 5)"
    )
    limits.add_argument(
        "--timeout", type=float, metavar="S", help="for a request to arrive (default: 60)"
    )
    command.set_defaults(run=serve)


def port(text: str) -> int:
    """Parse a port."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError
    return number


def serve(chosen: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    require(*_PACKAGES, extra="serve", needed_by="serve")
    from PIL import Image

    from fever_extract.serve import server
    from fever_extract.serve.app import create_app
    from fever_extract.serve.settings import Settings

    units = {"max_body": _MEGABYTE, "max_wait": 1e-3}
    limits = {
        field.name: getattr(chosen, field.name) * units.get(field.name, 1)
        for field in dataclasses.fields(Settings)
        if getattr(chosen, field.name, None) is not None
    }
    if "max_body" in limits:
        limits["max_body"] = round(limits["max_body"])
        limits["max_bodies"] = max(limits["max_body"], Settings.max_bodies)
    if not chosen.max_pixels > 0:
        raise ValueError(f"--max-pixels must be more than 0, not {chosen.max_pixels}")
    settings = Settings(**limits)
    taken = server.bind(chosen.host, chosen.port)
    # Whoever posts something odd is answered; the service's log is no place for it.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.MAX_IMAGE_PIXELS = round(chosen.max_pixels * 1e6)
    options = commands.face_options(chosen)
    extractor = commands.make_extractor(chosen, normalize=chosen.normalize, **options)
    app = create_app(extractor, settings)
    name = f"{extractor.config.name}, sha256 {extractor.sha256[:12]}"
    url = server.address(taken)
    server.run(
        app,
        taken,
        announce=lambda: say(f"listening on {url} ({name}); {url}/docs describes it"),
        access_log=chosen.access_log,
        head=min(_HEAD_SECONDS, settings.timeout),
    )
    say("ended; every request that had come was answered")
    return commands.DONE
