"""Outputs are whole, and nothing of others is touched: names, links, locks, what a kill leaves."""

import json
import multiprocessing
import os
import re
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import filelock
import pytest
from writers import write_often

from fever_extract._utils import files
from fever_extract.tables.writing import check_output, open_table

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such links and locks")

HOLD = """
import sys, time
from pathlib import Path
from fever_extract._utils.files import replace_atomically
from fever_extract.tables.writing import open_table
path = Path(sys.argv[1])
with open_table(path, {}) if sys.argv[2:] else replace_atomically(path):
    print("open", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder():
    """Start a process that is about to write a path, and end it."""
    started = []

    def start(path, *table):
        command = [sys.executable, "-c", HOLD, str(path), *table]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def ours(folder):
    return [name for name in os.listdir(folder) if name.startswith(".fever-extract-")]


def test_names_are_random_and_the_mode_is_the_usual_one(tmp_path):
    seen = set()
    for _ in range(3):
        with files.replace_atomically(tmp_path / "a") as temporary:
            assert re.fullmatch(r"\.fever-extract-[0-9a-f]{32}\.tmp", temporary.name)
            assert temporary.parent == tmp_path
            temporary.write_text("new")
            seen.add(temporary.name)
    assert len(seen) == 3
    (tmp_path / "usual").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert os.listdir(tmp_path).count("a") == 1
    assert not ours(tmp_path)
    os.chmod(tmp_path / "a", 0o600)
    with files.replace_atomically(tmp_path / "a") as temporary:
        temporary.write_text("newer")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_writers_of_one_file_never_mix(tmp_path):
    """As containers, whose processes have one number: each writer has a file of its own."""
    with ExitStack() as stack:
        writers = [files.replace_atomically(tmp_path / "a") for _ in range(20)]
        assert len({stack.enter_context(writer) for writer in writers}) == 20


def test_an_interrupt_as_the_file_is_made_leaves_none(tmp_path, monkeypatch):
    def interrupted(*_):
        assert ours(tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr(files.fcntl, "flock", interrupted)
    with pytest.raises(KeyboardInterrupt), files.replace_atomically(tmp_path / "a"):
        pass
    assert not os.listdir(tmp_path)


def test_an_interrupt_as_the_lock_is_made_leaves_none(tmp_path, monkeypatch):
    def interrupted(lock):
        Path(lock.lock_file).touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(filelock.FileLock, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt), files.exclusive(tmp_path / "a"):
        pass
    assert not os.listdir(tmp_path)


def test_what_a_kill_left_is_removed_and_what_lives_is_not(tmp_path, holder):
    dead, alive = holder(tmp_path / "a"), holder(tmp_path / "b")
    left = ours(tmp_path)
    assert len(left) == 2
    foreign = [".a.123.tmp", ".x.tmp", ".fever-extract-mine.tmp", ".fever-extract-0.tmp", "c.tmp"]
    for name in foreign:
        (tmp_path / name).write_text("precious")
    link = ".fever-extract-" + "0" * 32 + ".tmp"
    (tmp_path / link).symlink_to("c.tmp")
    dead.kill()
    dead.wait()
    with files.replace_atomically(tmp_path / "other") as temporary:
        temporary.write_text("new")
    assert len(set(ours(tmp_path)) & set(left)) == 1
    assert alive.poll() is None
    for name in foreign:
        assert (tmp_path / name).read_text() == "precious"
    assert (tmp_path / link).is_symlink()


def test_a_link_as_output_leads_to_what_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "t").write_text("old")
    (tmp_path / "link").symlink_to("far/t")
    (tmp_path / "new").symlink_to("far/u")
    for name in ("link", "new"):
        with files.replace_atomically(tmp_path / name) as temporary:
            assert temporary.parent == tmp_path / "far"
            temporary.write_text("new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == "new"
    with files.replace_atomically(tmp_path / "link", inside=True) as temporary:
        temporary.write_text("mine")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "t").read_text() == "new"


def test_a_device_behind_a_link_stays(tmp_path):
    (tmp_path / "t.csv").symlink_to("/dev/null")
    with (
        pytest.raises(OSError, match="is no regular file"),
        files.replace_atomically(tmp_path / "t.csv"),
    ):
        pass
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_two_runs_on_one_table(tmp_path, holder):
    process = holder(tmp_path / "t.csv", "table")
    (tmp_path / "same.csv").symlink_to("t.csv")
    for name in ("t.csv", "same.csv"):
        with (
            pytest.raises(OSError, match="another run is at work on"),
            open_table(tmp_path / name, {}),
        ):
            pass
    with open_table(tmp_path / "other.csv", {}):
        pass
    process.kill()
    process.wait()
    with open_table(tmp_path / "t.csv", {}):
        pass
    assert not ours(tmp_path)


def test_two_threads_on_one_table(tmp_path):
    told = []

    def again():
        try:
            with open_table(tmp_path / "t.csv", {}):
                pass
        except OSError as error:
            told.append(str(error))

    with open_table(tmp_path / "t.csv", {}):
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
        again()
    assert len(told) == 2
    assert all("another run is at work" in line for line in told)


def test_settings_of_another_beside_a_csv_table(tmp_path):
    beside = tmp_path / "t.csv.json"
    for content in ('{"mine": 1}', "[]", "", "no json", '"weights_sha256"'):
        beside.write_text(content)
        with pytest.raises(ValueError, match=r"t\.csv\.json.*not of this package; move it"):
            check_output(tmp_path / "t.csv")
        assert beside.read_text() == content
    beside.write_text(json.dumps({"weights_sha256": "0"}))
    check_output(tmp_path / "t.csv")
    with pytest.raises(OSError, match="too long"):
        check_output(tmp_path / ("n" * 251 + ".csv"))


def test_many_writers_of_one_file_end_well(tmp_path):
    """While each also removes what it takes for dead."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        assert all(pool.map(write_often, [(tmp_path, number) for number in range(4)]))
    assert len(set((tmp_path / "t").read_text())) == 1
    assert not ours(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_said_with_the_name(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*/a\.csv'"),
        files.replace_atomically(tmp_path / "a.csv"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert os.listdir(tmp_path) == []
