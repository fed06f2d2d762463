"""Write the report: map, confusion table, counts, outliers and time course as one HTML page.

The page is one HTML file with all that it needs inside. It asks no network for anything, and its
content security policy lets it ask none.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils.extras import require
from fever_extract._utils.files import check_output, replace_atomically
from fever_extract._utils.names import to_text
from fever_extract.models.config import FOLDER_NAMES
from fever_extract.report.projection import near_duplicates, nearest, project
from fever_extract.report.thumbnails import ACROSS, PER_SHEET, make
from fever_extract.tables.reading import Table, read_table

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_ROWS = 100_000
"""Of a larger table the page has a random sample of this many rows."""
MAX_PICTURES = 20_000
"""Faces with a thumbnail: the strangest, and others at random."""

_NEIGHBOURS = 10  # shown by a click; their mean distance says how strange a face is
_STRANGEST = 200  # that have a picture for certain
_CATEGORIES = 24  # colours told apart; the rarer texts are one more
_OTHER = "(other)"
# Columns that are no colours: shown elsewhere.
_NO_COLORS = ("path", "error", "status", "file_size", "mtime_ns")  # the last two are of shards
_SCRIPTS = ("page.js", "view.js", "map.js", "confusion.js", "course.js", "main.js")


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        output: the page.
        faces: number of faces in the table.
        shown: number of faces on the page.
        pictures: number of those with a thumbnail.
    """

    output: Path
    faces: int
    shown: int
    pictures: int


def write_report(
    table: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    photos: str | os.PathLike[str] | None = None,
    color: str | None = None,
    show_progress: bool | None = None,
) -> Report:
    """Write a table of faces as one HTML page that works without a network.

    Args:
        table: what `fever_extract.Extractor.extract_folder` wrote.
        output: an ``.html`` file; replaced when it is whole.
        photos: the folder that the table was made from, for thumbnails; without it the page
            has none.
        color: the column that colours the map at first; by default ``expression``. Any other
            can be chosen on the page, columns that you added to the table included.
        show_progress: a progress bar; None shows it on a terminal.

    Raises:
        OSError: if the table or the folder does not exist, or the page can't be written.
        ValueError: if the table can't be read, or has no such column.
        ImportError: if the extra ``report`` is not installed.
    """
    table, output = Path(table), Path(output)
    check(output, photos)
    require("sklearn", extra="report", needed_by="a report")
    whole = rows = read_table(table)
    if len(whole) > MAX_ROWS:
        sample = np.random.default_rng(0).choice(len(whole), MAX_ROWS, replace=False)
        rows = whole.take(np.sort(sample))
    face = np.array([status == "ok" for status in rows.texts("status")], bool)
    if rows.embeddings is not None:
        face &= np.isfinite(rows.X).all(axis=1)
    page = _page(rows, face) | _embedded(rows, face)
    page["of"] = len(whole)
    page["columns"] = columns = _colors(rows, face, color)
    page["color"] = color or ("expression" if "expression" in columns else next(iter(columns), ""))
    slots = np.full(len(rows), -1, np.int32)
    if photos is not None and (boxes := rows.numbers("box")) is not None:
        chosen = _with_picture(face, page["strangeness"])
        paths, times = rows.texts("path"), _numbers(rows, "time")[chosen]
        there = [paths[row] for row in chosen]
        pictures = make(Path(photos), there, times, boxes[chosen], show_progress)
        slots[chosen] = pictures.slots
        page["pictures"] = {
            "side": pictures.side,
            "slots": slots,
            "sheets": pictures.sheets,
            "across": ACROSS,
            "per_sheet": PER_SHEET,
            "left_out": len(chosen) < int(face.sum()),
        }
    data = json.dumps(page, default=_packed, separators=(",", ":"), ensure_ascii=False)
    write_page(
        output,
        "page.html",
        TITLE=html.escape(to_text(table.name)),
        STYLE=asset("page.css"),
        SCRIPT="".join(map(asset, _SCRIPTS)),
        # No name of a file can end the element or begin another.
        DATA=data.replace("<", "\\u003c"),
    )
    faces = face.sum() if rows is whole else whole.texts("status").count("ok")
    return Report(output, int(faces), shown=int(face.sum()), pictures=int((slots >= 0).sum()))


def check(output: Path, photos: str | os.PathLike[str] | None) -> None:
    """Refuse what can't work before any work is done.

    Raises:
        ValueError, OSError: saying what.
    """
    check_output(output, (".html", ".htm"))
    if photos is not None and not Path(photos).is_dir():
        raise FileNotFoundError(f"{photos} is no folder; give the one that was extracted")


def asset(name: str) -> str:
    """Read a file that lies beside this module."""
    return (resources.files("fever_extract.report") / name).read_text(encoding="utf-8")


