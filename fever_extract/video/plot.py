"""A course as a figure, by matplotlib; nothing of its global state is used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils import files
from fever_extract._utils.extras import require
from fever_extract.video.events import GAP
from fever_extract.video.signals import SIGNALS, columns_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fever_extract.video.aggregation import Steps
    from fever_extract.video.measured import Measured

EXTENSIONS = (".png", ".svg", ".pdf")
# By Okabe and Ito: told apart with any colour vision.
COLOURS = ("#999999", "#e69f00", "#56b4e9", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000")
"""One for each of the first eight signals, in hexadecimal."""

_LIKELY = 0.2  # that a step's mean reaches for an expression to be drawn
_MOST_FACES = 12
_FRAMES = 20_000  # more are drawn as means only


def check_output(output: str | os.PathLike[str]) -> Path:
    """Refuse a picture that can't be written, before any work is done."""
    path = files.check_output(output, EXTENSIONS, "plot")
    require("matplotlib", extra="course", needed_by="a plot")
    return path


def draw(course: Measured, signals: Iterable[str] | None = None) -> Figure:
    """See `Course.plot`: a panel a face, of the faces that are seen for longest."""
    require("matplotlib", extra="course", needed_by="a plot")
    from matplotlib.figure import Figure

    faces = sorted(sorted(course.faces, key=course.seconds, reverse=True)[:_MOST_FACES])
    names = _likely(course, faces) if signals is None else list(signals)
    figure = Figure(figsize=(9, 1.2 + 1.9 * max(len(faces), 1)), layout="constrained")
    panels = figure.subplots(max(len(faces), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axes, face in zip(panels, faces):
        _panel(axes, course, face, names)
    if not faces:
        reason = course.problems[0].error if course.problems else "no frame"
        panels[0].text(0.5, 0.5, str(reason), ha="center", va="center", wrap=True)
    left_out = len(course.faces) - len(faces)
    more = f" ({left_out} faces that are seen for less are left out)" if left_out else ""
    panels[0].set_title(f"{course.clip}{more}", loc="left", fontsize="medium")
    panels[-1].set_xlabel("time (s)")
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
    return figure


def save(figure: Figure, output: str | os.PathLike[str]) -> None:
    """Write a figure; the file is replaced when it is whole."""
    path = check_output(output)
    with files.replace_atomically(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=150)


def _likely(course: Measured, faces: Sequence[int]) -> list[str]:
    expressions = [name for name in course.names if name.startswith("p_")]
    if not faces:
        return []
    highest = np.max([course.steps[face].mean.max(axis=0) for face in faces], axis=0)
    names = [n for n in expressions if highest[course.names.index(n)] >= _LIKELY]
    if names:
        return names
    return expressions or [n for n in SIGNALS if set(SIGNALS[n]) <= set(course.names)]


def _panel(axes: Axes, course: Measured, face: int, names: Sequence[str]) -> None:
    steps = course.steps[face]
    frames = None if course.kept is None else course.kept[face]
    for position, name in enumerate(names):
        columns = columns_of(name, course.names)
        first = columns[0]
        is_expression = course.names[first].startswith("p_")
        colour = COLOURS[(first if is_expression else position) % len(COLOURS)]
        label = course.names[first][2:] if is_expression else name
        mean = steps.mean[:, columns].mean(axis=1)
        # Of several values together, the spread is known only from frames.
        sd = steps.sd[:, columns].mean(axis=1)
        if frames is not None and len(frames) <= _FRAMES:
            signal = frames.values[:, columns].mean(axis=1)
            for run in frames.runs(GAP):
                axes.plot(frames.times[run], signal[run], color=colour, linewidth=0.8, alpha=0.45)
        for run in _runs(steps):
            middle = (steps.index[run] + 0.5) * course.step
            axes.fill_between(
                middle, mean[run] - sd[run], mean[run] + sd[run], color=colour, alpha=0.15, lw=0
            )
            style: dict[str, Any] = {"color": colour, "linewidth": 1.8}
            marker = "o" if run.stop - run.start == 1 else None
            shown = label if run.start == 0 else None
            axes.plot(middle, mean[run], marker=marker, markersize=3, label=shown, **style)
    axes.set_ylabel(f"face {face}")
    if "neutral" not in course.about:
        axes.set_ylim(-0.02, 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)


def _runs(steps: Steps) -> list[slice]:
    """Steps one after the other: where the face was away, no line is drawn."""
    breaks = np.flatnonzero(np.diff(steps.index) > 1) + 1
    return [slice(a, b) for a, b in zip([0, *breaks], [*breaks, len(steps.index)])]
