"""What happens to large jobs: killed, starved, fed with rubbish, resumed, spread over nodes.

    python benchmarks/scale.py ROW [ROW ...] [--photos FOLDER] [--work FOLDER] [--quick]

Rows: kills, workers, hostile, resume, names, overhead, ray, nodes, or all. ``--photos`` (for
overhead and ray) is any folder of photographs; `benchmarks/make_photos.py` makes one. Each row
prints what was done and measured; a row whose table is wrong ends the script with an error.
``--quick`` takes a twentieth of the size, to see that it runs.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import hostile
from helpers import synthetic_rows, workers

import fever_extract
from fever_extract import Extractor, Options, hub
from fever_extract.folders import list_images
from fever_extract.jobs import _manifest as manifest
from fever_extract.jobs import sharded
from fever_extract.jobs.engine import local
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import find
from fever_extract.tables import shards
from fever_extract.tables.schema import Widths, describe

COMMAND = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from fever_extract import cli
from fever_extract.jobs import sharded
sharded.run.__kwdefaults__.update(shard_rows={shard_rows}, save_every={save_every})
sys.exit(cli.main(["extract", *sys.argv[1:], "--quiet"]))
"""


def astronaut() -> Image.Image:
    path = resources.files("fever_extract.assets") / "astronaut.jpg"
    return Image.open(str(path)).convert("RGB")


def make_faces(folder: Path, count: int) -> Path:
    """Pictures of one face, no two of the same size."""
    folder.mkdir(parents=True)
    picture = astronaut()
    for index in range(count):
        picture.resize((120 + index % 80, 120 + index // 80)).save(folder / f"{index:06}.jpg")
    return folder


def start(source, output, *more, shard_rows=sharded.SHARD_ROWS, save_every=sharded.SAVE_EVERY):
    """The command in a process group of its own."""
    code = COMMAND.format(shard_rows=shard_rows, save_every=save_every)
    arguments = map(str, (source, "-o", output, *more))
    return subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True)


def finish(process) -> None:
    if process.wait() != 0:
        raise SystemExit(f"the command ended with {process.returncode}")


def same(output: Path, expected: Path) -> str:
    """Compare two tables; ends the script if they differ."""
    (x, table), (y, wanted) = fever_extract.load(output), fever_extract.load(expected)
    for name in ("path", "status", "face_index"):
        if not table[name].equals(wanted[name]):
            raise SystemExit(f"{output}: column {name} differs from {expected}")
    np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
    return f"{len(table)} rows the same, vectors apart by at most {np.nanmax(np.abs(x - y)):.1e}"


def log(output: Path, event: str) -> list[dict]:
    file = output / "_job" / "log.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line for line in map(json.loads, lines) if line["event"] == event]


def children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split()]


class Peak:
    """The most memory that a process and its workers used, from the kernel, in MB."""

    def __init__(self, pid: int) -> None:
        self.parent = self.worker = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def stop(self) -> str:
        self._done.set()
        self._thread.join()
        return f"peak memory {self.parent:.0f} MB, of the largest worker {self.worker:.0f} MB"

    def _watch(self, pid: int) -> None:
        while not self._done.wait(0.1):
            self.parent = max(self.parent, _peak(pid))
            self.worker = max([self.worker, *map(_peak, children(pid))])


def _peak(pid: int) -> float:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return max(int(line.split()[1]) / 1e3 for line in file if line.startswith("VmHWM"))
    except (OSError, ValueError):
        return 0.0


def kills(work: Path, scale: float, photos: Path | None) -> None:
    """The whole group is killed at random moments of one job."""
    count = max(2, round(20 * scale))
    folder = make_faces(work / "in", round(3000 * scale) + 200)
    finish(start(folder, work / "whole"))
    rng = random.Random(0)
    step = max(1, 3000 * scale / count)
    for number in range(count):
        process = start(folder, work / "out", shard_rows=200, save_every=1)
        # One in three at the start, the others at work; some of it is done between them.
        wanted = _rows(work / "out") + rng.uniform(1, step)
        while number % 3 and process.poll() is None and _rows(work / "out") < wanted:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1 if number % 3 else 6))
        if process.poll() is not None:
            raise SystemExit("the job ended before it was killed: more photographs are needed")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finish(start(folder, work / "out", shard_rows=200))
    done = [line["done"] for line in log(work / "out", "start")]
    print(f"  {count} kills of the group; done at each start: {done}")
    print("  " + same(work / "out", work / "whole"))


def _rows(output: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in shards.shards_in(output))


