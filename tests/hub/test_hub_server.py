"""Weights from the Hub and to it, against a real server on loopback."""

import json
import os
import shutil
import subprocess
import sys
import time

import huggingface_hub
import numpy as np
import pytest
from helpers import in_process
from hub_server import TOKEN, HubServer
from huggingface_hub import ModelCard, constants
from tiny import config

from fever_extract import Extractor, WeightsError
from fever_extract.hub import download as hub
from fever_extract.models import checkpoint
from fever_extract.models.network import FeverNet

PUBLISHED = {
    ".gitattributes",
    checkpoint.CONFIG,
    checkpoint.MODEL,
    checkpoint.CARD,
    checkpoint.PROCESSOR,
}
CHUNK = 20_000
LOAD = "from fever_extract import hub; print(hub.load('org/tiny').sha256)"


# Older ones ask again for a commit, begin a cut download anew and leave half a file behind; what
# is loaded is right with each of them.
since_hub_2 = pytest.mark.skipif(
    int(huggingface_hub.__version__.split(".")[0]) < 2, reason="needs huggingface_hub 2"
)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server, and huggingface_hub in this process pointed to it with an empty cache."""
    with HubServer() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        # Before 1.0 it was copied when it was imported.
        copied = "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE"
        monkeypatch.setattr(copied, template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        # It keeps connections, and whether it was offline when it made them.
        getattr(huggingface_hub.utils, "reset_sessions", lambda: None)()
        # 10 MB otherwise, more than the whole of a test's weights.
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tiny checkpoint's files, large enough to be cut in the middle."""
    folder = tmp_path_factory.mktemp("tiny")
    chosen = config(embedding_dim=2048)
    checkpoint.save(folder, chosen, FeverNet(chosen).state_dict())
    return {name: (folder / name).read_bytes() for name in (checkpoint.CONFIG, checkpoint.MODEL)}


def environment(server, cache, **more):
    """For another process: the server is its Hub."""
    return {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(cache),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }


def python(server, cache, code, **more):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=environment(server, cache, **more),
        check=False,
    )


def newest(server, name):
    """The files of a repository's last commit."""
    repository = server.repos[name]
    return repository.commits[repository.refs["main"]]


def assert_nothing_broken(cache, server):
    """What is left behind does no harm: the same weights load once the server is well."""
    server.cut_after, server.wrong_bytes = None, False
    assert hub.load("org/tiny", hub.HubOptions(cache_dir=cache)).config.name == "tiny"


def test_published_downloaded_and_offline(extractor, server, astronaut_path, tmp_path):
    """The embedded default to the server, to another process, and on without the server."""
    url = extractor.push_to_hub("org/fever", token=TOKEN, bundle=False)
    assert url.startswith(f"{server.url}/org/fever/commit/")
    assert set(newest(server, "org/fever")) == PUBLISHED

    code = (
        "import sys, numpy as np; from fever_extract import Extractor\n"
        "extractor = Extractor('org/fever', device='cpu')\n"
        f"np.save(sys.argv[1], extractor.extract({str(astronaut_path)!r}))\n"
        "print(extractor.sha256)"
    )

    def in_another_process(name):
        run = subprocess.run(
            [sys.executable, "-c", code, tmp_path / name],
            capture_output=True,
            text=True,
            env=environment(server, tmp_path / "home"),
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == extractor.sha256
        return np.load(tmp_path / name)

    expected = extractor.extract(astronaut_path)
    np.testing.assert_allclose(in_another_process("online.npy"), expected, atol=1e-4)
    server.stop()
    np.testing.assert_allclose(in_another_process("offline.npy"), expected, atol=1e-4)


def test_a_bundle_is_published_beside_the_weights(server, files):
    server.add("org/tiny", files)
    Extractor("org/tiny", device="cpu").push_to_hub("org/ours", token=TOKEN)
    published = newest(server, "org/ours")
    manifest = json.loads(published["onnx/bundle.json"])
    bundle = {f"onnx/{name}" for name in ("bundle.json", *manifest["files"])}
    assert set(published) == PUBLISHED | bundle


def test_the_card_is_read_by_the_hubs_own_reader(extractor, tmp_path):
    extractor.save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / checkpoint.CARD)
    assert card.data.license == "mit"
    assert card.data.library_name == "fever-extract"
    measured = {result.metric_name: result.metric_value for result in card.data.eval_results}
    evaluation = extractor.config.metadata["evaluation"]
    accuracy = measured["Accuracy: the network's own head"]
    assert accuracy == pytest.approx(evaluation["head"]["accuracy"], abs=1e-4)


