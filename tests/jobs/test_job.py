"""A folder of shards, with real processes that are stopped, killed and starved."""

import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import duckdb
import hostile
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from engines import here

import fever_extract
from fever_extract import Options, Status, cli
from fever_extract.cli import commands
from fever_extract.jobs import sharded
from fever_extract.jobs.engine import local
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import NoImagesError
from fever_extract.tables import shards

SIZE = 16
"""Inputs of a shard here."""


def run(extractor, sources, output, batch_size=4, engine=here, *, overwrite=False):
    """A job; `local` workers are for tests of what becomes of them: each imports torch."""
    job = Job(sources, output, Options(batch_size=batch_size), device="cpu", overwrite=overwrite)
    return sharded.run(job, extractor._checkpoint, engine, shard_rows=SIZE)


@pytest.fixture(scope="module")
def photos_folder(tmp_path_factory, astronaut, landscape):
    """41 pictures: 38 with a face, one without, two broken."""
    from PIL import Image

    root = tmp_path_factory.mktemp("photos")
    (root / "sub").mkdir()
    for index in range(38):
        picture = astronaut.resize((120 + 2 * index, 120 + index))
        picture.save(root / ("sub" if index % 3 else "") / f"{index:02}.jpg")
    (root / "10b.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    (root / "sub" / "20b.png").write_bytes(b"")
    Image.fromarray(landscape).resize((320, 213)).save(root / "zzz.webp")
    return root


@pytest.fixture(scope="module")
def whole(extractor, photos_folder, tmp_path_factory):
    """That folder's table as one uninterrupted job makes it."""
    output = tmp_path_factory.mktemp("whole") / "out"
    summary = run(extractor, photos_folder, output, engine=local(2))
    return summary, output


def read(output):
    return ds.dataset(output, format="parquet").to_table()


def log(output):
    lines = (output / "_job" / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def assert_same(output, expected):
    """Row for row: all columns as they are, numbers within the contract's 1e-4."""
    (x, table), (y, wanted) = fever_extract.load(output), fever_extract.load(expected)
    for name in ("path", "status", "error", "face_index", "expression", "mtime_ns", "file_size"):
        assert table[name].to_pylist() == wanted[name].to_pylist(), name
    np.testing.assert_allclose(x, y, atol=1e-4)
    np.testing.assert_allclose(table["score"].to_numpy(), wanted["score"].to_numpy(), atol=1e-4)


def test_the_same_rows_as_one_table(extractor, photos_folder, whole, tmp_path):
    summary, output = whole
    extractor.extract_folder(photos_folder, tmp_path / "f.parquet")
    x, table = fever_extract.load(output)
    y, expected = fever_extract.load(tmp_path / "f.parquet")
    assert table.drop_columns(["file_size", "mtime_ns"]).column_names == expected.column_names
    for name in ("path", "status", "error", "face_index", "expression"):
        assert table[name].to_pylist() == expected[name].to_pylist()
    assert x.shape == (41, extractor.embedding_dim)
    np.testing.assert_allclose(x, y, atol=1e-4)
    assert summary.images == 41
    assert summary.statuses == {Status.OK: 38, Status.NO_FACE: 1, Status.DECODE_ERROR: 2}
    assert len(summary.failures) == 3
    assert [file.name for file in shards.shards_in(output)] == [
        "part-000000.parquet",
        "part-000001.parquet",
        "part-000002.parquet",
    ]


def test_every_reader_takes_the_folder(extractor, whole):
    _, output = whole
    x, table = fever_extract.load(output)
    paths = table["path"].to_pylist()
    assert read(output)["path"].to_pylist() == paths
    assert read(output).schema.field("embedding").type == pa.list_(pa.float32(), x.shape[1])
    frame = pd.read_parquet(output)
    assert frame["path"].tolist() == paths
    np.testing.assert_array_equal(np.stack(frame["embedding"]), x)
    lazy = pl.scan_parquet(f"{output}/*.parquet").collect()
    assert lazy["path"].to_list() == paths
    np.testing.assert_array_equal(lazy["embedding"].to_numpy(), x)
    query = f"select path, embedding from read_parquet('{output}/*.parquet')"
    rows = duckdb.sql(query).fetchall()
    assert [path for path, _ in rows] == paths
    np.testing.assert_array_equal(np.array([vector for _, vector in rows], np.float32), x)
    mapped, _ = fever_extract.load(output, memory_map=True)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, x)


def test_the_log_says_how_it_goes(whole):
    _, output = whole
    lines = log(output)
    assert lines[0]["event"] == "start"
    assert [line["file"] for line in lines if line["event"] == "shard"]
    assert lines[-1]["event"] == "end"
    assert lines[-1]["statuses"] == {"ok": 38, "no_face": 1, "decode_error": 2}
    assert (lines[-1]["done"], lines[-1]["total"], lines[-1]["eta_seconds"]) == (41, 41, 0)
    assert lines[-1]["images_per_second"] > 0
    manifest = json.loads((output / "_job" / "manifest.json").read_text())
    assert (manifest["inputs"], manifest["finished"]) == (41, True)
    assert len(manifest["made_by"]["weights_sha256"]) == 64


def test_new_changed_and_removed_photographs(extractor, photos_folder, astronaut, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.jpg", "c.jpg", "d.jpg"):
        (folder / name).write_bytes((photos_folder / "00.jpg").read_bytes())
    run(extractor, folder, tmp_path / "out")
    assert run(extractor, folder, tmp_path / "out").reused == 3

    (folder / "a.jpg").write_bytes((photos_folder / "03.jpg").read_bytes())
    (folder / "c.jpg").write_bytes(b"broken now")
    (folder / "d.jpg").unlink()
    summary = run(extractor, folder, tmp_path / "out")
    table = read(tmp_path / "out")
    assert table["path"].to_pylist() == ["a.jpg", "b.jpg", "c.jpg"]
    assert table["status"].to_pylist() == ["ok", "ok", "decode_error"]
    assert (summary.reused, summary.removed) == (1, 1)
    assert "1 are no more" in str(summary)
    assert [line["paths"] for line in log(tmp_path / "out") if line["event"] == "removed"] == [
        ["d.jpg"]
    ]

    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).unlink()
    (folder / "other.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="none of them is among the 1 that were given"):
        run(extractor, folder, tmp_path / "out")
    (folder / "other.jpg").unlink()
    with pytest.raises(NoImagesError, match="no images in"):
        run(extractor, folder, tmp_path / "out")
    assert read(tmp_path / "out").num_rows == 3


def test_other_settings_are_refused(extractor, photos_folder, whole, tmp_path):
    _, output = whole
    with pytest.raises(ValueError, match=r"normalize was False, is True.*--overwrite"):
        extractor.extract_folder(photos_folder, output, normalize=True)
    other = fever_extract.Extractor(Path(__file__).parents[1] / "checkpoints" / "v1", device="cpu")
    with pytest.raises(ValueError, match="weights_sha256 was"):
        other.extract_folder(photos_folder, f"{output}/")
    single = photos_folder / "00.jpg"
    run(extractor, single, tmp_path / "out")
    summary = extractor.extract_folder(
        single, tmp_path / "out", normalize=True, overwrite=True, engine=here
    )
    assert (summary.images, summary.reused) == (1, 0)
    x, _ = fever_extract.load(tmp_path / "out")
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)


def test_overwriting_waits_for_something_to_do(extractor, photos_folder, tmp_path):
    """A mistake in the sources costs no shard; a damaged manifest can be overwritten."""
    single, output = photos_folder / "00.jpg", tmp_path / "out"
    run(extractor, single, output)
    (tmp_path / "list.csv").write_text("name,label\n00.jpg,1\n")
    for source in (f"{photos_folder}/*.jpgg", tmp_path / "list.csv"):
        with pytest.raises(ValueError, match=r"no images in|no column 'path'"):
            run(extractor, source, output, overwrite=True)
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        extractor.extract_folder(single, output, overwrite=True, workers=0)
    command = ["extract", single, "-o", output, "--overwrite", "--device", "cuda:99"]
    assert cli.main(list(map(str, command))) == commands.WRONG_USAGE
    assert fever_extract.load(output)[0].shape == (1, extractor.embedding_dim)
    (output / "_job" / "manifest.json").write_text('{"format"')
    with pytest.raises(ValueError, match=r"damaged .*--overwrite"):
        run(extractor, single, output)
    assert run(extractor, single, output, overwrite=True).reused == 0


def test_a_folder_of_others_is_left_alone(extractor, photos_folder, tmp_path):
    (tmp_path / "mine.parquet").write_bytes(b"precious")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"mine\.parquet, which is of no job"):
            run(extractor, photos_folder, tmp_path, overwrite=overwrite)
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        run(extractor, photos_folder, tmp_path / "missing" / "out")
    assert (tmp_path / "mine.parquet").read_bytes() == b"precious"


