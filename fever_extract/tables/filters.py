"""Filter the rows of a table by its columns, with keywords or an SQL condition."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils.extras import require
from fever_extract.tables.parquet import ParquetColumns, to_arrow
from fever_extract.tables.schema import EMBEDDING, Column, Columns, flat_names, spread

if TYPE_CHECKING:
    import numpy.typing as npt

_ANGLES = ("yaw", "pitch", "roll")


def where(
    columns: Mapping[str, Column],
    metadata: Mapping[str, Any],
    conditions: Mapping[str, Any],
    count: int,
) -> npt.NDArray[np.int64]:
    """See `fever_extract.tables.reading.Table.where`; returns the rows."""
    keep = np.ones(count, bool)
    for name, value in conditions.items():
        bound, _, rest = name.partition("_")
        if bound not in ("min", "max") or name in columns:
            values = np.asarray(_column(columns, metadata, name))
            if values.ndim != 1:
                raise ValueError(f"{name} holds several numbers a row and can't be compared")
            many = isinstance(value, Collection) and not isinstance(value, str)
            keep &= np.isin(values, [_plain(one) for one in (value if many else [value])])
            continue
        numbers = _column(columns, metadata, rest)
        if not isinstance(numbers, np.ndarray) or numbers.ndim != 1:
            raise ValueError(f"{name}: column {rest} has no numbers to compare")
        numbers = np.abs(numbers) if rest in _ANGLES else numbers
        keep &= numbers >= value if bound == "min" else numbers <= value
    return np.flatnonzero(keep)


def like(
    columns: Mapping[str, Column], metadata: Mapping[str, Any], condition: str
) -> npt.NDArray[np.int64]:
    """See `fever_extract.tables.reading.Table.like`; returns the rows.

    DuckDB reads Parquet itself, and of it the columns that the condition names.
    """
    require("duckdb", extra="search", needed_by="a condition in SQL")
    import duckdb

    files = columns if isinstance(columns, ParquetColumns) else None
    if files is not None and not all(map(_is_plain, files.files)):
        files = None
    fields = _fields_in_memory(columns, metadata) if files is None else _fields_of_files(files)
    named = _named(fields, metadata)
    place = "_row" if files is None else "filename, file_row_number"
    try:
        with duckdb.connect() as connection:
            connection.execute("SET enable_progress_bar = false")
            if len(connection.extract_statements(f"SELECT 1 WHERE ({condition}\n)")) != 1:
                raise ValueError(f"condition {condition!r}: give one, without a semicolon")
            source = "faces"
            if files is not None:
                listed = ", ".join(_text(str(file)) for file in files.files)
                source = f"read_parquet([{listed}], filename = true, file_row_number = true)"
            else:
                table = to_arrow(Columns(spread(columns, metadata)))
                rows = np.arange(len(table))
                connection.register("faces", table.append_column("_row", [rows]))
            view = ", ".join(f"{sql} AS {_name(name)}" for name, sql in named.items())
            query = f"SELECT {place} FROM (SELECT {view}, {place} FROM {source})"
            found = connection.execute(f"{query} WHERE ({condition}\n)").fetchnumpy()
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"condition {condition!r}: {reason}; columns are {', '.join(named)}"
        ) from None
    if files is None:
        return np.sort(np.asarray(found["_row"], np.int64))
    start_of = dict(zip(map(str, files.files), files.starts))
    starts = np.array([start_of[file] for file in found["filename"]], np.int64)
    rows = np.sort(starts + np.asarray(found["file_row_number"], np.int64))
    return rows if files.rows is None else np.flatnonzero(np.isin(files.rows, rows))


def _is_plain(file: Path) -> bool:
    """Whether DuckDB can be told a file's name: as UTF-8, and not as a pattern."""
    name = str(file)
    return name.isprintable() and not set("*?[") & set(name)


def _fields_of_files(columns: ParquetColumns) -> dict[str, tuple[int, bool]]:
    """The numbers of a row in each column (0 if it is no list), and whether they may be NaN."""
    from pyarrow import types

    fields = {}
    for name in columns:
        kind = columns.schema.field(name).type
        width = kind.list_size if types.is_fixed_size_list(kind) else 0
        fields[name] = (width, types.is_floating(kind.value_type if width else kind))
    return fields


def _fields_in_memory(
    columns: Mapping[str, Column], metadata: Mapping[str, Any]
) -> dict[str, tuple[int, bool]]:
    flat = spread(columns, metadata)
    return {name: (0, np.asarray(values).dtype.kind == "f") for name, values in flat.items()}


def _named(fields: Mapping[str, tuple[int, bool]], metadata: Mapping[str, Any]) -> dict[str, str]:
    """What a condition may name, and what it is in SQL; NaN is null, which meets nothing."""
    named = {}
    for name, (width, floating) in fields.items():
        items = {name: _name(name)}
        if width:
            names = flat_names(name, width, metadata)
            items = {item: f"{_name(name)}[{index}]" for index, item in enumerate(names, 1)}
        for item, sql in items.items():
            named[item] = f"nullif({sql}, 'nan'::FLOAT)" if floating else sql
    taken = {name.lower() for name in named}  # as SQL compares them
    for label in metadata.get("expressions") or []:
        if f"p_{label}" in named and label.lower() not in taken:
            named[label] = named[f"p_{label}"]
    return named


def _column(columns: Mapping[str, Column], metadata: Mapping[str, Any], name: str) -> Column:
    if name in columns:
        return columns[name]
    group = {"p": "expressions", "bs": "blendshapes"}.get(name.partition("_")[0])
    values = columns.get(group) if group else None
    if group and isinstance(values, np.ndarray):
        names = flat_names(group, values.shape[1], metadata)
        if name in names:
            return values[:, names.index(name)]
    hint = "; extract again for the columns of this version" if name != EMBEDDING else ""
    raise ValueError(f"the table has no column {name}; there are {', '.join(columns)}{hint}")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
