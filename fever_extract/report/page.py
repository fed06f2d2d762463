"""A table of faces as one page to look at: map, counts, strangest faces, neighbours, course.

The page is one HTML file with all that it needs inside, plotly.js included. It asks no
network for anything, and its content security policy lets it ask none.
"""

from __future__ import annotations

import html
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils.files import replace_atomically
from fever_extract._utils.names import to_text
from fever_extract.report.projection import nearest, project
from fever_extract.report.thumbnails import ACROSS, PER_SHEET, Thumbnails, make
from fever_extract.tables.reading import Table, read_table

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_FACES = 20_000
"""Of a larger table the page shows a random sample of this many faces; it counts them all."""

_NEIGHBOURS = 10  # shown by a click; their mean distance says how strange a face is
_STRANGEST = 24  # faces shown
_CATEGORIES = 24  # colours told apart; the rarer texts are one more
_OTHER = "(other)"
_FAILURES = 1000  # listed on the page
# Columns that are no colours: shown elsewhere.
_NO_COLORS = ("path", "error", "status")


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        output: the page.
        faces: number of vectors in the table.
        shown: number of faces on the map.
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
    _check(output, photos)
    rows = read_table(table)
    vectors = rows.X
    faces = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    shown = faces
    if len(faces) > MAX_FACES:
        shown = np.sort(np.random.default_rng(0).choice(faces, MAX_FACES, replace=False))
    page = _page(rows, shown, vectors[shown])
    page["faces"] = len(faces)
    page["columns"] = columns = _colors(rows, shown, color)
    page["color"] = color or ("expression" if "expression" in columns else next(iter(columns), ""))
    pictures = _thumbnails(rows, shown, photos, show_progress)
    page["pictures"] = pictures and {
        "side": pictures.side,
        "slots": pictures.slots.tolist(),
        "sheets": pictures.sheets,
        "across": ACROSS,
        "per_sheet": PER_SHEET,
    }
    with replace_atomically(output) as temporary:
        # The metadata may quote names that are not UTF-8; in JSON such escapes are right.
        content = _html(to_text(table.name), page).encode("utf-8", "backslashreplace")
        temporary.write_bytes(content)
    found = int((pictures.slots >= 0).sum()) if pictures else 0
    return Report(output, faces=len(faces), shown=len(shown), pictures=found)


def _check(output: Path, photos: str | os.PathLike[str] | None) -> None:
    """Refuse what can't work before any work is done."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"output {output}: the name must end in .html")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"output {output}: the folder {output.parent} does not exist")
    if photos is not None and not Path(photos).is_dir():
        raise FileNotFoundError(f"{photos} is no folder; give the one that was extracted")
    for package in ("plotly", "sklearn"):
        if importlib.util.find_spec(package) is None:
            raise ImportError("a report needs more: pip install 'fever-extract[report]'")


def _page(
    rows: Table, shown: npt.NDArray[np.int64], vectors: npt.NDArray[np.float32]
) -> dict[str, Any]:
    """What the page's script is given; lists have an item per face that is shown."""
    points, method = project(vectors)
    neighbours, distances = nearest(vectors, _NEIGHBOURS)
    strangeness = distances.mean(axis=1) if distances.size else np.zeros(len(shown))
    paths, statuses = rows.texts("path"), rows.texts("status")
    probabilities = rows.numbers("expressions")
    times = _numbers(rows, "time")
    # A photograph or frame with several faces is still one of them.
    inputs = {(path, time): status for path, time, status in zip(paths, _jsonable(times), statuses)}
    failures = [row for row, status in enumerate(statuses) if status != "ok"]
    errors = rows.texts("error")
    return {
        "settings": _settings(rows.metadata),
        "method": method,
        "inputs": len(inputs),
        "statuses": Counter(inputs.values()).most_common(),
        "expression_counts": Counter(filter(None, rows.texts("expression"))).most_common(),
        "x": _jsonable(points[:, 0]),
        "y": _jsonable(points[:, 1]),
        "path": _take(paths, shown),
        "face_index": _jsonable(_numbers(rows, "face_index")[shown]),
        "expression": _take(rows.texts("expression"), shown),
        "probability": _jsonable(_numbers(rows, "probability")[shown]),
        "time": _jsonable(times[shown]),
        "track": _jsonable(_numbers(rows, "track")[shown]),
        "neighbours": neighbours.tolist(),
        "strangeness": _jsonable(strangeness),
        "strangest": np.argsort(-strangeness, kind="stable")[:_STRANGEST].tolist(),
        "expressions": list(map(str, rows.metadata.get("expressions", []))),
        "probabilities": None if probabilities is None else _jsonable(probabilities[shown].T),
        "failures": [[paths[row], statuses[row], errors[row]] for row in failures[:_FAILURES]],
        "failures_in_all": len(failures),
    }