def test_what_is_not_of_the_job_stays(extractor, photos_folder, tmp_path):
    single, output = photos_folder / "00.jpg", tmp_path / "out"
    output.mkdir()
    (tmp_path / "elsewhere").write_text("precious")
    (output / ".lock").symlink_to(tmp_path / "elsewhere")
    foreign = [".mine.tmp", ".part-000000.parquet.1.tmp", "part-mine.txt", "part-1.parquet.bak"]
    for name in foreign:
        (output / name).write_text("precious")
    run(extractor, single, output)
    (output / "_job" / "mine.txt").write_text("precious")
    (output / "_job" / "previous").mkdir()
    (output / "_job" / "previous" / "mine").write_text("precious")
    for overwrite in (False, True):
        assert run(extractor, single, output, overwrite=overwrite).images == 1
    for name in (*foreign, "_job/mine.txt", "_job/previous/mine"):
        assert (output / name).read_text() == "precious"
    assert (tmp_path / "elsewhere").read_text() == "precious"
    (output / "part-000009.parquet").write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"part-000009\.parquet, which is of no job"):
        run(extractor, single, output, overwrite=True)
    assert read_only(output / "part-000000.parquet")


def read_only(shard):
    """A shard by itself."""
    return pq.read_table(shard).num_rows == 1


