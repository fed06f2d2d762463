"""Make tables of rendered faces, in pairs: one expression on two people.

A face depends on the seed, its row, the assets and the rows of real blendshapes, and on nothing
else: a longer table begins with the shorter one, and a run that was stopped goes on as if it had
not been.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract._utils import progress
from fever_extract._utils.files import exclusive, replace_atomically
from fever_extract.training.evaluation.transfer_sets import held_out
from fever_extract.training.synthetic.assets import read_assets
from fever_extract.training.synthetic.expressions import Expressions, read_rows
from fever_extract.training.synthetic.head import find_data, read_head
from fever_extract.training.synthetic.people import Person, draw_person
from fever_extract.training.synthetic.photograph import develop
from fever_extract.training.synthetic.render import Renderer
from fever_extract.training.synthetic.scene import draw_scene

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

SIDE = 128
"""Of a picture, in pixels."""
PART = 400
"""Rows to a part: so many at most are done again after a kill."""
SHOWN = 4
"""Faces of each person, on average; a person's are all in one part."""

_FORMAT = 1  # to be raised when the same seed would give other rows
_KEY = b"faces"
_NAMES = b"blendshape_names"
# What a stream of random numbers decides on.
_PERSON, _PAIR, _FACE = range(3)


@dataclass(frozen=True)
class Job:
    """All that faces depend on, but their row.

    Attributes:
        assets: zip file or folder.
        blendshapes: table of real blendshapes, or None.
        seed: of everything random.
        part: rows to a part.
        key: digest of all this.
    """

    assets: Path
    blendshapes: Path | None
    seed: int
    part: int
    key: str


def generate(
    assets: Path,
    output: Path,
    number: int,
    *,
    seed: int = 0,
    blendshapes: Path | None = None,
    processes: int = 1,
    part: int = PART,
) -> Path:
    """Write a table of rendered faces, going on where an earlier call was stopped.

    Until the table is whole, what is done lies in parts in a folder beside it.

    Args:
        assets: zip file or folder of MakeHuman's hair, brows, lashes, teeth and skins.
        output: a ``.parquet`` file.
        number: of faces; even, as they come in pairs.
        seed: same seed, same faces.
        blendshapes: a table to take the units of real faces from (its split ``train``); without,
            expressions are recipes and random units alone.
        processes: that work side by side; how many does not change the faces.
        part: rows to a part, which say who shows what: another number, other faces.

    Returns:
        ``output``.

    Raises:
        ImportError: without the extra ``synthetic``.
        OSError: if assets or table are missing, or another run is at work on the output.
        ValueError: if an argument is out of its range, or a file is not in its format.
    """
    if output.suffix != ".parquet":
        raise ValueError(f"the table is Parquet: {output} must end in .parquet")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent} does not exist; make it, or give another folder")
    if number < 2 or number % 2:
        raise ValueError(f"faces come in pairs: --number {number} must be even, and at least 2")
    if processes < 1:
        raise ValueError(f"--processes {processes} must be at least 1")
    if part < 40 or part % 2:
        raise ValueError(f"a part of {part} rows is odd, or has too few people to pair: take 40")
    if seed < 0:
        raise ValueError(f"--seed {seed} must not be negative")
    job = Job(assets, blendshapes, seed, part, _digest(assets, blendshapes, seed, part))
    folder = output.with_name(f"{output.name}.parts")
    with exclusive(output):
        folder.mkdir(exist_ok=True)
        tasks = [
            (folder / f"part-{start // part:06}.parquet", start, min(start + part, number))
            for start in range(0, number, part)
        ]
        left = [task for task in tasks if not _is_done(task[0], _key(job, *task[1:]))]
        with progress.bar(total=number, unit="face", leave=False) as bar:
            bar.update(number - sum(stop - start for _, start, stop in left))
            for rows in _work(job, left, processes):
                bar.update(rows)
        _join([path for path, _, _ in tasks], output)
        shutil.rmtree(folder)
    return output


