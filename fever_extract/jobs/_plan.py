"""What is to be done: the inputs as they are now beside the rows that are on disk.

The inputs are cut into groups, one for each shard. A shard that holds just the inputs of a
group stays; of any other, rows are copied where the input is unchanged. Cuts fall where
shards begin already, so that a new photograph in the middle changes one shard, not all.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.files import sync_folder
from fever_extract.records import Status
from fever_extract.tables.shards import STATUSES, Done, shard_name

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.jobs._listing import Listing


@dataclass(frozen=True)
class Group:
    """The inputs from ``start`` to ``stop``; ``file`` is the place in `Done.files` of a shard
    that holds them already."""

    start: int
    stop: int
    file: int | None = None


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        groups: one a shard, in order; together they are all inputs.
        done: what is on disk.
        origin: ``(inputs,)`` int64: which of ``done`` each input is, or -1.
        changed: inputs that are done, but of a file that is different now.
        removed: ``(k,)`` int64: the first place in ``done`` of each input that is no more.
    """

    groups: list[Group]
    done: Done
    origin: npt.NDArray[np.int64]
    changed: int
    removed: npt.NDArray[np.int64]

    @property
    def new(self) -> int:
        """Inputs that were never done."""
        return int((self.origin < 0).sum()) - self.changed

    def statuses(self) -> Counter[Status]:
        """Of the inputs that are done."""
        codes = self.done.statuses[self.origin[self.origin >= 0]]
        counts = np.bincount(codes, minlength=len(STATUSES)).tolist()
        return Counter({status: count for status, count in zip(STATUSES, counts) if count})

    def faces(self) -> int:
        """Vectors of the inputs that are done."""
        return int(self.done.faces[self.origin[self.origin >= 0]].sum())


def make(listing: Listing, done: Done, shard_rows: int) -> Plan:
    """Compare; shards get ``shard_rows`` inputs each, or up to half as many more or fewer."""
    order = np.argsort(done.identities, kind="stable")
    place = np.searchsorted(done.identities, listing.identities, sorter=order)
    origin = np.full(len(listing), -1, np.int64)
    if len(done):
        repeated = _repeated(listing.identities, done.identities[order])
        candidate = order[np.minimum(place + repeated, len(done) - 1)]
        same = (done.identities[candidate] == listing.identities) & (repeated >= 0)
        origin[same] = candidate[same]
    changed = int(np.isin(listing.names[origin < 0], done.names).sum())
    _, first = np.unique(done.names, return_index=True)
    removed = np.sort(first[~np.isin(done.names[first], listing.names)])
    return Plan(_groups(listing, done, shard_rows), done, origin, changed, removed)


def _repeated(ours: npt.NDArray[np.int64], done: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of inputs with one identity, as members of one name in an archive, which of them each is.

    Args:
        ours: identities that are listed.
        done: identities that are done, sorted.

    Returns:
        0 for the first and so on; -1 where not as many are done as are listed, so that it isn't
        known which.
    """
    order = np.argsort(ours, kind="stable")
    in_order = ours[order]
    if not (in_order[1:] == in_order[:-1]).any() and not (done[1:] == done[:-1]).any():
        return np.zeros(len(ours), np.int64)
    first = np.searchsorted(in_order, in_order)
    count = np.searchsorted(in_order, in_order, "right") - first
    known = np.searchsorted(done, in_order, "right") - np.searchsorted(done, in_order)
    repeated = np.empty(len(ours), np.int64)
    repeated[order] = np.where(count == known, np.arange(len(ours)) - first, -1)
    return repeated


def arrange(plan: Plan, folder: Path, previous: Path) -> None:
    """Move the shards that stay to their places, and the others out of the way.

    Only renames: whenever it is stopped, each shard is whole in one place or the other.
    """
    previous.mkdir(exist_ok=True)
    places = {
        group.file: folder / shard_name(number)
        for number, group in enumerate(plan.groups)
        if group.file is not None
    }
    files = plan.done.files
    for index, file in enumerate(files):
        if file.parent == folder and places.get(index) != file:
            files[index] = previous / f"{uuid.uuid4()}.old"
            os.replace(file, files[index])
    for index, place in places.items():
        if files[index] != place:
            os.replace(files[index], place)
            files[index] = place
    sync_folder(folder)
    sync_folder(previous)


def _groups(listing: Listing, done: Done, size: int) -> list[Group]:
    blocks = sorted(_blocks(listing, done), key=lambda block: block.start)
    by_first: dict[int, list[int]] = {}
    for file, start in enumerate(done.starts[:-1].tolist()):
        if start < done.starts[file + 1]:
            by_first.setdefault(int(done.identities[start]), []).append(file)

    def group(start: int, stop: int) -> Group:
        wanted = listing.identities[start:stop]
        for file in by_first.get(int(wanted[0]), ()):
            if np.array_equal(_identities(done, file), wanted):
                by_first[int(wanted[0])].remove(file)
                return Group(start, stop, file)
        return Group(start, stop)

    bounds = [0]
    for block in blocks:
        length = block.stop - block.start
        fits = size / 2 <= length <= 2 * size or block.stop == len(listing)
        if fits and block.start >= bounds[-1]:
            bounds += [*_cuts(bounds[-1], block.start, size, last=False), block.start, block.stop]
    bounds += [*_cuts(bounds[-1], len(listing), size, last=True), len(listing)]
    return [group(start, stop) for start, stop in pairwise(bounds) if start < stop]


def _cuts(start: int, stop: int, size: int, *, last: bool) -> list[int]:
    """Where to cut between; a small rest joins its neighbour, except at the table's end."""
    cuts = list(range(start + size, stop, size))
    if cuts and not last and stop - cuts[-1] < size / 2:
        cuts.pop()
    return cuts


def _blocks(listing: Listing, done: Done) -> list[Group]:
    """Where all inputs of a shard follow each other in the listing."""
    order = np.argsort(listing.identities, kind="stable")
    blocks = []
    expected = 0
    for file in range(len(done.files)):
        wanted = _identities(done, file)
        if not len(wanted):
            continue
        place = int(np.searchsorted(listing.identities, wanted[0], sorter=order))
        found = int(order[place]) if place < len(order) else 0
        for start in (expected, found):
            if np.array_equal(listing.identities[start : start + len(wanted)], wanted):
                expected = start + len(wanted)
                blocks.append(Group(start, expected, file))
                break
    return blocks


def _identities(done: Done, file: int) -> npt.NDArray[np.int64]:
    return done.identities[done.starts[file] : done.starts[file + 1]]
