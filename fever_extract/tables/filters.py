"""Rows chosen by what their columns say: by keywords, or by a condition in SQL."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    # It takes no names that are not UTF-8, though.
    scanned = columns if isinstance(columns, ParquetColumns) and columns.has_utf8_names else None
    require("duckdb", extra="search", needed_by="a condition in SQL")
    import duckdb

    connection = duckdb.connect()
    connection.execute("SET enable_progress_bar = false")
    try:
        parsed = connection.extract_statements(f"SELECT 1 WHERE ({condition}\n)")
        if len(parsed) != 1:
            raise ValueError(f"{condition!r} is more than one condition")
        names: list[str] = []
        if scanned is not None:
            scans = []
            for start, file in zip(scanned.starts, scanned.files):
                source = f"read_parquet({_text(str(file))}, file_row_number = true)"
                scans.append(f"SELECT *, file_row_number + {start} AS _row FROM {source}")
            source = "(" + " UNION ALL ".join(scans) + ")"
            fields = ((name, scanned.schema.field(name).type) for name in scanned)
            widths = {name: getattr(kind, "list_size", 0) for name, kind in fields}
        else:
            flat = spread(columns, metadata)
            table = to_arrow(Columns(flat))
            table = table.append_column("_row", [np.arange(len(table))])
            connection.register("faces", table)
            source, widths = "faces", dict.fromkeys(flat, 0)
        items = []
        for name, width in widths.items():
            if not width:
                items.append(_name(name))
                names.append(name)
                continue
            for index, item in enumerate(flat_names(name, width, metadata)):
                items.append(f"{_name(name)}[{index + 1}] AS {_name(item)}")
                names.append(item)
        taken = {name.lower() for name in names}
        for label in metadata.get("expressions") or []:
            if f"p_{label}" in names and label.lower() not in taken:
                items.append(_plain_name(f"p_{label}", widths, metadata) + f" AS {_name(label)}")
        view = f"SELECT {', '.join(items)}, _row FROM {source}"
        query = f"SELECT _row FROM ({view}) WHERE ({condition}\n) ORDER BY _row"
        rows = connection.execute(query).fetchnumpy()["_row"]
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"condition {condition!r}: {reason}; columns are {', '.join(names) or 'not known'}"
        ) from None
    finally:
        connection.close()
    found = np.asarray(rows, np.int64)
    if scanned is None or scanned.rows is None:
        return found
    return np.flatnonzero(np.isin(scanned.rows, found))


def _plain_name(name: str, widths: Mapping[str, int], metadata: Mapping[str, Any]) -> str:
    """An expression's probability as SQL finds it."""
    width = widths.get("expressions", 0)
    if not width:
        return _name(name)
    index = flat_names("expressions", width, metadata).index(name)
    return f"expressions[{index + 1}]"


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
