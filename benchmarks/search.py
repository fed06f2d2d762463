"""How long the nearest rows of a large table take.

python benchmarks/search.py FOLDER [ROWS] [WIDTH]

Writes a table of random clusters to FOLDER, in shards of 10,000 rows, if it is not there yet.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np

from fever_extract import read_table
from fever_extract.tables import shards
from fever_extract.tables.parquet import to_arrow
from fever_extract.tables.schema import Columns

SHARD = 10_000
QUERIES = 100


def make(folder: Path, rows: int, width: int) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((200, width)).astype(np.float32)
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, rows, SHARD)):
        count = min(SHARD, rows - start)
        vectors = centres[random.integers(200, size=count)]
        vectors = vectors + random.standard_normal((count, width), np.float32)
        columns = {
            "path": [f"{start + row:08}.jpg" for row in range(count)],
            "status": ["ok"] * count,
            "yaw": random.normal(0, 20, count).astype(np.float32),
            "embedding": vectors,
        }
        shards.write(folder / shards.shard_name(number), to_arrow(Columns(columns)), {"columns": 2})


def timed(name: str, work):
    start = time.monotonic()
    result = work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name} | {time.monotonic() - start:.2f} s | {peak:.0f} MB", flush=True)
    return result


def main(folder: str, rows: int = 100_000, width: int = 256) -> None:
    if not Path(folder).exists():
        make(Path(folder), int(rows), int(width))
    table = timed("open", lambda: read_table(folder))
    queries = next(iter(table.embeddings.blocks()))[:QUERIES]
    one, many = queries[0], queries
    print(f"{len(table)} rows of {table.embeddings.width} numbers")
    timed("one vector, from the shards", lambda: table.nearest(one))
    exact = timed(f"{QUERIES} vectors, from the shards", lambda: table.nearest(many))
    timed("where(max_yaw=20), then one vector", lambda: table.where(max_yaw=20).nearest(one))
    timed("like('yaw > 40')", lambda: table.like("yaw > 40"))
    mapped = read_table(folder, memory_map=True)
    timed("one vector, mapped to memory", lambda: mapped.nearest(one))
    timed("the same again", lambda: mapped.nearest(one))
    index = timed("build the index", table.build_index)
    timed("one vector, by the index", lambda: index.nearest(one))
    near = timed(f"{QUERIES} vectors, by the index", lambda: index.nearest(many))
    pairs = zip(exact.rows.tolist(), near.rows.tolist())
    found = np.mean([len(set(a) & set(b)) / len(a) for a, b in pairs])
    print(f"of the ten nearest the index has {found:.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
