"""How embeddings carry over: probes on data whose answers are known, tables as owners have them."""

import dataclasses
import io
import json
import shutil
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from faces_maker import make_tables
from helpers import SERIOUS, SMILING, write_faces
from PIL import Image

from fever_extract import hub
from fever_extract.hub import card_transfer
from fever_extract.hub.card import model_card
from fever_extract.models import checkpoint
from fever_extract.models.config import EXPRESSIONS, Backbone, Config, Preprocessing
from fever_extract.models.inference import for_inference
from fever_extract.models.network import FeverNet, build
from fever_extract.training import __main__ as command
from fever_extract.training.evaluation import probes
from fever_extract.training.evaluation.prior import ferplus_prior, without_prior
from fever_extract.training.evaluation.transfer import measure, verdict
from fever_extract.training.evaluation.transfer_features import own_features, peer_features
from fever_extract.training.evaluation.transfer_sets import (
    MOST,
    TransferSet,
    held_out,
    read_transfer,
    take,
)
from fever_extract.training.trainer.start import TEMPLATE

PREPROCESSING = Preprocessing(size=32, color="grey", mean=(128.0,), std=(64.0,), template=TEMPLATE)
CONFIG = Config("tiny", PREPROCESSING, Backbone(widths=(8, 16), depths=(1, 1)), embedding_dim=8)
PICTURE = b""


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def made_set(labels: np.ndarray, people: np.ndarray | None = None, **known: object) -> TransferSet:
    """A set whose pictures don't matter."""
    count = len(labels)
    columns: dict[str, object] = {
        "name": "made",
        "images": [PICTURE] * count,
        "landmarks": np.full((count, 5, 2), np.nan, np.float32),
        "classes": EXPRESSIONS[: labels.max() + 1],
        "labels": labels,
        "people": np.arange(count) if people is None else people,
        "learn": None,
        "blendshapes": np.zeros((count, 0), np.float32),
        "blendshape_names": (),
        "exact": False,
        "pose": np.zeros((count, 0), np.float32),
        "valence_arousal": np.full((count, 2), np.nan, np.float32),
    }
    return TransferSet(**{**columns, **known})


# Probes


def test_no_person_is_both_learned_from_and_measured(random):
    people, labels = random.integers(40, size=300), random.integers(3, size=300)
    folds = probes.folds_by_people(labels, people)
    assert len(folds) == 5
    for learn, measured in folds:
        assert not set(people[learn]) & set(people[measured])
    together = np.concatenate([measured for _, measured in folds])
    assert sorted(together) == list(range(300)), "each face is measured once"


