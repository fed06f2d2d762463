"""The paper's recipe, from files in their owners' formats to measures on RAF-DB."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SERIOUS, SMILING, write_csv, write_faces
from PIL import Image
from tiny import config

from fever_extract import Extractor
from fever_extract.models.network import FeverNet
from fever_extract.training import __main__ as command
from fever_extract.training.evaluation.affect import affect_measures
from fever_extract.training.recipes.recipe import RECIPES, Part, Recipe

FACE = [30, 30, 100, 100]  # x, y, width and height of the face in a picture of `write_faces`
KINDS = {"happiness": SMILING, "neutral": SERIOUS}


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["fever_extract.training", *map(str, arguments)])
    command.main()


def write_affectnet(root: Path) -> None:
    """Each face with expression, valence and arousal; every fourth is to validate with."""
    header = (
        "subDirectory_filePath face_x face_y face_width face_height facial_landmarks expression "
        "valence arousal"
    ).split()
    rows = {"training": [header], "validation": []}
    for label, valence, numbers in ((1, 0.8, SMILING), (0, -0.1, SERIOUS)):
        folder = root / "Manually_Annotated_Images" / str(label)
        for index, path in enumerate(write_faces(folder, numbers)):
            arousal = (index % 5) / 10
            row = [f"{label}/{path.name}", *FACE, "60;60", label, valence + arousal / 5, arousal]
            rows["training" if index % 4 else "validation"].append(row)
    # Of "none of these" there is no expression; but valence and arousal there are.
    rows["training"][-1][6] = 8
    for name, listed in rows.items():
        write_csv(root / "Manually_Annotated_file_lists" / f"{name}.csv", listed)


def write_fec(root: Path) -> None:
    """Triplets of two faces of one kind, and one of the other."""
    random = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)

    def url(number: int) -> str:
        return f"http://farm1.example/{number}_o.jpg"

    for number in (*SMILING[:6], *SERIOUS[:6]):
        (path,) = write_faces(root / "found", [number])
        name = hashlib.sha1(url(number).encode()).hexdigest()
        Image.open(path).convert("RGB").save(root / "images" / f"{name}.jpg")
    rows = []
    for index in range(24):
        alike, other = (SMILING, SERIOUS) if index % 2 else (SERIOUS, SMILING)
        two = random.choice(alike[:6], 2, replace=False)
        faces = [random.choice(other[:6]), *two]  # the first is the odd one
        # Left, right, top and bottom edge, as fractions of the sides.
        cells = [cell for face in faces for cell in (url(face), 0.2, 0.8, 0.2, 0.8)]
        votes = [cell for name in "abcdef" for cell in (name, 1)]
        rows.append([*cells, "TWO_CLASS_TRIPLET", *votes])
    write_csv(root / "faceexp-comparison-data-train-public.csv", rows[:-2])
    write_csv(root / "faceexp-comparison-data-test-public.csv", rows[-2:])


def write_rafdb(root: Path) -> None:
    """Its aligned pictures of 100x100 pixels."""
    (root / "EmoLabel").mkdir(parents=True)
    (root / "Image" / "aligned").mkdir(parents=True)
    lines = []
    for label, numbers in ((4, SMILING), (7, SERIOUS)):
        for index, path in enumerate(write_faces(root / "found", numbers)):
            name = f"{'test' if index % 2 else 'train'}_{label}{index:04}"
            picture = Image.open(path).crop((20, 20, 140, 140)).resize((100, 100))
            picture.convert("RGB").save(root / "Image" / "aligned" / f"{name}_aligned.jpg")
            lines.append(f"{name}.jpg {label}")
    (root / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")


def small(path: Path) -> Path:
    """Our recipe, for a network that is trained in no time."""
    stages = json.loads((RECIPES / "deepfever.json").read_text())
    for values in stages.values():
        tables = [part | {"count": 4, "size": 64} for part in values["tables"]]
        values |= {
            "backbone": {"name": "compact", "widths": [8, 16], "depths": [1, 1]},
            "embedding_dim": 16,
            "size": 32,
            "labelled_size": 64,
            "epochs": 3,
            "batch_size": 8,
            "unlabelled": min(4, values["unlabelled"]),
            "tables": tables,
            "ema": 0.5,
            "peak_lr": 0.01,
        }
    path.write_text(json.dumps(stages))
    return path


def losses(run: Path) -> dict[str, float]:
    return json.loads((run / "log.jsonl").read_text().splitlines()[-1])


def test_the_papers_recipe_runs_from_the_owners_files_to_rafdb(tmp_path, monkeypatch, capsys):
    owned, data = tmp_path / "owned", tmp_path / "data"
    write_affectnet(owned / "AffectNet")
    write_fec(owned / "FEC_dataset")
    write_rafdb(owned / "basic")
    write_faces(owned / "crawled", [0, 4, 8, 9, 10, 13])
    data.mkdir()
    for kind, folder, table in (
        ("affectnet", "AffectNet", "affectnet"),
        ("fec", "FEC_dataset", "fec"),
        ("rafdb", "basic", "rafdb"),
        ("unlabelled", "crawled", "faces"),
    ):
        output = data / f"{table}.parquet"
        run(monkeypatch, "prepare", kind, owned / folder, "--output", output, "--device", "cpu")
    recipe = ("--recipe", small(tmp_path / "deepfever.json"), "--data", data, "--device", "cpu")
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    run(monkeypatch, "train", *recipe, "--output", teacher)
    run(monkeypatch, "train", *recipe, "--output", student, "--teacher", teacher)
    assert {"expression_loss", "valence_arousal_loss", "triplet_loss"} <= set(losses(teacher))
    assert "geometry_loss" not in losses(teacher)
    assert {"triplet_loss", "geometry_loss"} <= set(losses(student))
    extractor = Extractor(student, device="cpu")
    taught = extractor.config.metadata
    assert taught["teachers"] == [Extractor(teacher, device="cpu").sha256]
    assert taught["recipe"]["name"] == "deepfever-student"
    face = extractor.extract_faces(owned / "crawled" / "04.png")[0]
    assert -1 <= face.valence <= 1

    tables = data / "rafdb.parquet", data / "affectnet.parquet"
    figures = tmp_path / "figures.json"
    run(
        monkeypatch,
        *("evaluate", "--weights", student, "--data", data, "--transfer", *tables, "--no-peers"),
        *("--json", figures, "--device", "cpu"),
    )
    said = capsys.readouterr().out
    rafdb, affectnet = json.loads(figures.read_text())["sets"]
    assert (rafdb["set"], rafdb["reference"], affectnet["reference"]) == ("rafdb", False, True)
    assert rafdb["protocol"] == "learned from 12 faces of its own training split"
    assert rafdb["by_class"] == {"neutral": 6, "happiness": 6}
    assert "linear_probe" in rafdb["features"]["vector"]
    assert rafdb["affect"] == {}
    assert affectnet["affect"]["valence"]["faces"] == 6
    assert "| Valence, concordance | - | " in said


def test_the_recipes_networks_can_be_built():
    """As they are, which the run above does not."""
    for taught, width in ((False, 1280), (True, 5632)):
        recipe = Recipe.read("deepfever", taught=taught)
        assert recipe.tables == (Part("fec.parquet", 24, "train", 128, "fec.triplets.parquet"),)
        network = FeverNet(config(backbone=recipe.backbone)).eval()
        with torch.no_grad():
            features = network.features(torch.zeros(1, 1, recipe.size, recipe.size))
        assert features.shape == (1, width)


def test_what_measures_of_valence_and_arousal_forgive():
    truth = np.array([[-0.5, 0.1], [0.0, np.nan], [0.5, np.nan], [1.0, 0.1]])
    perfect = affect_measures(truth, truth)
    assert set(perfect) == {"valence"}, "all arousals are the same"
    assert perfect["valence"] == pytest.approx(
        {"ccc": 1, "correlation": 1, "rmse": 0, "faces": 4}, abs=1e-9
    )
    half = affect_measures(truth / 2 + 0.2, truth)["valence"]
    assert half["correlation"] == pytest.approx(1)
    # 2 * 0.5 * var / (1.25 * var + offset^2), of a variance of 0.3125 and an offset of 0.075.
    assert half["ccc"] == pytest.approx(0.3125 / (1.25 * 0.3125 + 0.075**2))
    assert affect_measures(truth * 0, truth)["valence"]["ccc"] == 0
