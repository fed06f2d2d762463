"""The training submodule, on faces that it is handed in the real format."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from faces_maker import NAMES, drawn_face, make_tables, without_blendshapes
from torch._dynamo.utils import counters

from fever_extract import Extractor, hub
from fever_extract.models.config import Backbone
from fever_extract.models.network import build
from fever_extract.training.data import augment, majority, read_ferplus, read_unlabelled
from fever_extract.training.evaluation.evaluate import Accuracy, evaluate_head
from fever_extract.training.recipes.recipe import RECIPES, Recipe
from fever_extract.training.trainer.losses import masked_mean_square, soft_cross_entropy
from fever_extract.training.trainer.train import Run, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("data"))


RECIPE = Recipe(
    name="test",
    backbone=Backbone(widths=(8, 16), depths=(1, 1)),
    embedding_dim=8,
    size=32,
    epochs=4,
    batch_size=32,
    unlabelled=4,
    peak_lr=0.01,
)


def test_reading(folder):
    faces = read_ferplus(folder, "train")
    assert faces.images.shape == (180, 48, 48)
    assert faces.blendshape_names == tuple(NAMES)
    assert np.isnan(faces.landmarks).all(axis=(1, 2)).sum() == 18
    happy = faces.expression[:, 1] == 1
    assert np.allclose(faces.expression[~happy, 0], 7 / 9), "single votes are dropped"
    assert set(majority(faces.expression)) == {0, 1}
    assert read_unlabelled(folder).images.shape == (40, 96, 96)


def test_majority_is_more_than_half():
    shares = np.array([[0.5, 0.5], [0.51, 0.49], [0.4, 0.2], [0.0, 0.0]])
    assert majority(shares).tolist() == [-1, 0, -1, -1]


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ferplus\.parquet is missing; .*--data"):
        read_ferplus(tmp_path, "train")


def test_it_learns_and_its_weights_load(folder, tmp_path):
    output = train(dataclasses.replace(RECIPE, epochs=30), folder, tmp_path / "run", device="cpu")
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == list(range(1, 31))
    assert log[-1]["expression_loss"] < log[0]["expression_loss"]
    assert log[-1]["valid_accuracy"] > 0.9
    weights = hub.load(output)
    network = build(weights.config, weights.state_dict)
    assert evaluate_head(network, read_ferplus(folder, "test")).accuracy > 0.9
    extractor = Extractor(output, device="cpu")
    assert extractor.config.metadata["recipe"]["epochs"] == 30
    smile = drawn_face(True, 48, np.random.default_rng(5))
    (record,) = extractor.extract_records(smile, aligned=True)
    assert record.face.expression == "happiness"
    assert record.face.blendshapes["mouthSmileLeft"] > 0.5


@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler")
def test_a_compiled_run_learns_the_same(folder, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=2, ema=0.9)
    logs, keys, graphs = [], [], []
    for compiled in (False, True):
        output = train(recipe, folder, tmp_path / str(compiled), device="cpu", compiled=compiled)
        graphs.append(counters["stats"]["unique_graphs"])
        lines = (output / "log.jsonl").read_text().splitlines()
        logs.append([json.loads(line)["expression_loss"] for line in lines])
        keys.append(set(hub.load(output).state_dict))
    assert graphs[1] > graphs[0]
    assert logs[0] == pytest.approx(logs[1], rel=0.05)
    assert keys[0] == keys[1]


def test_a_run_goes_on_where_it_was_stopped(folder, tmp_path):
    whole = train(RECIPE, folder, tmp_path / "whole", device="cpu")
    stopped = Run(RECIPE, folder, tmp_path / "stopped", device="cpu")
    for _ in range(2):
        stopped.train_epoch()
    resumed = train(RECIPE, folder, tmp_path / "stopped", device="cpu")
    assert (whole / "model.safetensors").read_bytes() == (
        resumed / "model.safetensors"
    ).read_bytes()


def test_labelled_faces_alone(folder, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.copy(folder / "ferplus.parquet", tmp_path / "data")
    recipe = dataclasses.replace(RECIPE, epochs=1, unlabelled=0)
    train(recipe, tmp_path / "data", tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize("without", [("ferplus",), ("faces",), ("ferplus", "faces")])
def test_tables_without_blendshapes(folder, tmp_path, without):
    """As `prepare` makes them of what a data set's owner distributes."""
    shutil.copytree(folder, tmp_path / "data")
    without_blendshapes(tmp_path / "data", *(f"{name}.parquet" for name in without))
    recipe, run = dataclasses.replace(RECIPE, epochs=1), tmp_path / "run"
    if "faces" in without:
        with pytest.raises(ValueError, match='give --teacher, or a recipe with "unlabelled": 0'):
            train(recipe, tmp_path / "data", run, device="cpu")
        recipe = dataclasses.replace(recipe, unlabelled=0)
    train(recipe, tmp_path / "data", run, device="cpu")
    log = json.loads((run / "log.jsonl").read_text())
    assert np.isfinite([log["expression_loss"], log.get("blendshape_loss", 0)]).all()
    known = Extractor(run, device="cpu").config.blendshapes
    assert known == (() if without == ("ferplus", "faces") else tuple(NAMES))
    if "faces" in without:
        taught = dataclasses.replace(recipe, unlabelled=4, distill_weight=0.5)
        output = tmp_path / "taught"
        train(taught, tmp_path / "data", output, device="cpu", teachers=[run])
        assert (output / "model.safetensors").is_file()