def test_one_person_cannot_be_kept_apart():
    with pytest.raises(ValueError, match="three people"):
        measure({"vector": np.eye(30)}, made_set(np.arange(30) % 2, np.arange(30) // 15))


def test_a_linear_probe_finds_what_is_there_and_nothing_else(random):
    labels, people = random.integers(3, size=600), np.arange(600)
    folds = probes.folds_by_people(labels, people)
    noise = random.standard_normal((600, 40))
    told = noise + 4 * np.eye(3, 40)[labels]
    assert (probes.linear_probe(told, labels, people, folds) == labels).mean() > 0.95
    assert (probes.linear_probe(noise, labels, people, folds) == labels).mean() < 0.45


def test_vectors_that_know_people_alone_are_worth_nothing(random):
    people = np.repeat(np.arange(60), 5)
    labels = np.repeat(random.permutation(60) % 2, 5)
    vectors = np.eye(60)[people]
    folds = probes.folds_by_people(labels, people)
    assert (probes.linear_probe(vectors, labels, people, folds) == labels).mean() < 0.7
    together = [(np.flatnonzero(np.arange(300) % 5 != 0), np.flatnonzero(np.arange(300) % 5 == 0))]
    named = probes.linear_probe(vectors, labels, people, together)
    assert (named == labels)[::5].mean() > 0.95, "with people in common it would seem perfect"


def test_more_numbers_than_faces_are_the_same_probe(random):
    """The rotation that saves time changes no answer."""
    from sklearn.linear_model import LogisticRegression

    vectors, labels = random.standard_normal((30, 200)), np.arange(30) % 2
    queries = random.standard_normal((50, 200))
    known, asked = probes.standardised(vectors, queries)
    named = probes._fit_path(vectors, labels, queries, [1e-2])[0]
    plain = LogisticRegression(C=1e-2, tol=1e-6, max_iter=1000).fit(known, labels).predict(asked)
    assert (named == plain).mean() >= 0.98


def test_an_outlier_of_a_constant_feature_is_clipped():
    known = np.array([[0.0, 1.0], [1e-3, 1.0], [0.0, 1.0]])
    _, asked = probes.standardised(known, np.array([[5.0, 7.0]]))
    assert asked.tolist() == [[probes.FARTHEST, 0.0]]


def test_cosine_looks_at_the_angle_and_euclidean_at_the_distance():
    query, vectors = np.array([[1.0, 0.0]]), np.array([[10.0, 0.1], [1.0, 0.5]])
    assert probes.similarities(query, vectors, "cosine").argmax() == 0
    assert probes.similarities(query, vectors, "euclidean").argmax() == 1


def test_average_precision_is_the_textbooks(random):
    from sklearn.metrics import average_precision_score

    vectors, labels = random.standard_normal((40, 3)), random.integers(2, size=40)
    vectors[:, 0] += labels
    people = np.arange(40)
    expected = []
    for label in (0, 1):
        scores = [
            average_precision_score(
                np.delete(labels == label, row),
                -np.linalg.norm(np.delete(vectors, row, 0) - vectors[row], axis=1),
            )
            for row in np.flatnonzero(labels == label)
        ]
        expected.append(np.mean(scores))
    found = probes.average_precision(vectors, labels, people, "euclidean")
    assert found["value"] == pytest.approx(np.mean(expected), abs=1e-4)
    alike = probes.average_precision(np.eye(2)[labels], labels, people, "cosine")
    assert alike["value"] == pytest.approx(1)


def test_ridge_finds_a_linear_map_and_no_more(random):
    vectors = random.standard_normal((400, 10))
    targets = np.stack([vectors[:, 0] - 2 * vectors[:, 1], random.standard_normal(400)], axis=1)
    people = np.arange(400)
    folds = probes.folds_by_people(np.zeros(400, int), people)
    linear, noise = probes.ridge(vectors, targets, people, folds)
    assert linear > 0.99
    assert -0.1 < noise < 0.1
    wide = np.concatenate([vectors, random.standard_normal((400, 500)) / 100], axis=1)
    assert probes.ridge(wide, targets, people, folds)[0] > 0.5, "more numbers than faces"


def test_identity_counts_the_same_person_only(random):
    people = np.repeat(np.arange(20), 3)
    assert probes.identity(np.eye(20)[people], people)["accuracy"] == 1
    aloof = probes.identity(random.standard_normal((60, 20)), people)
    assert aloof["accuracy"] < 0.2
    assert aloof["chance"] == pytest.approx(2 / 59)
    assert probes.identity(np.eye(5), np.arange(5)) is None


# The prior


def test_taking_a_prior_out_is_bayes():
    said = np.array([[0.8, 0.2]])
    assert without_prior(said, [0.8, 0.2]).tolist() == [[0.5, 0.5]]
    assert np.allclose(without_prior(said, [0.5, 0.5]), said)
    assert np.isfinite(without_prior(said, [1, 0])).all(), "of a class that training never saw"


def test_the_prior_is_of_train_alone(tmp_path):
    make_tables(tmp_path)
    prior = ferplus_prior(tmp_path)
    table = pq.read_table(tmp_path / "ferplus.parquet").to_pandas()
    happy = table[table.split == "train"].votes_happiness == 9
    assert prior[1] == pytest.approx(happy.mean())
    assert prior.sum() == pytest.approx(1)
    assert ferplus_prior(tmp_path / "nowhere") is None


# Measuring


def test_vectors_that_lose_something_are_told_so(random):
    labels = random.integers(4, size=800)
    pooled = random.standard_normal((800, 12)) + 2 * np.eye(4, 12)[labels]
    worse = pooled * np.array([1, 1, 0, 0, *[1] * 8])
    table = made_set(labels)
    lost = measure({"vector": worse, "pooled": pooled}, table)
    assert lost["ahead"]["pooled"]["difference"] < -0.05
    said = verdict([lost])
    assert said["keeps"] is False
    assert [each["rival"] for each in said["behind"]] == ["pooled"]
    kept = measure({"vector": pooled, "pooled": worse}, table)
    assert verdict([kept]) == {"keeps": True, "behind": []}
    assert verdict([{**lost, "reference": True}])["keeps"] is None, "in domain is no transfer"
    assert verdict([measure({"mine": pooled}, table)])["keeps"] is None


def test_the_standard_error_is_the_textbooks(random):
    labels = np.arange(1000) % 2
    told = np.where(random.random(1000) < 0.8, labels, 1 - labels)
    table = made_set(labels)
    found = measure({"vector": np.eye(2)[told]}, table)["features"]["vector"]["linear_probe"]
    expected = np.sqrt(found["accuracy"] * (1 - found["accuracy"]) / 1000)
    assert found["standard_error"] == pytest.approx(expected, rel=0.15)
    # The same faces of 50 people, who are each always right or always wrong.
    people = np.arange(1000) // 20
    told = np.where(random.random(50) < 0.8, 1, -1)[people] * (2 * labels - 1)
    grouped = measure({"vector": told[:, None]}, made_set(labels, people))
    error = grouped["features"]["vector"]["linear_probe"]["standard_error"]
    assert error > 2 * expected


def test_a_head_is_judged_with_and_without_its_prior(random):
    labels = np.arange(400) % 2
    strength = random.random(400) * 0.4 + 0.3  # of neutral, where it is happiness
    shares = np.full((400, 8), 1e-6)
    shares[:, 0] = np.where(labels == 0, 0.9, strength)
    shares[:, 1] = 1 - shares[:, 0]
    prior = np.array([0.6, 0.2, *[0.2 / 6] * 6])
    head = measure({}, made_set(labels), probabilities=shares, prior=prior)["head"]
    assert head["training"]["by_class"]["happiness"] < 0.7
    assert head["uniform"]["by_class"]["happiness"] > 0.9
    surprised = shares.copy()
    surprised[labels == 1, 2] = 2
    head = measure({}, made_set(labels), probabilities=surprised)["head"]
    assert head["training"]["accuracy"] == 0.5
    assert head["training"]["among_its_classes"]["accuracy"] > 0.7


def test_blendshapes_and_pose_need_no_labels(random):
    targets = random.random((200, 3)).astype(np.float32)
    targets[::9] = np.nan
    known = np.nan_to_num(targets)
    table = made_set(
        np.full(200, -1),
        classes=(),
        blendshapes=np.concatenate([targets[:, :2], 0 * targets[:, :1]], axis=1),
        blendshape_names=("browInnerUp", "jawOpen", "mouthLeft"),
        pose=targets,
    )
    found = measure({"vector": known[:, [0, 2]]}, table)["features"]["vector"]
    assert "linear_probe" not in found
    assert found["blendshapes"]["regions"]["brows"] > 0.99
    assert found["blendshapes"]["regions"]["jaw"] < 0.1
    assert found["blendshapes"]["count"] == 2, "one never moves"
    assert found["pose"]["roll"] > 0.99
    assert found["pose"]["pitch"] < 0.1


def test_a_training_split_is_learned_from_and_not_measured(random):
    labels = np.arange(300) % 2
    learn = np.arange(300) < 200
    vectors = np.where(learn, labels, 1 - labels)[:, None].astype(float)
    found = measure({"vector": vectors}, made_set(labels, learn=learn))
    assert found["features"]["vector"]["linear_probe"]["accuracy"] == 0
    assert found["by_class"] == {"neutral": 50, "happiness": 50}


@pytest.mark.parametrize("vectors", [np.zeros((9, 2)), np.zeros(10), np.full((10, 2), np.nan)])
def test_features_that_cannot_be_are_refused_by_name(vectors):
    with pytest.raises(ValueError, match="mine"):
        measure({"mine": vectors}, made_set(np.arange(10) % 2))


# Tables


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write(path, count: int, **columns: object) -> None:
    grey = [png(Image.new("RGB", (20, 20), (index % 256, 0, 0))) for index in range(count)]
    empty = pa.array([None] * count, pa.list_(pa.float32()))
    pq.write_table(pa.table({"image": grey, "landmarks": empty, **columns}), path)


def test_every_fifth_synthetic_person_is_held_out(tmp_path):
    people = np.arange(60) % 30
    recipes = [None if index % 3 else "anger" for index in range(60)]
    ids = {"person_id": people, "expression_id": np.arange(60), "recipe": recipes}
    write(tmp_path / "synthetic.parquet", 60, **ids, yaw=people, pitch=people, roll=people)
    table = read_transfer(tmp_path / "synthetic.parquet")
    assert len(table) == 12
    assert sorted(set(table.pose[:, 0].tolist())) == [0, 5, 10, 15, 20, 25]
    assert len(np.unique(table.people)) == 6
    assert table.exact
    assert held_out([4, 5, 6]).tolist() == [False, True, False]


def test_labels_find_their_pictures_by_name(tmp_path):
    make_tables(tmp_path)
    names = pq.read_table(tmp_path / "faces.parquet")["name"].to_pylist()
    labels = ["happiness" if index % 2 else "neutral" for index in range(40)]
    parts = ["train" if index < 10 else "transfer" for index in range(40)]
    rows = pa.table({"name": [*names[::-1], "Nobody_0001.jpg"], "label": [*labels, "fear"]})
    rows = rows.append_column("part", pa.array([*parts, "transfer"]))
    pq.write_table(rows, tmp_path / "faces_labels.parquet")
    table = read_transfer(tmp_path / "faces_labels.parquet")
    assert len(table) == 30
    assert table.classes == ("neutral", "happiness")
    assert table.people_known
    assert len(np.unique(table.people)) == 3
    pictures = pq.read_table(tmp_path / "faces.parquet")["image"].to_pylist()
    expected = [pictures[names.index(name)] for name in names[::-1][10:]]
    assert list(table.images) == expected
    assert [table.classes[label] for label in table.labels.tolist()] == labels[10:]


def test_of_ferplus_only_valid_is_measured_and_as_a_reference(tmp_path):
    make_tables(tmp_path)
    table = read_transfer(tmp_path / "ferplus.parquet")
    assert len(table) == 30
    assert table.reference
    assert table.learn is None


def test_a_table_with_its_own_splits_is_learned_from(tmp_path):
    shares = np.eye(8)[np.arange(60) % 3].tolist()
    names = [f"train_{index:05}.jpg" for index in range(60)]
    splits = ["train"] * 40 + ["test"] * 20
    write(tmp_path / "rafdb.parquet", 60, name=names, split=splits, expression=shares)
    table = read_transfer(tmp_path / "rafdb.parquet")
    assert table.learn.tolist() == [True] * 40 + [False] * 20
    assert table.classes == EXPRESSIONS[:3]
    assert not table.people_known, "`train` is no person"


def test_many_faces_are_drawn_and_rare_classes_left_out_and_it_is_said(tmp_path):
    labels = ["pain"] * (MOST + 50) + ["happiness"] * 30 + ["fear"] * 3
    write(tmp_path / "many.parquet", len(labels), label=labels)
    table = read_transfer(tmp_path / "many.parquet")
    assert table.classes == ("happiness", "pain"), "classes of any name"
    assert np.bincount(table.labels + 1).tolist() == [3, 30, MOST]
    assert f"{MOST + 33} of {MOST + 83} faces" in table.note
    assert "fear (3)" in table.note
    again = read_transfer(tmp_path / "many.parquet")
    assert table.images == again.images


def test_one_person_is_not_half_of_a_set(tmp_path):
    people = ["a"] * 100 + [f"b{index}" for index in range(150)]
    write(tmp_path / "many.parquet", 250, label=["anger"] * 250, person=people)
    assert np.bincount(read_transfer(tmp_path / "many.parquet").people).max() == 20


def test_a_table_without_labels_is_refused(tmp_path):
    write(tmp_path / "bare.parquet", 3, name=list("abc"))
    with pytest.raises(ValueError, match="no labels"):
        read_transfer(tmp_path / "bare.parquet")
    with pytest.raises(FileNotFoundError, match="is missing"):
        read_transfer(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(ValueError, match="not a whole Parquet"):
        read_transfer(tmp_path / "text.parquet")


# Faces


@pytest.fixture(scope="module")
def network() -> FeverNet:
    """The embedded weights'."""
    embedded = hub.load(None)
    return for_inference(build(embedded.config, embedded.state_dict))


def test_vectors_are_those_of_the_extractor(extractor, network, astronaut):
    """From the full picture, in colour, by the same alignment."""
    face = extractor.extract_faces(astronaut)[0]
    landmarks = np.stack([face.landmarks, np.full((5, 2), np.nan)]).astype(np.float32)
    crop = astronaut.crop((170, 50, 276, 180))
    table = made_set(np.array([0, 0]), images=[png(astronaut), png(crop)], landmarks=landmarks)
    found = own_features(network, table)
    assert np.abs(found["vector"][0] - face.vector).max() < 1e-4
    assert found["pooled"].shape == (2, network.backbone.features)
    assert found["probabilities"].sum(axis=1) == pytest.approx([1, 1])


def test_a_damaged_picture_is_named(network):
    with pytest.raises(ValueError, match=r"made: picture 1 .* decoded"):
        own_features(
            network, made_set(np.zeros(2, int), images=[png(Image.new("L", (9, 9))), b"no"])
        )


def test_smiles_in_photographs_are_found_by_every_measure(network, tmp_path):
    paths = write_faces(tmp_path, [*SMILING, *SERIOUS])
    labels = np.array([1] * len(SMILING) + [0] * len(SERIOUS))
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(png(picture.crop((30, 30, 130, 130))))
    table = made_set(labels, images=pictures)
    features = own_features(network, table)
    described, missing = peer_features(table, network.config.preprocessing, tmp_path)
    assert described["hog"].shape == (24, 900)
    assert described["pixels"].shape == (24, 576)
    assert set(missing) == {"blendshapes", "face_recognition"}
    found = measure({**features, **described}, table, probabilities=features["probabilities"])
    ours = found["features"]["vector"]
    assert ours["linear_probe"]["accuracy"] > 0.8
    assert ours["neighbours"]["cosine"]["accuracy"] > 0.8
    assert ours["retrieval"]["cosine"]["value"] > 0.75
    assert ours["few_shot"]["5"]["mean_class_accuracy"] > 0.75
    assert found["head"]["training"]["accuracy"] > 0.8


def test_some_of_a_set_can_be_taken(random):
    table = made_set(random.integers(2, size=20), images=[bytes([row]) for row in range(20)])
    some = take(table, np.array([3, 1]))
    assert some.images == [b"\x03", b"\x01"]
    assert some.labels.tolist() == table.labels[[3, 1]].tolist()


# The command


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["fever_extract.training", *map(str, arguments)])
    command.main()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights that know nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    checkpoint.save(folder, CONFIG, FeverNet(CONFIG).state_dict())
    return folder


def test_the_command_measures_prints_and_writes_the_card(weights, tmp_path, monkeypatch, capsys):
    make_tables(tmp_path)
    folder = shutil.copytree(weights, tmp_path / "weights")
    where = ("--data", tmp_path, "--weights", folder, "--device", "cpu")
    labels = [["neutral", "pain"][index % 2] for index in range(40)]
    write(tmp_path / "mine.parquet", 40, label=labels)
    tables = (tmp_path / "ferplus.parquet", tmp_path / "mine.parquet")
    output = tmp_path / "figures.json"
    run(monkeypatch, "evaluate", *where, "--transfer", *tables, "--json", output, "--write")
    text = capsys.readouterr().out
    figures = json.loads(output.read_text())
    assert [each["set"] for each in figures["sets"]] == ["ferplus", "mine"]
    assert figures["sets"][1]["head"] is None, "pain is none of its classes"
    assert "| linear probe" in text
    assert "**Verdict" in text
    assert "Not measured here" in text
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card_transfer.summary(figures) in card
    config = hub.load(folder).config
    with_more = dataclasses.replace(config, metadata={**config.metadata, "measured": "Also this."})
    text = model_card(with_more)
    assert text.index("linear probe, right") < text.index("Also this.")
    broken = dataclasses.replace(config, metadata={"transfer": {"sets": [1]}})
    assert "Nothing has been measured yet." in model_card(broken)


def test_without_tables_it_is_those_that_are_there(weights, tmp_path, monkeypatch, capsys):
    make_tables(tmp_path)
    where = ("--data", tmp_path, "--weights", weights, "--device", "cpu")
    run(monkeypatch, "evaluate", *where, "--transfer", "--no-peers")
    assert "`ferplus` (in domain)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--transfer"):
        run(monkeypatch, "evaluate", *where, "--no-peers")
    with pytest.raises(FileNotFoundError, match="name tables"):
        run(monkeypatch, "evaluate", "--data", weights, "--weights", weights, "--transfer")