def kill_workers(work: Path, scale: float, photos: Path | None) -> None:
    """Random workers are killed while one job runs."""
    count = max(3, round(50 * scale))
    folder = make_faces(work / "in", round(6000 * scale) + 300)
    finish(start(folder, work / "whole"))
    rng, killed = random.Random(0), 0
    process = start(folder, work / "out")
    while process.poll() is None:
        time.sleep(rng.uniform(0.5, 5))
        if killed < count and (found := children(process.pid)):
            os.kill(rng.choice(found), signal.SIGKILL)
            killed += 1
    finish(process)
    replaced = len(log(work / "out", "worker"))
    print(f"  {killed} kills of workers, {replaced} replaced; the job ended by itself")
    if killed < count:
        raise SystemExit(f"only {killed} kills before the job ended")
    print("  " + same(work / "out", work / "whole"))


def hostile_files(work: Path, scale: float, photos: Path | None) -> None:
    """Damaged files among good ones."""
    good = make_faces(work / "good", round(1000 * scale))
    finish(start(good, work / "whole"))
    bad = hostile.write(work / "in" / "hostile", round(10_000 * scale), 0, astronaut())
    for name in list_images(good):
        shutil.copy2(good / name, work / "in" / name)
    process = start(work / "in", work / "out")
    peak = Peak(process.pid)
    finish(process)
    print(f"  {len(bad)} hostile files: {log(work / 'out', 'end')[-1]['statuses']}")
    print(f"  {len(log(work / 'out', 'worker'))} workers replaced; {peak.stop()}")
    x, table = fever_extract.load(work / "out")
    y, wanted = fever_extract.load(work / "whole")
    places = {path: place for place, path in enumerate(table["path"].to_pylist())}
    rows = [places[path] for path in wanted["path"].to_pylist()]
    np.testing.assert_allclose(x[rows], y, atol=1e-4)
    apart = np.nanmax(np.abs(x[rows] - y))
    print(f"  {len(rows)} good rows right (vectors apart by at most {apart:.1e})")


def resume(work: Path, scale: float, photos: Path | None) -> None:
    """A job of which all but 64 photographs are done; synthetic rows stand for the work."""
    count = round(1_000_000 * scale)
    folder, output = work / "in", work / "out"
    folder.mkdir()
    for index in range(count):
        if index % 1000 == 0:
            (folder / f"{index // 1000:04}").mkdir()
        os.mknod(folder / f"{index // 1000:04}" / f"photograph_{index:09}.jpg")
    checkpoint = hub.load(None)
    made_by = describe(checkpoint, Options(), all_faces=False)
    output.mkdir()
    manifest.write(manifest.prepare(output, made_by, overwrite=False), made_by)
    listed = list(find(folder))
    for number, first in enumerate(range(0, count, sharded.SHARD_ROWS)):
        part = listed[first : first + sharded.SHARD_ROWS]
        rows = synthetic_rows(part, np.arange(len(part)), Widths.of(checkpoint.config))
        shards.write(output / shards.shard_name(number), rows.drop_columns("index"), made_by)
    del listed
    make_faces(folder / "new", 64)
    begin = time.time()
    process = start(folder, output, save_every=0.1)
    peak, seen = Peak(process.pid), {}
    while process.poll() is None and "shard" not in seen:
        time.sleep(0.05)
        for event in ("start", "ready", "shard"):
            if event not in seen and log(output, event):
                seen[event] = time.time() - begin
    finish(process)
    (first,) = log(output, "start")
    print(f"  {first['done']} rows done, {first['new']} new; planned after {seen['start']:.1f} s,")
    print(f"  a worker at work after {seen['ready']:.1f} s, first new rows on disk after", end=" ")
    print(f"{seen['shard']:.1f} s; {peak.stop()}")


def many_names(work: Path, scale: float, photos: Path | None) -> None:
    """Memory that names take: a list of ten million is listed and planned."""
    from fever_extract.jobs import _plan as plan
    from fever_extract.jobs._listing import Listing

    count = round(10_000_000 * scale)
    with open(work / "list.txt", "w", encoding="ascii") as file:
        file.writelines(f"/nowhere/folder_{n // 1000:06}/photo_{n:09}.jpg\n" for n in range(count))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    begin = time.time()
    listing = Listing(work / "inputs.arrow", find(work / "list.txt"))
    listed = time.time()
    planned = plan.make(listing, shards.Done.scan([]), sharded.SHARD_ROWS)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    size = (work / "inputs.arrow").stat().st_size / 1e6
    print(f"  {planned.new} names listed in {listed - begin:.0f} s, planned in")
    print(
        f"  {time.time() - listed:.0f} s; memory {before:.0f} to {peak:.0f} MB, list {size:.0f} MB"
    )


