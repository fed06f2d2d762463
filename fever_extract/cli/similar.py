"""``fever-extract similar``: find the faces in a table that are most like those in photographs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.terminal import complain, say
from fever_extract.cli import commands
from fever_extract.options import DTYPES

if TYPE_CHECKING:
    from fever_extract.report.similar import Section
    from fever_extract.tables.reading import Table


def similar(chosen: argparse.Namespace) -> int:
    """Search, print, and write a page where one was asked for."""
    from fever_extract.report import similar as page
    from fever_extract.tables.reading import read_table

    *photos, path = chosen.inputs
    _check(chosen, photos)
    table = read_table(path)
    if chosen.like is not None:
        table = table.like(chosen.like)
        if not len(table):
            complain(f"no row of {path} meets {chosen.like!r}")
            return commands.NOTHING_READ
    sections: list[Section] = []
    if photos:
        sections += _search(chosen, table, photos)
        if not sections:
            return commands.NOTHING_READ
    else:
        first = np.arange(min(chosen.number, len(table)))
        title = f"{len(table)} rows meet {chosen.like}"
        sections.append((title, None, page.matches(table, first, np.full(len(first), np.nan))))
    _print(sections, titles=len(sections) > 1 or not photos)
    if chosen.output is not None:
        pictures = page.write_page(Path(chosen.output), sections, Path(chosen.photos))
        say(f"{chosen.output}: {pictures} pictures")
        if not pictures:
            complain(
                f"no photograph of {path} was found in {chosen.photos}; give --photos, the folder "
                "that its paths are relative to"
            )
    return commands.DONE


def _print(sections: Sequence[Section], titles: bool) -> None:
    for title, _, matches in sections:
        if titles:
            say(f"{title}:", required=True)
        for match in matches:
            distance = "" if math.isnan(match.distance) else f"{match.distance:.4f} "
            say(f"{distance}{match.name}", required=True)


def _check(chosen: argparse.Namespace, photos: list[str]) -> None:
    """Refuse what can't work before any work is done."""
    from fever_extract.report.page import check

    if not photos and chosen.like is None:
        raise ValueError("similar takes photographs and a table, or a table and --like")
    if chosen.number < 1:
        raise ValueError(f"--number must be at least 1, not {chosen.number}")
    if chosen.output is not None:
        check(Path(chosen.output), Path(chosen.photos))


def _search(chosen: argparse.Namespace, table: Table, photos: list[str]) -> list[Section]:
    from fever_extract.report import similar as page

    extractor = commands.make_extractor(chosen)
    ours = {"weights": extractor.config.name, "weights_sha256": extractor.sha256}
    table.check_weights(ours, "the photographs (--weights)")
    # Embed as the table was embedded, or the two can't be compared.
    made = table.metadata.get("options") or {}
    options = {**commands.face_options(chosen), "normalize": made.get("normalize") is True}
    if made.get("dtype") in DTYPES:
        options["dtype"] = made["dtype"]
    records = extractor.extract_records(photos, **options)
    sections: list[Section] = []
    for photo, record in zip(photos, records):
        if record.face is None:
            complain(f"{photo}: {record.error}")
            continue
        near = table.nearest(
            record.face.embedding, chosen.number, metric=chosen.metric, leave_out_same=True
        )
        if not len(near.rows):
            complain(f"{photo}: the table has no embedding, or only equal ones")
            continue
        sections.append((photo, record.face, page.matches(table, near.rows, near.distances)))
    return sections