@pytest.mark.parametrize("content", [{"notes.txt": "mine"}, {"manifest.json": '{"mine": 1}'}])
def test_a_foreign_folder_of_that_name_stays(extractor, photos_folder, tmp_path, content):
    (tmp_path / "_job").mkdir()
    for name, text in content.items():
        (tmp_path / "_job" / name).write_text(text)
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="holds _job, which is of no job"):
            run(extractor, photos_folder / "00.jpg", tmp_path, overwrite=overwrite)
    assert {file.name: file.read_text() for file in (tmp_path / "_job").iterdir()} == content


def test_what_a_killed_job_left_is_removed(extractor, photos_folder, tmp_path):
    run(extractor, photos_folder / "00.jpg", tmp_path)
    left = [
        tmp_path / f".fever-extract-{'0' * 32}.tmp",
        tmp_path / "_job" / f".fever-extract-{'1' * 32}.tmp",
    ]
    for file in left:
        file.touch()
    run(extractor, photos_folder / "00.jpg", tmp_path)
    assert not any(file.exists() for file in left)


def test_archives_lists_and_odd_names_in_one_job(extractor, photos_folder, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(photos_folder / "00.jpg", "deep/00.jpg")
    odd = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")
    with open(odd, "wb") as file:
        file.write((photos_folder / "03.jpg").read_bytes())
    (tmp_path / "l.txt").write_bytes(odd + b"\n" + os.fsencode(photos_folder / "gone.jpg"))
    sources = [tmp_path / "a.tar", tmp_path / "l.txt"]
    for _ in range(2):
        summary = run(extractor, sources, tmp_path / "out")
    assert summary.reused == 3
    x, table = fever_extract.load(tmp_path / "out")
    assert table["path"].to_pylist() == [
        f"{tmp_path}/a.tar/deep/00.jpg",
        f"{tmp_path}/caf\\xe9.jpg",
        f"{photos_folder}/gone.jpg",
    ]
    assert table["status"].to_pylist() == ["ok", "ok", "not_found"]
    direct = extractor.extract([photos_folder / "00.jpg", photos_folder / "03.jpg"])
    np.testing.assert_allclose(x[:2], direct, atol=1e-4)


def test_hostile_files_among_good_ones(extractor, photos_folder, astronaut, whole, tmp_path):
    names = hostile.write(tmp_path / "in" / "hostile", 150, seed=7, picture=astronaut)
    good = sorted(photos_folder.glob("*.jpg"))
    for index, file in enumerate(good):
        (tmp_path / "in" / f"{index:02}.jpg").write_bytes(file.read_bytes())
    run(extractor, tmp_path / "in", tmp_path / "out", 16, local(1))
    x, table = fever_extract.load(tmp_path / "out")
    y, wanted = fever_extract.load(whole[1])
    assert len(table) == 150 + len(good)
    expected = dict(zip(wanted["path"].to_pylist(), y))
    for index, file in enumerate(good):
        np.testing.assert_allclose(x[index], expected[file.name], atol=1e-4)
    statuses = dict(zip(table["path"].to_pylist(), table["status"].to_pylist()))
    assert {statuses[f"hostile/{name}"] for name in names} >= {"ok", "decode_error"}
    vectors = x[np.array(table["status"].to_pylist()) == "ok"]
    assert np.isfinite(vectors).all()


def test_what_hangs_or_devours_memory_is_recorded(extractor, photos_folder, tmp_path):
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / name).write_bytes((photos_folder / "00.jpg").read_bytes())
    (tmp_path / "b_hangs.jpg").write_bytes(hostile.hanging_jpeg())
    (tmp_path / "d_devours.png").write_bytes(hostile.large_png())
    engine = local(1, timeout=3.0, memory_limit=1_000_000_000)
    summary = run(extractor, tmp_path, tmp_path / "out", 1, engine)
    assert summary.statuses == {Status.OK: 2, Status.CRASHED: 2}
    errors = {path: error for path, _, error in summary.failures}
    assert "time ran out" in errors["b_hangs.jpg"]
    assert "GB of memory" in errors["d_devours.png"]
    assert "tried again alone" in errors["b_hangs.jpg"]
    assert {line["path"] for line in log(tmp_path / "out") if line["event"] == "crashed"} == set(
        errors
    )


