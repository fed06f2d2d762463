"""The folder job on Ray: real nodes, which are real processes that can be killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from helpers import descendants, workers

import fever_extract
from fever_extract import Options
from fever_extract._pillow import PillowSettings
from fever_extract.jobs import sharded
from fever_extract.jobs.job import Job
from fever_extract.jobs.ray import on_ray
from fever_extract.jobs.worker import Work
from fever_extract.tables import shards
from fever_extract.tables.schema import Widths

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory, astronaut):
    """36 pictures of one face, one of them HEIF, and four files that are none."""
    root = tmp_path_factory.mktemp("photos")
    pillow_heif.from_pillow(astronaut).save(root / "35.heic")
    for index in range(35):
        astronaut.resize((120 + 2 * index, 120 + index)).save(root / f"{index:02}.jpg")
    for index in range(4):
        (root / f"{index:02}b.jpg").write_bytes(b"\xff\xd8 cut short")
    return root


@pytest.mark.slow
def test_a_node_and_a_worker_are_lost_half_way(extractor, photos_folder, tmp_path):
    """Two nodes; the worker process of one is killed, and then the other node as a whole."""
    from ray.cluster_utils import Cluster

    output = tmp_path / "out"
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
    lost = []

    def destroy():
        first = []
        while not finished.wait(0.05):
            if not lost and shards.shards_in(output):
                first = workers()
                for worker in first[:1]:
                    os.kill(worker, signal.SIGKILL)
                    lost.append("worker")
            # As soon as another has taken its place, and not when a further shard is there: shards
            # come in order, so that all may wait for the worker's, and then be there at once.
            elif lost and set(workers()) - set(first):
                cluster.remove_node(node, allow_graceful=False)
                lost.append("node")
                return

    finished = threading.Event()
    destroyer = threading.Thread(target=destroy)
    destroyer.start()
    try:
        job = Job(photos_folder, output, Options(batch_size=2))
        engine = on_ray(concurrency=2)
        summary = sharded.run(job, extractor._checkpoint, engine, shard_rows=4)
    finally:
        finished.set()
        destroyer.join()
        ray.shutdown()
        cluster.shutdown()
    assert lost == ["worker", "node"]
    assert summary.statuses == {"ok": 36, "decode_error": 4}

    extractor.extract_folder(photos_folder, tmp_path / "f.parquet")
    x, table = fever_extract.load(output)
    y, expected = fever_extract.load(tmp_path / "f.parquet")
    assert table["path"].to_pylist() == expected["path"].to_pylist()
    assert table["status"].to_pylist() == expected["status"].to_pylist()
    np.testing.assert_allclose(x, y, atol=1e-4)


@pytest.mark.slow
def test_the_example(tmp_path, astronaut):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        astronaut.save(tmp_path / "photos" / name)
    example = Path(__file__).parents[2] / "examples" / "ray_cluster.py"
    command = [sys.executable, example, tmp_path / "photos", f"{tmp_path}/features/"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "2 images in" in out
    assert "'path': 'b.png', 'status': 'ok', 'expression': 'happiness'" in out


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_ray_of_its_own_listens_to_this_machine_only(tmp_path):
    work = Work("", b"", "", Options(), all_faces=False, pillow=PillowSettings.of_this_process())
    with on_ray(concurrency=1)(work, Widths(4), tmp_path, lambda **_: None):
        addresses = listening()
    assert len(addresses) >= 3, "this process, the cluster's and the node's"
    # 127.0.0.1 as IPv4, as IPv6, and ::1.
    local = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert set(addresses) <= local
    assert not ray.is_initialized()


def listening() -> list[str]:
    """Addresses of the TCP servers of this process and of all below it, as in /proc/net/tcp."""
    servers = {}
    for name in ("tcp", "tcp6"):
        lines = Path("/proc/net", name).read_text().splitlines()[1:]
        parts = [line.split() for line in lines]
        servers |= {f"socket:[{p[9]}]": p[1].split(":")[0] for p in parts if p[3] == "0A"}
    found = []
    for pid in descendants():
        try:
            links = [os.readlink(file) for file in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        found += [servers[link] for link in links if link in servers]
    return found


def test_one_file_is_not_for_ray(photos_folder, tmp_path):
    from fever_extract import cli
    from fever_extract.cli import commands

    arguments = ["extract", str(photos_folder), "-o", str(tmp_path / "f.npz"), "--engine", "ray"]
    assert cli.main(arguments) == commands.WRONG_USAGE