def test_saved_weights_are_the_same_bytes(extractor, tmp_path):
    extractor.save_pretrained(tmp_path / "copy")
    assert hub.load(tmp_path / "copy").sha256 == extractor.sha256


def test_a_card_without_figures_says_so(server, files, tmp_path):
    server.add("org/tiny", files)
    Extractor("org/tiny", device="cpu").save_pretrained(tmp_path)
    assert "Nothing has been measured yet" in (tmp_path / checkpoint.CARD).read_text()


def test_revisions(server, files):
    old = server.add("org/tiny", files)
    server.repos["org/tiny"].refs["v1"] = old
    changed = {**files, checkpoint.CONFIG: files[checkpoint.CONFIG].replace(b'"tiny"', b'"newer"')}
    new = server.add("org/tiny", changed)
    assert hub.load("org/tiny").config.name == "newer"
    assert hub.load("org/tiny@v1").config.name == "tiny"
    assert hub.load("org/tiny", hub.HubOptions(revision=old)).config.name == "tiny"
    assert hub.load(f"org/tiny@{new}").config.name == "newer"


@since_hub_2
def test_a_cached_commit_needs_no_network_at_all(server, files):
    commit = server.add("org/tiny", files)
    hub.load(f"org/tiny@{commit}")
    server.requests.clear()
    hub.load(f"org/tiny@{commit}")
    assert server.requests == []


def test_local_files_only(server, files):
    server.add("org/tiny", files)
    with pytest.raises(WeightsError, match=r"not in the cache.*fever-extract download"):
        hub.load("org/tiny", hub.HubOptions(local_files_only=True))
    assert server.requests == []
    hub.load("org/tiny")
    server.requests.clear()
    hub.load("org/tiny", hub.HubOptions(local_files_only=True))
    assert server.requests == []


def test_only_what_is_needed_is_downloaded(server, files):
    server.add("org/tiny", {**files, "pytorch_model.bin": b"\x80pickle", "code.py": b"bad()"})
    folder = hub.download("org/tiny", hub.HubOptions())
    assert {path.name for path in folder.iterdir()} == {checkpoint.CONFIG, checkpoint.MODEL}
    assert not any("bin" in request or "code" in request for request in server.requests)


def test_publishing_to_a_branch_and_as_a_pull_request(server, files, tmp_path):
    server.add("org/tiny", files)
    extractor = Extractor("org/tiny", device="cpu")
    url = extractor.push_to_hub("org/tiny", create_pr=True, token=TOKEN, bundle=False)
    assert url.endswith("/org/tiny/discussions/1")
    extractor.push_to_hub("org/tiny", revision="v2", token=TOKEN, bundle=False)
    assert hub.load("org/tiny@v2").sha256 == extractor.sha256
    extractor.push_to_hub("org/secret", private=True, token=TOKEN, bundle=False)
    with pytest.raises(WeightsError, match=r"shows no such repository|refuses"):
        hub.load("org/secret", hub.HubOptions(token=False))
    assert hub.load("org/secret", hub.HubOptions(token=TOKEN)).sha256 == extractor.sha256


def test_publishing_without_the_right_to(server, extractor):
    with pytest.raises(WeightsError, match=r"could not publish to org/x: .*hf auth") as caught:
        extractor.push_to_hub("org/x", token="hf_wrong", bundle=False)
    assert "\n" not in str(caught.value)


