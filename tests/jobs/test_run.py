"""The one door to a job: what an output or an engine can't do is refused by name, at once."""

import json
from collections import Counter
from pathlib import Path

import pytest

from fever_extract import Extractor, Options, cli, hub
from fever_extract.cli import commands
from fever_extract.jobs._progress import Progress
from fever_extract.jobs.engine import local
from fever_extract.jobs.job import Job
from fever_extract.jobs.run import run

OLD = Path(__file__).parents[1] / "checkpoints" / "v1"

REFUSED = [
    ("f.npz", {"engine": "ray"}, "engine is for shards, and output f.npz is one file"),
    ("f.npz", {"engine": local(1)}, "engine is for shards"),
    ("f.npz", {"workers": 0}, "workers must be at least 1, not 0"),
    ("s3://bucket/out", {}, "s3:// addresses can't be written to; give a folder or file of this"),
    ("s3://", {}, "s3:// addresses can't be written to"),
    ("out/", {"engine": "spark"}, "engine must be 'local', 'ray' or an engine, not 'spark'"),
    ("out/", {"engine": local(1), "workers": 2}, "workers is for an engine by name"),
    ("out/", {"save_crops": "crops"}, "save_crops is for one table: .* not the folder out/"),
    ("out/", {"prior": "uniform"}, "needs weights with an expression_prior"),
    ("f.npz", {"prior": "uniform"}, "needs weights with an expression_prior"),
]


@pytest.fixture
def here(tmp_path, astronaut_path, monkeypatch):
    """A working directory with one photograph."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(astronaut_path.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def old():
    """Weights that don't say which prior they learned."""
    return Extractor(OLD, device="cpu")


@pytest.mark.parametrize(("output", "arguments", "message"), REFUSED)
def test_nothing_is_ignored(old, here, output, arguments, message):
    with pytest.raises(ValueError, match=message):
        old.extract_folder("in", output, **arguments)
    assert [path.name for path in here.iterdir()] == ["in"]


def test_the_command_goes_through_the_same_door(here, capsys):
    for more, message in {
        ("f.csv", "--workers", "0"): "workers must be at least 1, not 0",
        ("f.csv", "--engine", "ray"): "engine is for shards",
        ("out/", "--address", "auto"): "address is a Ray cluster's: it needs the engine 'ray'",
        ("out/", "--save-crops", "crops"): "save_crops is for one table",
    }.items():
        assert cli.main(["extract", "in", "-o", *more]) == commands.WRONG_USAGE
        assert message in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["in"]


def test_a_prior_that_the_weights_do_not_know_is_refused_before_any_image(old):
    with pytest.raises(ValueError, match="expression_prior"):
        old.extract([], prior="uniform")
    with pytest.raises(ValueError, match="expression_prior"):
        Extractor(OLD, device="cpu", prior="uniform")


def test_one_table_needs_no_extractor(extractor, here):
    options = Options(show_progress=False)
    summary = run(Job("in", "a.csv", options, device="cpu"), hub.load(None))
    extractor.extract_folder("in", "b.csv", workers=1, overwrite=True)
    assert summary.statuses == {"ok": 1}
    assert (here / "a.csv").read_bytes() == (here / "b.csv").read_bytes()


def test_events_go_to_the_log_file_and_to_logging(caplog, tmp_path):
    with caplog.at_level("INFO", logger="fever_extract"):
        hub.load(None)
        with Progress(tmp_path / "log.jsonl", 1, Counter(), 0, show=False) as progress:
            progress.say(event="removed", paths=["a\x1b[1m.jpg"])
    loaded, event = caplog.messages
    assert "from embedded, SHA-256" in loaded
    assert event == r"event='removed' paths=['a\x1b[1m.jpg']"
    assert json.loads((tmp_path / "log.jsonl").read_text())["event"] == "removed"
