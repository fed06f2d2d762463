"""Resume plan: compare the inputs with the shards on disk, and decide what to do.

The inputs are cut into groups, one for each shard. A shard that holds just the inputs of a
group stays; of any other, rows are copied where the input is unchanged. Cuts fall where
shards begin already, so that a new photograph in the middle changes one shard, not all.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Sequence
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
    """Which shards stay, and which inputs have to be extracted.

    Attributes:
        groups: one a shard, in order; together they are all inputs.
        done: what is on disk.
        origin: ``(inputs,)`` int64: which of ``done`` each input is, or -1.
        changed: inputs that are done, but of a file that is different now.
        again: inputs that are done as they are now, and are to be done again all the same.
        removed: ``(k,)`` int64: the first place in ``done`` of each input that is no more.
    """

    groups: list[Group]
    done: Done
    origin: npt.NDArray[np.int64]
    changed: int
    again: int
    removed: npt.NDArray[np.int64]

    @property
    def new(self) -> int:
        """Number of inputs that were never extracted."""
        return int((self.origin < 0).sum()) - self.changed - self.again

    def statuses(self) -> Counter[Status]:
        """Count the images of the finished inputs by status."""
        codes = self.done.statuses_of(self.origin[self.origin >= 0])
        counts = np.bincount(codes, minlength=len(STATUSES)).tolist()
        return Counter({status: count for status, count in zip(STATUSES, counts) if count})

    def frames(self, listing: Listing) -> int:
        """Count the decoded frames of the finished stretches of clips."""
        clips = self.origin[(self.origin >= 0) & (listing.numbers >= 0)]
        codes = np.array([status.was_decoded for status in STATUSES])
        return int(codes[self.done.statuses_of(clips)].sum())

    def faces(self) -> int:
        """Count the faces of the finished inputs."""
        return int(self.done.faces[self.origin[self.origin >= 0]].sum())


def make(listing: Listing, done: Done, shard_rows: int, again: Sequence[Status] = ()) -> Plan:
    """Plan the shards.

    Args:
        listing: the inputs.
        done: what is on disk.
        shard_rows: of a shard, give or take half; of clips, about.
        again: inputs with one of these statuses are done again.
    """
    order = np.argsort(done.identities, kind="stable")
    place = np.searchsorted(done.identities, listing.identities, sorter=order)
    origin = np.full(len(listing), -1, np.int64)
    if len(done):
        repeated = _repeated(listing.identities, done.identities[order])
        candidate = order[np.minimum(place + repeated, len(done) - 1)]
        same = (done.identities[candidate] == listing.identities) & (repeated >= 0)
        origin[same] = candidate[same]
    # Of a clip that is done in part, nothing has changed.
    kept = np.isin(listing.names, listing.names[origin >= 0])
    changed = int((np.isin(listing.names, done.names) & ~kept).sum())
    _, first = np.unique(done.names, return_index=True)
    removed = np.sort(first[~np.isin(done.names[first], listing.names)])
    known = int((origin >= 0).sum())
    if again and len(done):
        origin[(origin >= 0) & done.failed(again)[origin]] = -1
    # Ids of a clip's faces are counted on from stretch to stretch.
    for index in np.flatnonzero(listing.numbers > 0).tolist():
        if origin[index - 1] < 0:
            origin[index] = -1
    again_count = known - int((origin >= 0).sum())
    groups = _groups(listing, done, origin, shard_rows)
    return Plan(groups, done, origin, changed, again_count, removed)


def _repeated(ours: npt.NDArray[np.int64], done: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number inputs of the same identity, such as duplicate members of an archive.

    Args:
        ours: identities that are listed.
        done: identities that are done, sorted.

    Returns:
        0 for the first and so on; -1 for several of which not as many are done, so that it isn't
        known which are.
    """
    order = np.argsort(ours, kind="stable")
    in_order = ours[order]
    if not (in_order[1:] == in_order[:-1]).any():
        return np.zeros(len(ours), np.int64)
    first = np.searchsorted(in_order, in_order)
    count = np.searchsorted(in_order, in_order, "right") - first
    known = np.searchsorted(done, in_order, "right") - np.searchsorted(done, in_order)
    repeated = np.empty(len(ours), np.int64)
    certain = (count == 1) | (count == known)
    repeated[order] = np.where(certain, np.arange(len(ours)) - first, -1)
    return repeated


def arrange(plan: Plan, folder: Path, previous: Path) -> None:
    """Rename the shards that stay to their new numbers; set the others aside.

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


def _groups(listing: Listing, done: Done, origin: npt.NDArray[np.int64], size: int) -> list[Group]:
    blocks = sorted(_blocks(listing, done), key=lambda block: block.start)
    rows = np.concatenate([[0], np.cumsum(listing.rows, dtype=np.int64)])  # before each input
    by_first: dict[int, list[int]] = {}
    for file, start in enumerate(done.starts[:-1].tolist()):
        if start < done.starts[file + 1]:
            by_first.setdefault(int(done.identities[start]), []).append(file)

    def group(start: int, stop: int) -> Group:
        expected = listing.identities[start:stop]
        if (origin[start:stop] >= 0).all():
            for file in by_first.get(int(expected[0]), ()):
                if np.array_equal(_identities(done, file), expected):
                    by_first[int(expected[0])].remove(file)
                    return Group(start, stop, file)
        return Group(start, stop)

    bounds = [0]
    for block in blocks:
        length = rows[block.stop] - rows[block.start]
        fits = size / 2 <= length <= 2 * size or block.stop == len(listing)
        if fits and block.start >= bounds[-1]:
            cuts = _cuts(rows, bounds[-1], block.start, size, last=False)
            bounds += [*cuts, block.start, block.stop]
    bounds += [*_cuts(rows, bounds[-1], len(listing), size, last=True), len(listing)]
    return [group(start, stop) for start, stop in pairwise(bounds) if start < stop]


def _cuts(
    rows: npt.NDArray[np.int64], start: int, stop: int, size: int, *, last: bool
) -> list[int]:
    """Choose cuts between two bounds; a small remainder joins its neighbour, except the last."""
    targets = np.arange(rows[start] + size, rows[stop], size)
    cuts: list[int] = np.unique(np.searchsorted(rows, targets)).tolist()
    cuts = [cut for cut in cuts if start < cut < stop]
    if cuts and not last and rows[stop] - rows[cuts[-1]] < size / 2:
        cuts.pop()
    return cuts


def _blocks(listing: Listing, done: Done) -> list[Group]:
    """Find the shards whose inputs are contiguous in the listing."""
    order = np.argsort(listing.identities, kind="stable")
    blocks = []
    following = 0  # where a shard begins that comes right after the last
    for file in range(len(done.files)):
        shard = _identities(done, file)
        if not len(shard):
            continue
        place = int(np.searchsorted(listing.identities, shard[0], sorter=order))
        first = int(order[place]) if place < len(order) else 0
        for start in (following, first):
            if np.array_equal(listing.identities[start : start + len(shard)], shard):
                following = start + len(shard)
                blocks.append(Group(start, following, file))
                break
    return blocks


def _identities(done: Done, file: int) -> npt.NDArray[np.int64]:
    return done.identities[done.starts[file] : done.starts[file + 1]]
