"""Turn a job's plan into tasks, and write the results as shards, in order, with ids joined."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.jobs import _plan as plan
from fever_extract.jobs._listing import Listing
from fever_extract.jobs._progress import Progress
from fever_extract.jobs._tracks import Tracks, link
from fever_extract.jobs.worker import LINKS, Task
from fever_extract.tables import shards

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa


@dataclass
class _Open:
    """A shard in progress: the tables so far, and the number of inputs to come."""

    number: int
    missing: int
    tables: list[pa.Table] = field(default_factory=list)
    saved: int = 0
    tracks: dict[int, Tracks] = field(default_factory=dict)  # of the stretches that are done


class ShardWriter:
    """Split the plan into tasks; write their results as shards, in order."""

    def __init__(
        self,
        planned: plan.Plan,
        listing: Listing,
        output: Path,
        made_by: dict[str, object],
        progress: Progress,
    ) -> None:
        self._plan, self._listing, self._output = planned, listing, output
        self._made_by, self._progress = made_by, progress
        self._starts = np.array([group.start for group in planned.groups])
        self._open: dict[int, _Open] = {}
        self._held: dict[int, pa.Table] = {}
        self._tracks: dict[int, Tracks] = {}
        self._begun = False

    def tasks(self, size: int) -> Iterator[Task]:
        """Yield what is not extracted yet, shard by shard; a stretch of a clip alone."""
        for number, group in enumerate(self._plan.groups):
            if group.file is not None:
                continue
            new = group.start + np.flatnonzero(self._plan.origin[group.start : group.stop] < 0)
            self._open[number] = _Open(number, len(new))
            if not len(new):
                self._write(self._open.pop(number))
            is_clip = self._listing.numbers[new] >= 0
            ends = np.flatnonzero(is_clip | np.append(is_clip[1:], True)) + 1
            for first, end in pairwise([0, *ends.tolist()] if len(new) else []):
                for start in range(first, end, size):
                    indices = new[start : min(start + size, end)]
                    yield list(zip(indices.tolist(), self._listing.read(indices)))

    def collect(self, tables: Iterator[pa.Table | None], save_every: float) -> None:
        """Write each shard when it is complete; partial ones now and then, and at the end."""
        saved = time.monotonic()
        for table in tables:
            self._progress.tick()
            if table is not None:
                self._receive(table)
            if time.monotonic() - saved > save_every:
                self._save()
                saved = time.monotonic()
        self._save()

    def _receive(self, table: pa.Table) -> None:
        if not self._begun:
            self._begun = True
            self._progress.say(event="first")
        index = int(table[shards.INDEX][0].as_py())
        if self._listing.numbers[index] < 0:
            self._add(table.drop_columns([LINKS]), index, inputs=len(table[shards.INDEX].unique()))
            return
        # A stretch waits for the one before it, which says what ids its faces have.
        self._held[index] = table
        while index in self._held and (before := self._tracks_before(index)) is not None:
            self._add_stretch(self._held.pop(index), index, before)
            index += 1

    def _tracks_before(self, index: int) -> Tracks | None:
        if self._listing.numbers[index] == 0:
            return Tracks()
        origin = int(self._plan.origin[index - 1])
        if origin >= 0:
            return Tracks(*self._plan.done.stretches[origin].tracks)
        return self._tracks.pop(index - 1, None)

    def _add_stretch(self, table: pa.Table, index: int, before: Tracks) -> None:
        links = np.array(table[LINKS].to_pylist(), object)
        ids, self._tracks[index] = link("".join(links), before)
        rows = table.filter(links == "").drop_columns([LINKS])
        tracks = [ids.get(track, -1) for track in rows["track"].to_pylist()]
        place = rows.schema.get_field_index("track")
        rows = rows.set_column(place, "track", [np.array(tracks, np.int32)])
        self._add(rows, index, inputs=1, tracks=self._tracks[index])

    def _add(
        self, table: pa.Table, index: int, *, inputs: int, tracks: Tracks | None = None
    ) -> None:
        shard = self._open[int(np.searchsorted(self._starts, index, "right")) - 1]
        shard.tables.append(table)
        if tracks is not None:
            shard.tracks[index] = tracks
        self._progress.add(table, None if tracks is None else int(self._listing.rows[index]))
        shard.missing -= inputs
        if not shard.missing:
            self._write(self._open.pop(shard.number))

    def _save(self) -> None:
        for shard in self._open.values():
            if len(shard.tables) > shard.saved:
                self._write(shard)
                shard.saved = len(shard.tables)

    def _write(self, shard: _Open) -> None:
        group, done = self._plan.groups[shard.number], self._plan.done
        origin = self._plan.origin[group.start : group.stop]
        old = group.start + np.flatnonzero(origin >= 0)
        tables = list(shard.tables)
        tracks = {index: list(vars(one).values()) for index, one in shard.tracks.items()}
        if len(old):
            copied = done.read(self._plan.origin[old])
            places = old[copied[shards.INDEX].to_numpy()]
            tables.append(copied.set_column(0, shards.INDEX, [places]))
            for index in old[self._listing.numbers[old] >= 0].tolist():
                tracks[index] = done.stretches[int(self._plan.origin[index])].tracks
        table = shards.in_order(tables)
        stretches = self._stretches(tracks, table[shards.INDEX].to_numpy())
        path = self._output / shards.shard_name(shard.number)
        shards.write(path, table.drop_columns([shards.INDEX]), self._made_by, stretches)
        self._progress.say(event="shard", file=path.name, rows=len(table), missing=shard.missing)

    def _stretches(
        self, tracks: dict[int, list[Any]], rows: npt.NDArray[np.int64]
    ) -> list[shards.StretchRows]:
        indices = np.array(sorted(tracks), np.int64)
        first, end = (np.searchsorted(rows, indices, side) for side in ("left", "right"))
        inputs = self._listing.read(indices) if len(indices) else []
        return [
            shards.StretchRows(start, stop - start, list(item.key), tracks[index])
            for start, stop, item, index in zip(
                first.tolist(), end.tolist(), inputs, indices.tolist()
            )
        ]