def test_a_recipe_with_teachers_asks_for_them(folder, tmp_path):
    for choice in ({"distill_weight": 0.5}, {"geometry_weight": 1.0, "geometry_teachers": 0.2}):
        with pytest.raises(ValueError, match="test learns from teachers: give --teacher"):
            train(dataclasses.replace(RECIPE, **choice), folder, tmp_path / "run", device="cpu")


def test_another_recipe_does_not_go_on(folder, tmp_path):
    one = dataclasses.replace(RECIPE, epochs=1)
    train(one, folder, tmp_path / "run", device="cpu")
    with pytest.raises(ValueError, match="another recipe"):
        train(RECIPE, folder, tmp_path / "run", device="cpu")
    with pytest.raises(ValueError, match="other weights"):
        train(one, folder, tmp_path / "run", device="cpu", init=tmp_path / "run")


def test_a_run_may_begin_from_weights(folder, tmp_path):
    one = dataclasses.replace(RECIPE, epochs=1)
    first = train(one, folder, tmp_path / "first", device="cpu")
    second = train(one, folder, tmp_path / "second", device="cpu", init=first)
    metadata = Extractor(second, device="cpu").config.metadata
    assert metadata["init"] == Extractor(first, device="cpu").sha256
    losses = [
        json.loads((run / "log.jsonl").read_text())["expression_loss"] for run in (first, second)
    ]
    assert losses[1] < losses[0]


def test_too_few_faces_for_a_batch(folder, tmp_path):
    with pytest.raises(ValueError, match="don't fill one batch of 1000"):
        train(dataclasses.replace(RECIPE, batch_size=1000), folder, tmp_path / "run", device="cpu")


def test_our_recipes_can_be_read(tmp_path):
    assert Recipe.read("base").name == "fever-base"
    ours = [path for path in RECIPES.glob("*.json") if not path.stem.startswith("general")]
    assert all(Recipe.read(path).epochs for path in ours)
    stages = [Recipe.read("deepfever", taught=taught).name for taught in (False, True)]
    assert stages == ["deepfever-teacher", "deepfever-student"]
    (tmp_path / "odd.json").write_text('{"name": "x", "speed": 3}')
    with pytest.raises(ValueError, match="speed"):
        Recipe.read(tmp_path / "odd.json")
    for text, named in (
        ('{"epochs": 3}', "name"),
        ('{"name": "x", "backbone": {"widths": [8], "depths": [1]}}', "name"),
        ('{"name": "x", "tables": [{"table": "a.parquet", "cuont": 3}]}', "cuont"),
    ):
        (tmp_path / "odd.json").write_text(text)
        with pytest.raises(ValueError, match=rf"odd\.json.*{named}"):
            Recipe.read(tmp_path / "odd.json")


def test_soft_labels_weigh_by_their_sum():
    logits = torch.zeros(3, 8)
    target = torch.zeros(3, 8)
    target[0, 0], target[1, 0] = 1.0, 0.5
    expected = np.log(8) * (1 + 0.5) / 2
    assert soft_cross_entropy(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_missing_blendshapes_do_not_count():
    values = torch.tensor([[0.5, 0.5], [0.5, 0.5]], requires_grad=True)
    target = torch.tensor([[0.0, float("nan")], [float("nan"), float("nan")]])
    loss = masked_mean_square(values, target, torch.ones(2))
    assert loss.item() == pytest.approx(0.25)
    loss.backward()
    assert torch.isfinite(values.grad).all()


def test_a_mirror_image_swaps_left_and_right():
    names = ("browLeft", "jawOpen", "browRight")
    assert augment.mirrored_names(names).tolist() == [2, 1, 0]


def test_crops_are_moved_by_the_recipe_s_amount():
    matrices = torch.tensor([[1.5, 0.2, 3.0], [-0.2, 1.5, 4.0]]).repeat(200, 1, 1)
    centre = torch.tensor([16.0, 16.0, 1.0])
    moved = {
        amount: augment.jitter(matrices, 32, torch.Generator().manual_seed(0), amount) - matrices
        for amount in (0.0, 0.5, 1.0)
    }
    assert moved[0.0].abs().max() < 1e-5
    half, full = ((moved[amount] @ centre).norm(dim=1) for amount in (0.5, 1.0))
    assert full.min() > 0
    assert torch.allclose(half, full / 2, rtol=1e-3, atol=1e-4)


def test_distortion_is_repeatable_and_in_range():
    crops = torch.rand(16, 1, 64, 64) * 255
    once = augment.distort(crops, torch.Generator().manual_seed(3))
    again = augment.distort(crops, torch.Generator().manual_seed(3))
    assert torch.equal(once, again)
    assert once.min() >= 0
    assert once.max() <= 255
    assert not torch.equal(once, crops)


def test_accuracy_by_class():
    measured = Accuracy.of(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    assert measured.accuracy == 0.75
    assert measured.by_class["neutral"] == pytest.approx(2 / 3)
    assert measured.mean_class_accuracy == pytest.approx((2 / 3 + 1) / 2)