def test_not_found(server):
    with pytest.raises(WeightsError, match=r"no folder here, and the Hub shows no such"):
        hub.load("org/none")


def test_gated(server, files):
    server.add("org/tiny", files, gated=True)
    with pytest.raises(WeightsError, match=r"is gated: ask for access"):
        hub.load("org/tiny", hub.HubOptions(token=False))
    assert hub.load("org/tiny", hub.HubOptions(token=TOKEN)).config.name == "tiny"


def test_a_wrong_revision(server, files):
    server.add("org/tiny", files)
    with pytest.raises(WeightsError, match="org/tiny has no revision 'v9'"):
        hub.load("org/tiny@v9")


def test_the_server_gone(server, files, tmp_path):
    server.stop()
    with pytest.raises(
        WeightsError, match="not in the cache, and the Hub can't be asked"
    ) as caught:
        hub.load("org/tiny")
    assert "\n" not in str(caught.value)


@since_hub_2
def test_a_connection_cut_half_way_goes_on_where_it_was(server, files):
    server.add("org/tiny", files)
    server.cut_after = 100_000
    assert hub.load("org/tiny").config.name == "tiny"
    assert server.ranges == ["bytes=100000-"], "five chunks were kept"


def begun(path):
    """Whether a partial file has content; small files are whole, and renamed, at any moment."""
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False


