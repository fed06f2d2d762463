"""Tables as csv, with the metadata in a file beside them: the writer, and the reader.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break, which spreadsheets would
take for a formula, has that character as ``\\xNN`` (``\\x3d`` for ``=``).
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from fever_extract.tables.schema import TEXTS, Column, Columns, spread

FORMULAS = tuple("=+-@\t\r\n")
"""What makes a spreadsheet take a text for a formula."""

_FORMULA = re.compile(rf"^\\x({'|'.join(f'{ord(sign):02x}' for sign in FORMULAS)})")


class CsvWriter:
    """Lines as they come, a column for each number."""

    def __init__(self, path: Path, metadata: str) -> None:
        self._metadata = json.loads(metadata)  # for the names; it goes to a file of its own
        self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._csv = csv.writer(self._file)
        self._header = True

    def write(self, columns: Columns) -> None:
        """Append rows."""
        flat = spread(columns.values, self._metadata)
        if self._header:
            self._csv.writerow(flat)
            self._header = False
        cells = [
            values.tolist() if isinstance(values, np.ndarray) else list(map(harmless, values))
            for values in flat.values()
        ]
        self._csv.writerows(zip(*cells))

    def finish(self) -> None:
        """All rows are there."""

    def close(self) -> None:
        """Let go of the file, whatever happened."""
        self._file.close()


def beside(path: Path) -> Path:
    """Where the metadata of a csv table is."""
    return path.with_name(path.name + ".json")


def read(path: Path) -> tuple[dict[str, Column], str]:
    """The columns, one a number, and the metadata, as JSON."""
    text = beside(path).read_text(encoding="utf-8") if beside(path).is_file() else ""
    with open(path, newline="", encoding="utf-8-sig") as file:  # Excel writes a mark in front
        header, *lines = list(csv.reader(file)) or [[]]
    if len(set(header)) < len(header):
        raise ValueError("two of its columns have one name")
    if any(len(line) != len(header) for line in lines):
        raise ValueError("its lines are not equally long")
    columns: dict[str, Column] = {}
    for index, name in enumerate(header):
        cells = [line[index] for line in lines]
        columns[name] = list(map(_unescaped, cells)) if name in TEXTS else _guess(cells)
    return columns, text


def harmless(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"\\x{ord(text[0]):02x}{text[1:]}" if text.startswith(FORMULAS) else text


def _unescaped(cell: str) -> str:
    """A cell as it was before `harmless`."""
    return _FORMULA.sub(lambda match: chr(int(match[1], 16)), cell)


def _guess(cells: list[str]) -> Any:
    """csv has no types: what reads as numbers throughout is numbers."""
    if cells and set(cells) <= {"True", "False"}:
        return np.array([cell == "True" for cell in cells])
    try:
        return np.array([float(cell) for cell in cells]) if cells else []
    except ValueError:
        return cells
