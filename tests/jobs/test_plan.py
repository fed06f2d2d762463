"""What is to be done again after the inputs have changed: nothing that need not be."""

import dataclasses
import random

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import synthetic_rows

from fever_extract.jobs import _plan as plan
from fever_extract.jobs._listing import Listing
from fever_extract.jobs.sources import Input
from fever_extract.tables import shards

SIZE = 10


def inputs(numbers, time=0):
    return [Input(f"{number:05}.jpg", "", -1, 100, time) for number in numbers]


class Job:
    """A folder of shards in which the work is done by `synthetic_rows`."""

    def __init__(self, folder):
        self.folder, self.previous = folder, folder / "_job"
        self.previous.mkdir()

    def plan(self, listed):
        self.listing = Listing(self.folder / "inputs.arrow", listed)
        done = shards.Done.scan(
            [*shards.shards_in(self.folder), *sorted(self.previous.glob("*.old"))]
        )
        return plan.make(self.listing, done, SIZE)

    def run(self, listed, stop_after=None):
        """Returns the plan and how many images were worked on."""
        planned = self.plan(listed)
        plan.arrange(planned, self.folder, self.previous)
        worked = 0
        for number, group in enumerate(planned.groups):
            if group.file is not None:
                continue
            if stop_after is not None and worked >= stop_after:
                return planned, worked
            origin = planned.origin[group.start : group.stop]
            tables = []
            if (origin >= 0).any():
                old = planned.done.read(origin[origin >= 0])
                places = np.flatnonzero(origin >= 0)[old["index"].to_numpy()]
                tables.append(old.set_column(0, "index", [places]))
            new = np.flatnonzero(origin < 0)
            if len(new):
                tables.append(synthetic_rows(self.listing.read(group.start + new), new))
            table = shards.in_order(tables).drop_columns(["index"])
            shards.write(self.folder / shards.shard_name(number), table, {})
            worked += len(new)
        for old in self.previous.glob("*.old"):
            old.unlink()
        return planned, worked

    def rows(self, more=()):
        tables = [pq.read_table(file) for file in [*shards.shards_in(self.folder), *more]]
        return [
            row
            for table in tables
            for row in zip(table["path"].to_pylist(), table["mtime_ns"].to_pylist())
        ]


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def expected(listed):
    return [(one.name, one.mtime_ns) for one in listed]


def test_cut_into_shards(job):
    planned, worked = job.run(inputs(range(25)))
    assert [(group.start, group.stop) for group in planned.groups] == [(0, 10), (10, 20), (20, 25)]
    assert (worked, planned.new) == (25, 25)
    assert job.rows() == expected(inputs(range(25)))


def test_nothing_to_do(job):
    job.run(inputs(range(25)))
    before = {file: file.stat().st_ino for file in shards.shards_in(job.folder)}
    planned, worked = job.run(inputs(range(25)))
    assert worked == 0
    assert {file: file.stat().st_ino for file in shards.shards_in(job.folder)} == before
    assert planned.statuses() == {"ok": 25}
    assert planned.faces() == 25


def test_a_new_one_in_the_middle_changes_one_shard(job):
    job.run(inputs(range(0, 80, 2)))
    before = {file.stat().st_ino for file in shards.shards_in(job.folder)}
    listed = inputs(sorted([*range(0, 80, 2), 25]))
    planned, worked = job.run(listed)
    assert (worked, planned.new, planned.changed) == (1, 1, 0)
    assert job.rows() == expected(listed)
    after = {file.stat().st_ino for file in shards.shards_in(job.folder)}
    assert len(before & after) == 3


def test_changed_and_removed(job):
    listed = inputs(range(40))
    job.run(listed)
    listed[7] = dataclasses.replace(listed[7], mtime_ns=5)
    listed[8] = dataclasses.replace(listed[8], size=5)
    del listed[20:23]
    planned = job.plan(listed)
    assert (planned.new, planned.changed, len(planned.removed)) == (0, 2, 3)
    paths = planned.done.read(planned.removed)["path"].to_pylist()
    assert paths == ["00020.jpg", "00021.jpg", "00022.jpg"]
    _, worked = job.run(listed)
    assert worked == 2
    assert job.rows() == expected(listed)


def test_another_order_copies_every_row(job):
    listed = inputs(range(40))
    job.run(listed)
    random.Random(0).shuffle(listed)
    _, worked = job.run(listed)
    assert worked == 0
    assert job.rows() == expected(listed)


def test_an_input_given_twice_has_two_rows(job):
    listed = inputs([1, 2, 1, 1, 3] * 5)
    job.run(listed)
    _, worked = job.run(listed)
    assert worked == 0
    assert job.rows() == expected(listed)


@pytest.mark.parametrize("seed", range(10))
def test_any_change_at_any_stop(job, seed):
    """Edits of every kind, runs stopped at any shard: the table is right, no work done twice."""
    rng = random.Random(seed)
    listed = inputs(rng.sample(range(1000), 60))
    on_disk = set()
    for step in range(6):
        for _ in range(rng.randrange(12)):
            place = rng.randrange(len(listed))
            kind = rng.randrange(4)
            if kind == 0:
                listed[place:place] = inputs([1000 + rng.randrange(10**6)], step)
            elif kind == 1:
                del listed[place]
            elif kind == 2:
                listed[place] = dataclasses.replace(listed[place], mtime_ns=1 + step)
            else:
                listed.append(listed.pop(place))
        planned, _ = job.run(listed, rng.choice([None, 0, 5, 20]))
        assert planned.new + planned.changed == sum(row not in on_disk for row in expected(listed))
        now = set(job.rows([*job.previous.glob("*.old")]))
        assert now >= on_disk & set(expected(listed)), "rows that were done are gone"
        on_disk = now
    job.run(listed)
    assert job.rows() == expected(listed)
    assert job.run(listed)[1] == 0
