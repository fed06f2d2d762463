"""Weights adapted to class folders: real faces that smile, and faces that don't."""

import dataclasses
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import OPEN_MOUTHS, SERIOUS, SMILING, write_faces
from PIL import Image
from torch.nn import functional as F

from fever_extract import Extractor, Options, hub
from fever_extract.models import checkpoint
from fever_extract.models.config import Backbone, Config, Preprocessing
from fever_extract.models.network import FeverNet, build
from fever_extract.pipeline import Pipeline
from fever_extract.training import __main__ as command
from fever_extract.training.adapt import adapt, with_new_head
from fever_extract.training.data.class_folders import DETAIL, find_classes, find_faces
from fever_extract.training.trainer import finetune
from fever_extract.training.trainer.start import TEMPLATE

CLASSES = {"serious": SERIOUS, "smiling": SMILING}
LEARNED = 8  # of each; the rest is never shown


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    for name, numbers in CLASSES.items():
        write_faces(folder / name, numbers[:LEARNED])
    return folder


@pytest.fixture(scope="module")
def unseen(tmp_path_factory) -> list[Path]:
    """Faces of both classes; the name of the folder says which."""
    folder = tmp_path_factory.mktemp("unseen")
    written = [write_faces(folder / name, n[LEARNED:]) for name, n in CLASSES.items()]
    return [path for paths in written for path in paths]


@pytest.fixture(scope="module")
def tuned(folder, tmp_path_factory) -> Path:
    return adapt(folder, tmp_path_factory.mktemp("runs") / "tuned", epochs=3, device="cpu")


def right(extractor: Extractor, paths: list[Path]) -> int:
    records = extractor.extract_records(map(str, paths))
    return sum(record.face.expression == path.parent.name for record, path in zip(records, paths))


def test_fine_tuned_weights_tell_unseen_faces_apart(tuned, unseen, extractor):
    adapted = Extractor(tuned, device="cpu")
    assert adapted.config.expressions == ("serious", "smiling")
    assert right(adapted, unseen) >= 7, "of 8"
    made = adapted.config.metadata["adapted"]
    assert made["from"] == {"name": extractor.config.name, "sha256": extractor.sha256}
    assert made["faces"] == {"serious": 8, "smiling": 8}
    assert made["validation"]["faces"] == 4
    assert made["validation"]["accuracy"] >= 0.75
    assert made["epoch"] > 0
    card = (tuned / "README.md").read_text()
    assert f"Accuracy {made['validation']['accuracy']:.1%} on 4 validation faces" in card
    assert extractor.sha256 in card


def test_fine_tuning_moves_the_vectors(tuned, unseen, extractor):
    paths = list(map(str, unseen))
    adapted = Extractor(tuned, device="cpu")
    assert np.abs(adapted.extract(paths) - extractor.extract(paths)).max() > 1e-3
    assert adapted.config.blendshapes == extractor.config.blendshapes


def test_other_heads_are_held_to_what_they_said(folder, monkeypatch):
    """They move less than without that; labels that mean nothing pull the network hard."""
    weights = hub.load()
    paths = find_classes(folder)
    faces = find_faces(paths, Pipeline(weights, "cpu"), Options())
    faces = dataclasses.replace(faces, labels=torch.arange(len(faces)) % 2)
    before = build(weights.config, weights.state_dict)
    crops = F.avg_pool2d(faces.crops.float(), DETAIL)
    config = dataclasses.replace(weights.config, expressions=("even", "odd"), expression_prior=())
    moved = []
    for weight in (finetune.OTHER_HEADS, 0.0):
        monkeypatch.setattr(finetune, "OTHER_HEADS", weight)
        network = with_new_head(before, config, faces)
        # Of a batch each: held to what it said, a head first has to leave it.
        tuning = finetune.FineTuning(network, before, faces, epochs=10, seed=0)
        for _ in range(10):
            tuning.train_epoch()
        with torch.no_grad():
            now, then = (net(crops).heads["blendshapes"] for net in (network, before))
        moved.append((now - then).abs().mean().item())
    assert 0 < moved[0] < 0.5 * moved[1]


def test_a_seed_gives_the_same_weights_again(folder, tuned, tmp_path):
    again = adapt(folder, tmp_path / "again", epochs=3, device="cpu")
    other = adapt(folder, tmp_path / "other", epochs=3, seed=1, device="cpu")
    first, second, third = (checkpoint.read(run, "") for run in (tuned, again, other))
    assert first.data == second.data
    assert first.config.metadata == second.config.metadata
    assert first.data != third.data