def write_page(output: Path, template: str, **parts: str) -> None:
    """Fill in a template, where each part's name stands between ``@@``, and write it whole."""
    pieces = asset(template).split("@@")
    # Every second piece is the name of a part; what a part holds is not looked at again.
    text = "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))
    with replace_atomically(output) as temporary:
        # It may quote names that are not UTF-8; in JSON such escapes are right.
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def _page(rows: Table, face: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Collect the data of the page's script; arrays have an item per row."""
    paths, statuses, times = rows.texts("path"), rows.texts("status"), _numbers(rows, "time")
    classes = list(map(str, rows.metadata.get("expressions", [])))
    expressions = _coded(rows.texts("expression"), classes)
    probabilities = rows.numbers("expressions")
    if probabilities is not None and (
        probabilities.shape[1] != len(classes) or not np.isfinite(times).any()
    ):
        probabilities = None  # without names, or without a course that shows them
    # A photograph or frame with several faces is still one of them.
    inputs = list(zip(paths, np.nan_to_num(times, nan=-1).tolist()))
    number = {key: index for index, key in enumerate(dict.fromkeys(inputs))}
    named = zip(statuses, rows.texts("error"))
    return {
        "settings": _settings(rows.metadata),
        "path": _coded(paths),
        "folder": _coded([os.path.dirname(path) or "." for path in paths]),
        "status": _coded(statuses),
        "errors": {row: error for row, (status, error) in enumerate(named) if status != "ok"},
        "expression": expressions,
        "input": np.array([number[key] for key in inputs], np.int32),
        "face": face.astype(np.int32),
        "face_index": np.nan_to_num(_numbers(rows, "face_index"), nan=-1).astype(np.int32),
        "probability": _numbers(rows, "probability").astype(np.float32),
        "time": times,
        "track": np.nan_to_num(_numbers(rows, "track"), nan=-1).astype(np.int32),
        "expressions": classes
        if probabilities is not None
        else [name for name in expressions["names"] if name],
        "probabilities": probabilities,
    }


def _embedded(rows: Table, face: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Collect what follows from the embeddings: places on the map, neighbours, strangeness."""
    count, faces = len(rows), np.flatnonzero(face)
    points = np.full((count, 2), np.nan, np.float32)
    strangeness = np.full(count, np.nan, np.float32)
    near = np.full((count, 0), -1, np.int32)
    group = np.arange(count, dtype=np.int32)
    method = ""
    if rows.embeddings is not None and len(faces):
        points[faces], method = project(rows.X[faces])
        neighbours, distances = nearest(rows.X[faces], _NEIGHBOURS)
        near = np.full((count, neighbours.shape[1]), -1, np.int32)
        near[faces] = faces[neighbours]
        strangeness[faces] = distances.mean(axis=1) if distances.size else 0
        group[faces] = near_duplicates(neighbours, distances)
    return {
        "method": method,
        "x": points[:, 0],
        "y": points[:, 1],
        "near": near.shape[1],
        "neighbours": near.ravel(),
        "strangeness": strangeness,
        "group": group,
    }


def _colors(rows: Table, face: npt.NDArray[np.bool_], chosen: str | None) -> dict[str, Any]:
    """Collect the columns that can colour the map: categories or numbers."""
    columns = {name: values for name, values in rows.columns.items() if np.ndim(values) == 1}
    columns.setdefault("folder", [os.path.dirname(path) or "." for path in rows.texts("path")])
    if chosen is not None and chosen not in columns:
        raise ValueError(f"no column {chosen} to colour by; there are {', '.join(sorted(columns))}")
    colors: dict[str, Any] = {}
    for name, column in columns.items():
        if name in _NO_COLORS and name != chosen:
            continue
        values = np.asarray(column)
        seen = values[face]
        whole = seen.dtype.kind in "iu" and len(np.unique(seen)) <= _CATEGORIES
        # One colour for all says nothing, unless it was asked for.
        if name not in (chosen, "expression") and len(np.unique(seen)) < 2:
            continue
        if values.dtype.kind in "fiu" and not whole:
            colors[name] = {"numbers": values.astype(np.float32)}
        else:
            texts = [str(value) or "(none)" for value in values.tolist()]
            frequent = Counter(np.array(texts)[face].tolist()).most_common(_CATEGORIES)
            names = [text for text, _ in frequent]
            known = set(names)
            colors[name] = _coded([text if text in known else _OTHER for text in texts], names)
    return colors


def _coded(texts: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
    """Texts as numbers of their names, and the expressions that these name, if any."""
    number = {name: index for index, name in enumerate(names)}
    codes = [number.setdefault(text, len(number)) for text in texts]
    return {
        "names": list(number),
        "classes": list(map(_expression, number)),
        "codes": np.array(codes, np.int32),
    }


def _expression(folder: str) -> str | None:
    """Which expression a class folder is of: ``train/03_Happy`` of happiness."""
    for part in reversed(folder.lower().split("/")):
        if name := FOLDER_NAMES.get(re.sub(r"[\W\d_]+", "", part)):
            return name
    return None


def _with_picture(
    face: npt.NDArray[np.bool_], strangeness: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    faces = np.flatnonzero(face)
    if len(faces) <= MAX_PICTURES:
        return faces
    order = faces[np.argsort(-strangeness[faces], kind="stable")]
    some = np.random.default_rng(0).permutation(order[_STRANGEST:])
    return np.sort(np.concatenate([order[:_STRANGEST], some])[:MAX_PICTURES])


def _settings(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What made the table, in words."""
    if "weights" not in metadata:
        return [("made by", "not recorded")]
    settings = [
        ("made by", f"fever-extract {metadata.get('version', '')}"),
        ("weights", f"{metadata.get('weights', '')} ({metadata.get('weights_source', '')})"),
        ("SHA-256 of the weights", str(metadata.get("weights_sha256", ""))),
    ]
    options = metadata.get("options") or {}
    return settings + [(str(name), str(value)) for name, value in options.items()]


def _packed(values: Any) -> dict[str, str]:
    """Numbers as JSON: their bytes, from the lowest up, in base64."""
    if not isinstance(values, np.ndarray):
        raise TypeError(f"no JSON for {type(values)}")
    little = values.astype(values.dtype.newbyteorder("<"))
    return {
        "type": values.dtype.str[1:],
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def _numbers(rows: Table, name: str) -> npt.NDArray[np.float64]:
    """Read a column as floats; NaN where there is none."""
    values = rows.numbers(name)
    return np.full(len(rows), np.nan) if values is None else values.astype(np.float64)
