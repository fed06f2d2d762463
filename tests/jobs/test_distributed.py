"""The folder job on Ray: real nodes, which are real processes that can be killed."""

import os
import signal
import threading

import numpy as np
import pillow_heif
import pytest
from helpers import workers

import fever_extract
from fever_extract import Options
from fever_extract.jobs import sharded
from fever_extract.jobs.ray import on_ray
from fever_extract.tables import shards

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
@pytest.mark.xdist_group("ray")
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
        summary = sharded.run(
            photos_folder,
            output,
            checkpoint=extractor._checkpoint,
            options=Options(batch_size=2),
            engine=on_ray(concurrency=2),
            shard_rows=4,
        )
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


def test_one_file_is_not_for_ray(photos_folder, tmp_path):
    from fever_extract import cli
    from fever_extract.cli import commands

    arguments = ["extract", str(photos_folder), "-o", str(tmp_path / "f.npz"), "--engine", "ray"]
    assert cli.main(arguments) == commands.WRONG_USAGE