def _colors(rows: Table, shown: npt.NDArray[np.int64], chosen: str | None) -> dict[str, Any]:
    """The columns that can colour the map: texts as numbers of categories, or plain numbers."""
    columns = {name: values for name, values in rows.columns.items() if np.ndim(values) == 1}
    folders = [os.path.dirname(path) or "." for path in rows.texts("path")]
    columns.setdefault("folder", folders)
    if chosen is not None and chosen not in columns:
        raise ValueError(f"no column {chosen} to colour by; there are {', '.join(sorted(columns))}")
    colors: dict[str, Any] = {}
    for name, values in columns.items():
        if name in _NO_COLORS and name != chosen:
            continue
        seen = np.asarray(values)[shown]
        whole = seen.dtype.kind in "iu" and len(np.unique(seen)) <= _CATEGORIES
        if seen.dtype.kind == "f" or (seen.dtype.kind in "iu" and not whole):
            column = {"numbers": _jsonable(seen.astype(np.float64))}
            different = len(np.unique(seen[np.isfinite(seen)]))
        else:
            texts = [str(value) or "(none)" for value in seen.tolist()]
            column, different = _categories(texts), len(set(texts))
        # One colour for all says nothing, unless it was asked for.
        if different > 1 or name in (chosen, "expression"):
            colors[name] = column
    return colors


def _categories(texts: Sequence[str]) -> dict[str, Any]:
    counts = Counter(texts)
    names = [name for name, _ in counts.most_common(_CATEGORIES)]
    if len(counts) > len(names):
        names.append(_OTHER)
    number = {name: index for index, name in enumerate(names)}
    return {"names": names, "codes": [number.get(text, len(names) - 1) for text in texts]}


def _thumbnails(
    rows: Table,
    shown: npt.NDArray[np.int64],
    photos: str | os.PathLike[str] | None,
    show_progress: bool | None,
) -> Thumbnails | None:
    boxes = rows.numbers("box")
    if photos is None or boxes is None:
        return None
    paths, times = _take(rows.texts("path"), shown), _numbers(rows, "time")[shown]
    return make(Path(photos), paths, times, boxes[shown], show_progress)


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


def _html(title: str, page: dict[str, Any]) -> str:
    from plotly.offline import get_plotlyjs

    assets = resources.files("fever_extract.report")
    data = json.dumps(page, separators=(",", ":"), ensure_ascii=False)
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (assets / "page.css").read_text(encoding="utf-8"),
        "PLOTLY": get_plotlyjs(),
        "SCRIPT": (assets / "page.js").read_text(encoding="utf-8"),
        # No name of a file can end the element or begin another.
        "DATA": data.replace("<", "\\u003c"),
    }
    pieces = (assets / "page.html").read_text(encoding="utf-8").split("@@")
    # Every second piece is the name of a part; what a part holds is not looked at again.
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def _numbers(rows: Table, name: str) -> npt.NDArray[np.float64]:
    """A column as floats; NaN where there is none."""
    values = rows.numbers(name)
    return np.full(len(rows), np.nan) if values is None else values.astype(np.float64)


def _jsonable(values: npt.NDArray[Any]) -> list[Any]:
    """Numbers as lists, with four decimals, and null for what is not finite."""
    if values.ndim > 1:
        return [_jsonable(row) for row in values]
    return [round(value, 4) if np.isfinite(value) else None for value in values.tolist()]


def _take(values: Sequence[str], rows: Iterable[int]) -> list[str]:
    return [values[row] for row in rows]