def overhead(work: Path, scale: float, photos: Path | None) -> None:
    """One table in this process, the same by workers, and shards, in turns."""
    folder = photos or make_faces(work / "faces", round(2000 * scale) + 200)
    rates: dict[str, list[float]] = {"plain": [], "table": [], "shards": []}
    options = {"show_progress": False}
    extractor = Extractor(device="cpu")
    count = sum(1 for _ in list_images(folder))
    for turn in range(2):
        for name, number in {"plain": 1, "table": os.cpu_count()}.items():
            begin = time.perf_counter()
            extractor.extract_folder(folder, work / "f.parquet", workers=number, **options)
            rates[name].append(count / (time.perf_counter() - begin))
        output = work / f"out{turn}"
        extractor.extract_folder(folder, output, **options)
        rates["shards"].append(_rate(output, "ready"))
    plain, table, sharded = (max(values) for values in rates.values())
    print(
        f"  {count} photographs, best of two turns: one table in one process {plain:.1f} images/s,"
    )
    print(
        f"  by workers, with their start {table:.1f} ({table / plain:.2f}), shards once these run"
    )
    print(f"  {sharded:.1f} ({sharded / plain:.2f})")


def _rate(output: Path, since: str) -> float:
    """Images a second from the first such event to the end."""
    begin, end = log(output, since)[0], log(output, "end")[0]
    return (end["done"] - begin["done"]) / (end["seconds"] - begin["seconds"])


def on_one_ray_node(work: Path, scale: float, photos: Path | None) -> None:
    """Ray beside the local engine, and with a worker killed half way."""
    from fever_extract.jobs.ray import on_ray

    folder = photos or make_faces(work / "faces", round(2000 * scale) + 200)
    checkpoint, options = hub.load(None), Options(show_progress=False)

    def do(name, engine):
        sharded.run(Job(folder, work / name, options), checkpoint, engine, shard_rows=100)
        return _rate(work / name, "first")

    here = do("local", local(2))
    rayed = do("ray", on_ray(concurrency=2))
    print(f"  local {here:.1f}, Ray {rayed:.1f} images/s: {rayed / here:.2f}")
    print("  " + same(work / "ray", work / "local"))
    killer = _when(lambda: shards.shards_in(work / "killed"), _kill_one)
    do("killed", on_ray(concurrency=2))
    killer.join()
    print("  with a worker killed: " + same(work / "killed", work / "local"))


def on_two_ray_nodes(work: Path, scale: float, photos: Path | None) -> None:
    """Two nodes, one of which is lost half way."""
    import ray
    from ray.cluster_utils import Cluster

    from fever_extract.jobs.ray import on_ray

    folder = make_faces(work / "in", round(2000 * scale) + 200)
    checkpoint, options = hub.load(None), Options(show_progress=False)
    sharded.run(Job(folder, work / "whole", options), checkpoint, local(2))
    head = {"num_cpus": 1, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    killer = _when(
        lambda: len(shards.shards_in(work / "out")) > 1,
        lambda: cluster.remove_node(node, allow_graceful=False),
    )
    engine = on_ray(concurrency=2)
    sharded.run(Job(folder, work / "out", options), checkpoint, engine, shard_rows=100)
    killer.join()
    alive = sum(node["Alive"] for node in ray.nodes())
    ray.shutdown()
    cluster.shutdown()
    print(f"  {alive} of 2 nodes left at the end: " + same(work / "out", work / "whole"))


def _when(condition, action) -> threading.Thread:
    def wait() -> None:
        while not condition():
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def _kill_one() -> None:
    os.kill(workers()[0], signal.SIGKILL)


ROWS = {
    "kills": kills,
    "workers": kill_workers,
    "hostile": hostile_files,
    "resume": resume,
    "names": many_names,
    "overhead": overhead,
    "ray": on_one_ray_node,
    "nodes": on_two_ray_nodes,
}


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("rows", nargs="+", choices=[*ROWS, "all"])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--work", type=Path, help="where to put what is made (removed again)")
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    for row in ROWS if "all" in chosen.rows else chosen.rows:
        print(f"{row}: {ROWS[row].__doc__.splitlines()[0]}", flush=True)
        begin = time.time()
        with tempfile.TemporaryDirectory(dir=chosen.work) as work:
            ROWS[row](Path(work), 0.05 if chosen.quick else 1.0, chosen.photos)
        print(f"  ({time.time() - begin:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
