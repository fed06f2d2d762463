"""Write the result of a similarity search as one HTML page: each face and its matches."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.names import to_text
from fever_extract.records import Face
from fever_extract.report import page
from fever_extract.report.thumbnails import ACROSS, PER_SHEET, Thumbnails, make
from fever_extract.tables.reading import Table

if TYPE_CHECKING:
    import numpy.typing as npt

Section = tuple[str, "Face | None", "list[Match]"]
"""A photograph that was asked for (or a title, without a face), and the faces like it."""


@dataclass(frozen=True, eq=False)
class Match:
    """A face of the table.

    Attributes:
        path, time, box: as in the table.
        distance: to the one that was asked for; NaN if none was.
        name: path, face and time in words.
        expression: the most probable one, and how probable it is.
    """

    path: str
    time: float
    box: npt.NDArray[np.float32]
    distance: float
    name: str
    expression: str


def matches(
    table: Table, rows: npt.NDArray[np.int64], distances: npt.NDArray[np.floating]
) -> list[Match]:
    """Rows of a table with their distances."""
    chosen = table.take(np.sort(rows))
    place = {row: index for index, row in enumerate(np.sort(rows).tolist())}
    paths, expressions = chosen.texts("path"), chosen.texts("expression")
    nothing = np.full(len(chosen), np.nan)
    columns = {}
    for name in ("time", "face_index", "probability"):
        values = chosen.numbers(name)
        columns[name] = nothing if values is None else values
    boxes = chosen.numbers("box")
    found = []
    for row, distance in zip(rows.tolist(), distances.tolist()):
        i = place[row]
        time, face = float(columns["time"][i]), columns["face_index"][i]
        name = paths[i] + (f", face {int(face)}" if face > 0 else "")
        name += "" if math.isnan(time) else f", at {time:.2f} s"
        box = np.full(4, np.nan, np.float32) if boxes is None else boxes[i]
        expression = f"{expressions[i]} {columns['probability'][i]:.0%}" if expressions[i] else ""
        found.append(Match(paths[i], time, box, distance, name, expression))
    return found


def write_page(output: Path, sections: Sequence[Section], photos: Path) -> int:
    """Write the page; returns how many of the table's faces have a picture.

    Args:
        output: an ``.html`` file; replaced when it is whole.
        sections: what to show.
        photos: the folder that the table's paths are relative to.
    """
    asked = [(Path(title).absolute(), face) for title, face, _ in sections if face is not None]
    found = [match for _, _, some in sections for match in some]
    paths = [to_text(str(path)) for path, _ in asked] + [match.path for match in found]
    times = np.array([math.nan] * len(asked) + [match.time for match in found])
    boxes = np.array([face.box for _, face in asked] + [match.box for match in found])
    there = np.isfinite(boxes).all(axis=1)
    chosen = np.flatnonzero(there).tolist()
    pictures = make(photos, [paths[i] for i in chosen], times[there], boxes[there], None)
    slots = np.full(len(paths), -1)
    slots[there] = pictures.slots
    parts, shown, match_number = [], 0, len(asked)
    for title, face, some in sections:
        parts.append(f'<h2>{html.escape(title)}</h2><ul class="faces">')
        if face is not None:
            parts.append(_item(pictures, int(slots[shown]), "asked for", ""))
            shown += 1
        for match in some:
            distance = "" if math.isnan(match.distance) else f"{match.distance:.4f}"
            about = " · ".join(filter(None, (distance, match.expression)))
            parts.append(_item(pictures, int(slots[match_number]), match.name, about))
            match_number += 1
        parts.append("</ul>")
    sheets = "".join(
        f".s{n}{{background-image:url({sheet})}}" for n, sheet in enumerate(pictures.sheets)
    )
    sides = f".picture{{width:{pictures.side}px;height:{pictures.side}px}}"
    page.write_page(
        output, "similar.html", STYLE=page.asset("page.css") + sides + sheets, BODY="".join(parts)
    )
    return int((slots[len(asked) :] >= 0).sum())


def _item(pictures: Thumbnails, slot: int, name: str, about: str) -> str:
    picture = '<i class="picture"></i>'
    if slot >= 0:
        sheet, place = divmod(slot, PER_SHEET)
        row, column = divmod(place, ACROSS)
        x, y = -column * pictures.side, -row * pictures.side
        picture = f'<i class="picture s{sheet}" style="background-position:{x}px {y}px"></i>'
    return (
        f'<li class="face">{picture}<b>{html.escape(name)}</b>'
        f"<span>{html.escape(about)}</span></li>"
    )