def test_a_killed_download_does_no_harm(server, files, tmp_path):
    server.add("org/tiny", files)
    home = tmp_path / "home"
    server.hold = 100_000  # the server sends this much of a large file, and then waits
    small_chunks = (
        f"from huggingface_hub import constants; constants.DOWNLOAD_CHUNK_SIZE = {CHUNK};"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", small_chunks + LOAD], env=environment(server, home)
    )
    deadline = time.monotonic() + 60
    while not any(begun(path) for path in home.rglob("*.incomplete")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    server.release()
    run = python(server, home, LOAD)
    assert run.returncode == 0, run.stderr


def test_two_processes_at_once(server, files, tmp_path):
    server.add("org/tiny", files)
    command = [sys.executable, "-c", LOAD]
    both = [
        subprocess.Popen(
            command, env=environment(server, tmp_path), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert len({process.communicate()[0] for process in both}) == 1
    assert [process.returncode for process in both] == [0, 0]


def test_a_file_whose_hash_is_wrong(server, files, tmp_path):
    server.add("org/tiny", files)
    server.wrong_bytes = True
    cache = tmp_path / "cache"
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged.*try again"):
        hub.load("org/tiny", hub.HubOptions(cache_dir=cache))
    assert_nothing_broken(cache, server)


def test_a_file_that_is_served_truncated(server, files, tmp_path):
    server.add("org/tiny", files)
    server.missing_bytes = 1000
    with pytest.raises(WeightsError, match=r"damaged|could not be downloaded"):
        hub.load("org/tiny", hub.HubOptions(cache_dir=tmp_path))
    server.missing_bytes = 0
    assert_nothing_broken(tmp_path, server)


def test_a_truncated_file_in_the_cache(server, files, tmp_path):
    server.add("org/tiny", files)
    options = hub.HubOptions(cache_dir=tmp_path)
    model = hub.download("org/tiny", options) / checkpoint.MODEL
    blob = model.resolve()
    blob.write_bytes(blob.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match="damaged"):
        hub.load("org/tiny", options)
    assert_nothing_broken(tmp_path, server)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({checkpoint.CONFIG: b"<html>sign in</html>"}, r"config\.json: not valid JSON"),
        ({checkpoint.MODEL: b"\x80\x04\x95 a pickle"}, "not a whole safetensors file"),
        (
            {checkpoint.MODEL: None, "pytorch_model.bin": b"\x80"},
            r"has no model\.safetensors.*never read",
        ),
        ({checkpoint.CONFIG: None}, r"has no config\.json"),
        ({checkpoint.CONFIG: b'{"model_type": "bert"}'}, "not a fever-extract config"),
    ],
)
def test_a_repository_of_another_kind(server, files, changes, message):
    given = {name: data for name, data in {**files, **changes}.items() if data is not None}
    server.add("org/odd", given)
    with pytest.raises(WeightsError, match=message) as caught:
        hub.load("org/odd")
    assert "org/odd" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format_version", 99, "upgrade"),
        ("embedding_dim", 10**12, "embedding_dim"),
        ("embedding_dim", 8192, r"embedding\.0\.weight.*\(2048, 16\).*\(8192, 16\)"),
    ],
)
def test_a_config_that_does_not_fit(server, files, field, value, message):
    values = json.loads(files[checkpoint.CONFIG])
    values[field] = value
    server.add("org/odd", {**files, checkpoint.CONFIG: json.dumps(values).encode()})
    with pytest.raises(WeightsError, match=message):
        Extractor("org/odd", device="cpu")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 kB, and a function that makes it read-only."""
    if os.name == "nt" or os.geteuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"can't mount here: {done.stderr.strip()}")

    mount("size=64k")
    yield folder, lambda: mount("remount,ro")
    subprocess.run(["umount", str(folder)], check=True)


@since_hub_2
def test_a_full_disk(server, files, small_disk, tmp_path):
    server.add("org/tiny", files)
    folder, _ = small_disk
    with pytest.raises(WeightsError, match=r"the disk is full; give another place") as caught:
        hub.load("org/tiny", hub.HubOptions(cache_dir=folder))
    assert "\n" not in str(caught.value)
    assert not list(folder.rglob("*.incomplete"))
    assert_nothing_broken(tmp_path / "cache", server)


def test_a_read_only_cache_without_it(server, files, small_disk):
    server.add("org/tiny", files)
    folder, make_read_only = small_disk
    make_read_only()
    with pytest.raises(WeightsError, match=r"the cache can't be written to; give another place"):
        hub.load("org/tiny", hub.HubOptions(cache_dir=folder))


def test_a_cache_that_can_not_be_written(server, files, tmp_path):
    """A file stands where the cache's folder should be: even root can't write there."""
    server.add("org/tiny", files)
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(WeightsError, match=r"could not be downloaded: .*cache") as caught:
        hub.load("org/tiny", hub.HubOptions(cache_dir=tmp_path / "blocked" / "cache"))
    assert "\n" not in str(caught.value)


def test_a_read_only_cache_with_everything_in_it(server, files, tmp_path):
    server.add("org/tiny", files)
    cache = tmp_path / "cache"
    hub.load("org/tiny", hub.HubOptions(cache_dir=cache))
    for path in [cache, *cache.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert hub.load("org/tiny", hub.HubOptions(cache_dir=cache)).config.name == "tiny"
    finally:
        for path in [cache, *cache.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(cache)


def test_the_commands(server, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code, out, err = in_process(capsys, "push", "org/ours", "--no-bundle")
    assert code == 0, err
    assert out.startswith(f"{server.url}/org/ours/commit/")
    assert err == "", "no progress bar in a log"
    code, out, err = in_process(capsys, "download", "org/ours")
    assert (code, err) == (0, "")
    assert sorted(os.listdir(out.strip())) == [
        checkpoint.CARD,
        checkpoint.CONFIG,
        checkpoint.MODEL,
    ]
    server.stop()
    code, out, err = in_process(capsys, "info", "org/ours")
    assert code == 0, err
    assert "(org/ours)" in out


def test_the_commands_end_in_one_line(server, capsys):
    for arguments in (["download", "org/none"], ["info", "org/none"], ["download", "../x"]):
        code, _, err = in_process(capsys, *arguments)
        assert code == 2
        assert len(err.strip().splitlines()) == 1, err
        assert err.startswith("fever-extract: ")