@pytest.fixture
def mixed(folder, landscape, tmp_path) -> Path:
    """The same classes among pictures that can't be learned from."""
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    Image.fromarray(landscape).save(mixed / "serious" / "landscape.png")
    (mixed / "smiling" / "damaged.jpg").write_bytes(b"no picture")
    Image.fromarray(landscape).save(mixed / "loose.png")
    return mixed


@pytest.fixture
def run(monkeypatch, capsys):
    """The command without a process of its own; returns what it printed."""

    def run_here(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["training", *map(str, arguments)])
        command.main()
        return capsys.readouterr().out

    return run_here


def test_the_head_alone_leaves_vectors_as_they_are(mixed, unseen, run, extractor, tmp_path):
    """By the command; a picture without a face and one outside the classes are told of."""
    out = run("adapt", mixed, "--output", tmp_path / "head", "--head-only", "--device", "cpu")
    assert re.search(r"left out: \S+/serious/landscape\.png: no_face, ", out)
    assert re.search(r"left out: \S+/smiling/damaged\.jpg: decode_error, ", out)
    assert re.search(r"left out: \S+/loose\.png: in no class folder", out)
    adapted = Extractor(tmp_path / "head", device="cpu")
    paths = list(map(str, unseen))
    assert np.abs(adapted.extract(paths) - extractor.extract(paths)).max() < 1e-4
    assert right(adapted, unseen) >= 7, "of 8"
    assert adapted.config.metadata["adapted"]["faces"] == {"serious": 8, "smiling": 8}


def test_three_classes_from_weights_that_were_adapted_before(folder, tuned, tmp_path):
    for name, numbers in CLASSES.items():
        write_faces(tmp_path / "in" / name, numbers[:LEARNED])
    write_faces(tmp_path / "in" / "open mouth", OPEN_MOUTHS)
    output = adapt(tmp_path / "in", tmp_path / "w", weights=tuned, head_only=True, device="cpu")
    adapted = Extractor(output, device="cpu")
    assert adapted.config.expressions == ("open mouth", "serious", "smiling")
    assert adapted.config.metadata["adapted"]["from"]["name"] == "tuned"
    known = sorted((tmp_path / "in").glob("*/*.png"))
    assert right(adapted, known) >= 18, "of 21, most of which it learned from"


def test_other_networks_can_be_adapted_too(folder, tmp_path):
    """In colour, and without any head to begin with."""
    config = Config(
        name="colour",
        preprocessing=Preprocessing(32, "rgb", (128.0,) * 3, (64.0,) * 3, TEMPLATE),
        backbone=Backbone(widths=(8, 16), depths=(1, 1)),
        embedding_dim=16,
        expressions=(),
    )
    torch.manual_seed(0)
    checkpoint.save(tmp_path / "first", config, FeverNet(config).state_dict())
    output = adapt(folder, tmp_path / "w", weights=tmp_path / "first", epochs=1, device="cpu")
    adapted = Extractor(output, device="cpu")
    assert adapted.config.heads == {"expression": 2}
    assert adapted.extract(str(next(folder.glob("*/*.png")))).shape == (16,)


def test_folders_that_cannot_be_learned_from(folder, tmp_path):
    output = tmp_path / "w"
    with pytest.raises(FileNotFoundError, match="missing"):
        adapt(tmp_path / "missing", output)
    with pytest.raises(ValueError, match="has 0 folders and needs two at least: one for each"):
        adapt(folder / "smiling", output)
    (tmp_path / "in" / "smiling").mkdir(parents=True)
    (tmp_path / "in" / "serious").symlink_to(folder / "serious")
    with pytest.raises(ValueError, match=r"class 'smiling': no photographs in \S+smiling; add"):
        adapt(tmp_path / "in", output)
    assert not output.exists()
    write_faces(tmp_path / "in" / "smiling", SMILING[:4])
    (tmp_path / "in" / "smiling" / "damaged.jpg").write_bytes(b"no picture")
    with pytest.raises(
        ValueError, match="'smiling': faces were found in 4 of 5 photographs, and 5"
    ):
        adapt(tmp_path / "in", output, device="cpu")
    assert list(output.iterdir()) == []


def test_what_is_refused_before_any_work(folder, tuned, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="holds weights already"):
        adapt(folder, tuned)
    with pytest.raises(ValueError, match="would be a class of"):
        adapt(folder, folder / "weights")
    with pytest.raises(ValueError, match="epochs must be at least 1, not 0; head_only"):
        adapt(folder, tmp_path / "w", epochs=0)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'fever-extract\[training\]'"):
        adapt(folder, tmp_path / "w")
