"""``fever-extract course``: how the faces of clips change over time."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract._utils.extras import require
from fever_extract._utils.terminal import complain, say
from fever_extract.cli import commands
from fever_extract.options import PRIORS

if TYPE_CHECKING:
    from fever_extract.video.course import Course

_EVENTS = ("smile", "blink")
_MOST_PAIRS = 6  # whose synchrony is printed
_FILTERS = ("savgol", "one_euro")


def add(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    weights: argparse.ArgumentParser,
) -> None:
    """Add the command."""
    command = subparsers.add_parser(
        "course", parents=[weights], help="how the faces of clips change over time"
    )
    command.add_argument(
        "clips",
        nargs="+",
        metavar="CLIP",
        help="clips, or tables of clips that extract wrote with --all-faces",
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="TABLE",
        help="a .csv or .parquet file: a row per face, step, value",
    )
    command.add_argument(
        "--events", metavar="TABLE", help="a .csv or .parquet file of smiles, blinks, expressions"
    )
    command.add_argument("--plot", metavar="FIGURE", help="a .png, .svg or .pdf file (of one clip)")
    command.add_argument(
        "--annotate",
        metavar="CLIP",
        help="an .mp4, .mov or .mkv file: the clip with faces and their course drawn (of one clip)",
    )
    command.add_argument(
        "--step", type=float, default=1.0, metavar="SECONDS", help="to average over (default: 1)"
    )
    command.add_argument(
        "--signals", nargs="+", metavar="NAME", help="to plot, such as happiness smile jawOpen"
    )
    command.add_argument("--smooth", choices=_FILTERS, help="smooth each face's values first")
    command.add_argument(
        "--neutral",
        metavar="median|START-END",
        help="subtract each face's neutral: its median, or that of a stretch, in seconds",
    )
    command.add_argument(
        "--synchrony", metavar="NAME", help="print how a signal of each two faces goes together"
    )
    part = command.add_argument_group("part of a clip")
    commands.add_clip_options(part)
    commands.add_detect_every(part)
    part.add_argument("--prior", choices=PRIORS[1:], help="as in extract")
    commands.add_face_options(command)
    command.set_defaults(run=course)


def course(chosen: argparse.Namespace) -> int:
    """Run ``course``: print what happens in each clip, and write what was asked for."""
    neutral = _neutral(chosen.neutral)
    _check(chosen)
    from fever_extract.video import saving

    read = False
    with ExitStack() as stack:
        write = write_events = None
        if chosen.output is not None:
            write = stack.enter_context(saving.open_courses(chosen.output))
        if chosen.events is not None:
            write_events = stack.enter_context(saving.open_events(chosen.events))
        for raw in _courses(chosen):
            one = raw.smooth(chosen.smooth) if chosen.smooth else raw
            for problem in one.problems:
                complain(f"{one.clip}: {problem.error}")
            read = read or one.frames > 0
            relative = one if neutral is None else one.minus_neutral(neutral)
            _print(one, chosen.synchrony)
            if write is not None:
                write(relative)
            if write_events is not None:
                write_events(one.clip, _events(one))
            if chosen.plot is not None:
                relative.plot(chosen.plot, signals=chosen.signals)
    return commands.DONE if read else commands.NOTHING_READ


def _check(chosen: argparse.Namespace) -> None:
    """Refuse what can't work before any work is done."""
    require("scipy", extra="course", needed_by="course")
    require("av", extra="video", needed_by="course")
    from fever_extract.video import plot, saving, writing

    tables = [name for name in chosen.clips if _is_table(name)]
    for output in (chosen.output, chosen.events):
        if output is not None:
            saving.check_output(output)
    if chosen.plot is not None:
        plot.check_output(chosen.plot)
    if chosen.signals and chosen.plot is None:
        raise ValueError("--signals is for --plot")
    for option in ("plot", "annotate"):
        if getattr(chosen, option) is not None and len(chosen.clips) > 1:
            raise ValueError(f"--{option} is for one clip; there are {len(chosen.clips)}")
    if chosen.annotate is not None:
        writing.check_output(chosen.annotate, chosen.clips[0])
    given = [n for n in ("annotate", "fps", "start", "end") if getattr(chosen, n) is not None]
    given += ["detect-every"] if chosen.detect_every > 1 else []
    if tables and given:
        raise ValueError(f"--{given[0]} is for clips, and {tables[0]} is a table")
    outputs = [chosen.output, chosen.events, chosen.plot, chosen.annotate]
    paths = [str(Path(output).resolve()) for output in outputs if output is not None]
    if len(set(paths)) < len(paths):
        raise ValueError("two outputs have one name; give each its own")


