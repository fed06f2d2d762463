"""Threads, forks, pickles and copies of an Extractor: all give the same vectors."""

import copy
import dataclasses
import pickle
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import run_script

from fever_extract import Extractor, FeverTransformer, WeightsError, hub
from fever_extract._utils.threads import _setters, map_batches, one_thread
from fever_extract.hub.download import Portable

V1 = Path(__file__).parent / "checkpoints" / "v1"

needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="forks without harm on Linux only")

# torch's threads are at work before the fork; a child that waits for them hangs.
PARENT = """
import os, sys, multiprocessing
import numpy as np, torch
from fever_extract import Extractor
path = sys.argv[1]
extractor = Extractor(device="cpu")
expected = extractor.extract([path, path])[0]
torch.rand(600, 600) @ torch.rand(600, 600)
(torch.rand(1_000_000) + 1).sum()
assert torch.get_num_threads() == 2

def check(_=None):
    (torch.rand(1_000_000) + 1).sum()  # the caller's own use of torch
    for inputs in (path, [path] * 3):
        vectors = np.atleast_2d(extractor.extract(inputs))
        np.testing.assert_allclose(vectors, [expected] * len(vectors), atol=1e-4)
    return torch.get_num_threads()
"""


CHILDREN = """
import threading
from concurrent.futures import ProcessPoolExecutor
fork = multiprocessing.get_context("fork")

def in_child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0

def calls():
    assert check() == 1
    new = Extractor(device="cpu").extract(path, dtype="bfloat16")
    assert new @ expected > 0.99 * np.linalg.norm(new) * np.linalg.norm(expected)

in_child(calls)
print("os.fork", flush=True)

def requests():  # as a server's worker after a preload: a thread for each request
    fine = []
    threads = [threading.Thread(target=lambda: fine.append(check())) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert fine == [1, 1, 1]

in_child(requests)
print("preload", flush=True)

with fork.Pool(2) as pool:
    assert pool.map(check, range(3)) == [1, 1, 1]
    np.testing.assert_allclose(pool.map(extractor.extract, [path] * 3), [expected] * 3, atol=1e-4)
print("Pool", flush=True)

with ProcessPoolExecutor(2, fork) as pool:
    assert list(pool.map(check, range(3))) == [1, 1, 1]
print("ProcessPoolExecutor", flush=True)

class Vectors(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return extractor.extract(path)

loader = torch.utils.data.DataLoader(
    Vectors(), batch_size=2, num_workers=2, multiprocessing_context="fork"
)
for batch in loader:
    np.testing.assert_allclose(batch.numpy(), [expected] * 2, atol=1e-4)
print("DataLoader", flush=True)
assert torch.get_num_threads() == 2
"""


@needs_fork
def test_forked_children_work(astronaut_path):
    assert run_script(PARENT + CHILDREN, astronaut_path).split() == [
        "os.fork",
        "preload",
        "Pool",
        "ProcessPoolExecutor",
        "DataLoader",
    ]


def test_a_spawned_process_gets_the_extractor(astronaut_path, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys, numpy as np\n"
        "from fever_extract import Extractor\n"
        "if __name__ == '__main__':\n"
        "    extractor = Extractor(device='cpu', normalize=True)\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        there = pool.map(extractor.extract, [sys.argv[1]] * 2)\n"
        "    here = extractor.extract(sys.argv[1])\n"
        "    np.testing.assert_allclose(there, [here] * 2, atol=1e-4)\n"
        "    print('done')\n"
    )
    code = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    assert run_script(code, script, astronaut_path).endswith("done\n")


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_a_copy_is_the_same(extractor, astronaut, make):
    original = Extractor(device="cpu", normalize=True, dtype="bfloat16")
    expected = original.extract(astronaut)
    copied = make(original)
    assert repr(copied) == repr(original)
    np.testing.assert_allclose(copied.extract(astronaut), expected, atol=1e-4)


def test_embedded_weights_travel_by_name(extractor):
    assert len(pickle.dumps(extractor)) < 2000
    sent = Portable.of(hub.load())
    assert sent.unpack().sha256 == extractor.sha256
    elsewhere = dataclasses.replace(sent, sha256=("0" * 64, "0" * 64), version="0.0.1")
    with pytest.raises(WeightsError, match=r"inside fever-extract 0\.0\.1 .*: use one version"):
        elsewhere.unpack()


@pytest.mark.parametrize("name", ["weights", "embedded"])
def test_a_folders_weights_travel_whole(astronaut, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(V1, name)
    original = Extractor(name, device="cpu")
    expected = original.extract(astronaut, fallback="whole")
    data = pickle.dumps(original)
    shutil.rmtree(name)
    arrived = pickle.loads(data)
    assert (arrived.sha256, arrived.source) == (original.sha256, original.source)
    np.testing.assert_allclose(arrived.extract(astronaut, fallback="whole"), expected, atol=1e-4)


def test_a_pickled_transformer_notices_other_weights(astronaut, tmp_path):
    shutil.copytree(V1, tmp_path / "weights")
    transformer = FeverTransformer(tmp_path / "weights", device="cpu", fallback="whole")
    data = pickle.dumps(transformer.fit([astronaut]))
    pickle.loads(pickle.dumps(pickle.loads(data))).transform([astronaut])
    config = (tmp_path / "weights" / "config.json").read_text()
    changed = config.replace('"name": "', '"name": "changed-', 1)
    (tmp_path / "weights" / "config.json").write_text(changed)
    arrived = pickle.loads(data)
    with pytest.raises(WeightsError, match=r"no longer those .* fit it again"):
        arrived.transform([astronaut])
    arrived.fit([astronaut]).transform([astronaut])


def test_nothing_of_torch_is_changed(astronaut):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    state = torch.get_rng_state()
    seen, stop = set(), threading.Event()

    def look():
        # New threads have the default, which must not change while others are at work.
        while not stop.is_set():
            thread = threading.Thread(target=lambda: seen.add(torch.get_num_threads()))
            thread.start()
            thread.join()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        extractor = Extractor(device="cpu")
        extractor.extract(astronaut)
        extractor.extract([astronaut] * 3, dtype="bfloat16")
        assert torch.get_num_threads() == 3
    finally:
        stop.set()
        watcher.join()
        torch.set_num_threads(before)
    assert seen == {3}
    assert torch.equal(torch.get_rng_state(), state)


def test_each_thread_has_one_of_torchs():
    assert _setters() is not None, "torch is linked to OpenMP wherever it comes from PyPI"
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        counts = set(map_batches(lambda batch: [torch.get_num_threads()] * len(batch), [0] * 9, 2))
        alone = list(map_batches(lambda batch: [threading.current_thread()], [0], 16))
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert counts == {1}
    assert alone == [threading.current_thread()]


STRESS = """
import sys
sys.path.insert(0, sys.argv[1])
import stress
stress.main([sys.argv[2], "--threads", "8", "--processes", "2", "--seconds", "8"])
"""


@pytest.mark.slow
@needs_fork
def test_threads_and_processes_and_dtypes_at_once(astronaut_path):
    benchmarks = Path(__file__).parents[1] / "benchmarks"
    assert "0 wrong" in run_script(STRESS, benchmarks, astronaut_path)