def children(pid):
    """The worker processes of a job."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


def test_workers_that_are_killed_are_replaced(extractor, photos_folder, whole, tmp_path):
    rng = random.Random(3)
    finished = threading.Event()
    killed = []
    others = set(children(os.getpid()))  # of other tests

    def kill():
        while not finished.wait(0.5) and len(killed) < 3:
            workers = sorted(set(children(os.getpid())) - others)
            for child in rng.sample(workers, min(1, len(workers))):
                os.kill(child, signal.SIGKILL)
                killed.append(child)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run(extractor, photos_folder, tmp_path / "out", 2, local(2))
    finally:
        finished.set()
        killer.join()
    assert len(killed) >= 2
    assert [line for line in log(tmp_path / "out") if line["event"] == "worker"]
    assert_same(tmp_path / "out", whole[1])


CODE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job's is ignored
from fever_extract import cli
from fever_extract.jobs import sharded
sharded.run.__kwdefaults__.update(shard_rows=16, save_every=0.2)
sys.exit(cli.main(sys.argv[1:]))
"""


def start(source, output, workers=2):
    """The command in a process group of its own, with small shards that are saved often."""
    arguments = ["extract", source, "-o", output, "--batch-size", "2", "--workers", workers]
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_rows(process, output, rows):
    """Until so many rows are on disk."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if sum(pq.read_metadata(file).num_rows for file in shards.shards_in(output)) >= rows:
            return
        time.sleep(0.02)


def test_killed_at_any_moment_it_goes_on(extractor, photos_folder, whole, tmp_path):
    output = tmp_path / "out"
    for rows, workers in ((1, 2), (20, 1)):
        process = start(photos_folder, output, workers)
        wait_for_rows(process, output, rows)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        before = read(output).num_rows if shards.shards_in(output) else 0
        assert before >= rows
    summary = run(extractor, photos_folder, output)
    assert summary.reused >= before
    assert_same(output, whole[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_nothing_is_lost(extractor, photos_folder, whole, tmp_path, number):
    output = tmp_path / "out"
    process = start(photos_folder, output, workers=2 if number == signal.SIGINT else 1)
    wait_for_rows(process, output, 1)
    # Ctrl-C reaches the whole group, as here.
    os.killpg(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    stopped = next(line for line in log(output) if line["event"] == "stopped")
    assert error == (
        f"fever-extract: interrupted; {stopped['done']} of 41 images are in {output}; "
        "the same command goes on\n"
    )
    assert read(output).num_rows == stopped["done"] < 41
    summary = run(extractor, photos_folder, output)
    assert summary.reused == stopped["done"]
    assert_same(output, whole[1])


def test_a_second_signal_stops_it_at_once(extractor, photos_folder, whole, tmp_path):
    output = tmp_path / "out"
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "b.jpg", "d.jpg"):
        (tmp_path / "in" / name).write_bytes((photos_folder / "00.jpg").read_bytes())
    (tmp_path / "in" / "c.jpg").write_bytes(hostile.hanging_jpeg())  # in the second batch
    process = start(tmp_path / "in", output, workers=1)
    wait_for_rows(process, output, 2)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None, "it waits for the batch in hand, which hangs"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=8)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert read(output).num_rows >= 2


def test_two_runs_don_t_meet(extractor, photos_folder, tmp_path):
    process = start(photos_folder, tmp_path / "out", workers=1)
    while process.poll() is None and not (tmp_path / "out" / "_job" / "manifest.json").exists():
        time.sleep(0.02)
    with pytest.raises(OSError, match="another run is at work"):
        run(extractor, photos_folder, tmp_path / "out")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_full_disk(extractor, photos_folder, tmp_path):
    output = tmp_path / "small"
    output.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=72k", "tmpfs", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"can't mount here: {done.stderr.strip()}")
    try:
        process = start(photos_folder, output, workers=1)
        _, error = process.communicate(timeout=120)
        assert process.returncode == 2
        assert error.count("\n") == 1
        assert "the disk is full; all shards in" in error
        kept = read(output)
        assert 0 < kept.num_rows < 41
        subprocess.run(["mount", "-o", "remount,size=10M", str(output)], check=True)
        summary = run(extractor, photos_folder, output)
        assert (summary.images, summary.reused) == (41, kept.num_rows)
    finally:
        subprocess.run(["umount", str(output)], check=True)