class Studio:
    """Make single faces of a job; reading what it needs takes seconds."""

    def __init__(self, job: Job) -> None:
        data = find_data()
        assets = read_assets(job.assets)
        cloths = [cloth for kind in assets.cloths.values() for cloth in kind]
        hung = {int(vertex) for cloth in cloths for vertex in np.unique(cloth.on)}
        hung |= {vertex for cloth in cloths for scale in cloth.scales for vertex in scale[:2]}
        self.job, self.head, self.assets = job, read_head(data, hung), assets
        self.renderer = Renderer(self.head, assets, data, SIDE)
        names: tuple[str, ...] = ("_neutral", *(u for u in self.head.units if u != "tongueOut"))
        rows: npt.NDArray[np.float32] = np.zeros((0, len(names)), np.float32)
        if job.blendshapes is not None:
            others, rows = read_rows(job.blendshapes)
            if set(others) != set(names):
                raise ValueError(f"{job.blendshapes} has other blendshapes than MediaPipe's 52")
            names = others
        self.names, self.expressions = names, Expressions(names, rows)
        self._people: dict[int, Person] = {}

    def face(self, row: int) -> dict[str, Any]:
        """Make the face of a row of the table, as its columns."""
        expression = self.expressions.draw(self._random(_PAIR, row // 2))
        person_id = self._pick(row)
        rng = self._random(_FACE, row)
        scene, person = draw_scene(rng), self._person(person_id)
        # Half of the pictures are mirrored, with the expression: hair falls to either side then.
        units, mirrored = expression.units, bool(rng.random() < 0.5)
        if mirrored:
            units = units[self.expressions.mirrored]
        rendering = self.renderer.render(person, self.names, units, scene, rng)
        light, face, landmarks = rendering.light, rendering.face, rendering.landmarks
        if mirrored:
            light, face = light[:, ::-1], face[:, ::-1]
            landmarks = landmarks[[1, 0, 2, 4, 3]]
            landmarks[:, 0] = SIDE - landmarks[:, 0]
        turn = -1 if mirrored else 1
        return {
            "image": develop(light, face, SIDE, rng),
            "landmarks": landmarks.reshape(-1).tolist(),
            "blendshapes": expression.units.tolist(),
            "expression_id": row // 2,
            "person_id": person_id,
            "yaw": turn * scene.yaw,
            "pitch": scene.pitch,
            "roll": turn * scene.roll,
            "source": expression.source,
            "recipe": expression.recipe,
        }

    def _random(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.job.seed, stream, number])

    def _pick(self, row: int) -> int:
        """Pick who shows a row: two people for a pair, both to be trained on or neither."""
        count = self.job.part // SHOWN
        people = row // self.job.part * count + np.arange(count)
        apart = held_out(people)
        rng = np.random.default_rng([self.job.seed, _PAIR, row // 2, 1])
        two = rng.choice(people[apart == apart[rng.integers(count)]], 2, replace=False)
        return int(two[row % 2])

    def _person(self, person_id: int) -> Person:
        if person_id not in self._people:
            if len(self._people) >= self.job.part // SHOWN:
                self._people.clear()
            rng = self._random(_PERSON, person_id)
            self._people[person_id] = draw_person(
                rng, self.head, self.assets, self.renderer.eye_count
            )
        return self._people[person_id]


def _columns(names: Iterable[str]) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {
            "image": pa.binary(),
            "landmarks": pa.list_(pa.float32(), 10),
            "blendshapes": pa.list_(pa.float32(), 52),
            "expression_id": pa.int32(),
            "person_id": pa.int32(),
            "yaw": pa.float32(),
            "pitch": pa.float32(),
            "roll": pa.float32(),
            "source": pa.string(),
            "recipe": pa.string(),
        },
        {_NAMES: ",".join(names)},
    )


_Task = tuple[Path, int, int]


def _work(job: Job, tasks: list[_Task], processes: int) -> Iterator[int]:
    """Write parts, and yield the number of rows whenever some are done."""
    if processes == 1 or len(tasks) < 2:
        studio = Studio(job) if tasks else None
        for path, start, stop in tasks:
            assert studio is not None
            rows = []
            for row in range(start, stop):
                rows.append(studio.face(row))
                yield 1
            _write(studio, rows, path, start, stop)
        return
    with _pool(job, min(processes, len(tasks))) as pool:
        yield from pool.map(_write_part, tasks)


@contextmanager
def _pool(job: Job, processes: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(processes, get_context("spawn"), _start, (job,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


_studio: Studio | None = None  # of a worker process


def _start(job: Job) -> None:
    global _studio  # noqa: PLW0603 - what a pool's initializer leaves for its tasks
    _studio = Studio(job)


def _write_part(task: _Task) -> int:
    assert _studio is not None
    path, start, stop = task
    _write(_studio, [_studio.face(row) for row in range(start, stop)], path, start, stop)
    return stop - start


def _write(studio: Studio, rows: list[dict[str, Any]], path: Path, start: int, stop: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = _columns(studio.names)
    columns = columns.with_metadata({**columns.metadata, _KEY: _key(studio.job, start, stop)})
    with replace_atomically(path, inside=True) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, columns), temporary, compression="zstd")


def _key(job: Job, start: int, stop: int) -> bytes:
    return f"{job.key} {start} {stop}".encode()


def _digest(assets: Path, blendshapes: Path | None, seed: int, part: int) -> str:
    """Of all that every face depends on."""
    digest = hashlib.sha256(f"{_FORMAT} {part} {SHOWN} {SIDE} {seed}".encode())
    for path in (assets, blendshapes):
        if path is None:
            continue
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.name} {file.stat().st_size}".encode())
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _is_done(path: Path, key: bytes) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (pq.read_schema(path).metadata or {}).get(_KEY) == key
    except (OSError, pa.ArrowInvalid):
        return False


def _join(parts: list[Path], output: Path) -> None:
    """The parts as one table, a row group each."""
    import pyarrow.parquet as pq

    columns = pq.read_schema(parts[0])
    columns = columns.with_metadata({_NAMES: columns.metadata[_NAMES]})
    with (
        replace_atomically(output) as temporary,
        pq.ParquetWriter(temporary, columns, compression="zstd") as writer,
    ):
        for path in parts:
            writer.write_table(pq.read_table(path).cast(columns))