def _is_table(name: str) -> bool:
    from fever_extract.tables.schema import EXTENSIONS

    return Path(name).is_dir() or Path(name).suffix.lower() in EXTENSIONS


def _courses(chosen: argparse.Namespace) -> Iterator[Course]:
    from fever_extract.tables.reading import read_table
    from fever_extract.video.course import clips_of, courses_of

    extractor = None
    options: dict[str, Any] = commands.face_options(chosen)
    if chosen.prior is not None:
        options["prior"] = chosen.prior
    for name in chosen.clips:
        if _is_table(name):
            table = read_table(name)
            if chosen.plot is not None and len(clips_of(table)) > 1:
                raise ValueError(f"--plot is for one clip, and {name} has {len(clips_of(table))}")
            yield from courses_of(table, chosen.step)
            continue
        extractor = extractor or commands.make_extractor(chosen)
        yield extractor.extract_course(
            name,
            step=chosen.step,
            fps=chosen.fps,
            start=chosen.start,
            end=chosen.end,
            detect_every=chosen.detect_every,
            annotate=chosen.annotate,
            **options,
        )


def _print(one: Course, synchrony: str | None) -> None:
    say(f"{one.clip}: {one.frames} frames, {len(one.faces)} faces")
    rates = {name: one.per_minute(name) for name in _possible(one, _EVENTS)}
    for face in one.faces:
        counts = "".join(f", {rate[face]:.1f} {name}s a minute" for name, rate in rates.items())
        likely = ", ".join(_shares(one, face))
        say(f"  face {face}: seen for {one.seconds(face):.1f} s{counts}; {likely}")
    for first, second in list(combinations(one.faces, 2))[:_MOST_PAIRS] if synchrony else ():
        try:
            say(f"  {one.synchrony(first, second, str(synchrony))!r}")
        except ValueError as error:
            say(f"  {error}")


def _shares(one: Course, face: int) -> list[str]:
    """The expressions that are likely for a tenth of the time or more, in words."""
    steps = one.steps[face]
    means = (steps.mean * steps.seconds[:, None]).sum(axis=0) / steps.seconds.sum()
    likely = sorted(zip(means.tolist(), one.names), reverse=True)
    return [f"{name[2:]} {mean:.0%}" for mean, name in likely if name[:2] == "p_" and mean >= 0.1]


def _possible(one: Course, names: Iterable[str]) -> list[str]:
    """Those signals that the weights give."""
    from fever_extract.video.signals import SIGNALS

    return [name for name in names if set(SIGNALS[name]) <= set(one.names)]


def _events(one: Course) -> list[Any]:
    expressions = [name[2:] for name in one.names if name.startswith("p_")]
    names = [*_possible(one, _EVENTS), *expressions]
    return sorted(
        (event for name in names for event in one.events(name)),
        key=lambda event: (event.onset, event.face),
    )


def _neutral(text: str | None) -> str | tuple[float, float] | None:
    if text is None or text == "median":
        return text
    try:
        start, end = map(float, text.split("-"))
    except ValueError:
        start = end = 0.0
    if not start < end:
        raise ValueError(f"--neutral must be median or START-END in seconds, as 0-2; not {text!r}")
    return start, end
