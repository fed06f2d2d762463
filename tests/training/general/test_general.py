"""One run on several sets at once: what it reads, what it makes small, how it goes on, what it
releases."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from faces_maker import drawn_face
from general_maker import WEB, make_general_tables, make_init, web_tensors
from safetensors.torch import save_file

from fever_extract import Extractor, hub
from fever_extract.models.config import EXPRESSIONS, WeightsError
from fever_extract.models.network import build
from fever_extract.training import __main__ as command
from fever_extract.training.general.batches import Batches, Spans, as_prior, odds, shares
from fever_extract.training.general.crops import views, with_room
from fever_extract.training.general.objective import adjusted_cross_entropy, pairs_apart
from fever_extract.training.general.release import answers, standardise
from fever_extract.training.general.sources import read_sources
from fever_extract.training.general.start import make_config
from fever_extract.training.general.train import Run, train_general
from fever_extract.training.general.web_teacher import SIZE, WebTeacher
from fever_extract.training.recipes.general import GeneralRecipe
from fever_extract.training.trainer.plot import read_log

RECIPE = GeneralRecipe(
    name="test",
    taps=((5, 2), (13, 1)),
    embedding_dim=8,
    size=32,
    ferplus=12,
    faces=6,
    portraits=2,
    synthetic=6,
    steps=5,
    warm_up=2,
    ema=0.5,
    web_teacher=WEB,
    every=2,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_general_tables(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def init(tmp_path_factory) -> Path:
    return make_init(tmp_path_factory.mktemp("init"))


@pytest.fixture(scope="module")
def released(folder, init, tmp_path_factory) -> Path:
    """The folder of a whole run, by the command."""
    root = tmp_path_factory.mktemp("run")
    recipe = root / "small.json"
    recipe.write_text(json.dumps(dataclasses.asdict(RECIPE)))
    arguments = ["--data", folder, "--init", init, "--output", root / "run", "--recipe", recipe]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["training", "general", *map(str, arguments), "--device", "cpu"])
        command.main()
    return root / "run"


class Interrupted:
    """Batches that end a run where it is, as a kill would."""

    def __init__(self, batches: Batches, step: int) -> None:
        self.batches, self.last = batches, step

    def __call__(self, step: int):
        if step == self.last:
            raise KeyboardInterrupt
        return self.batches(step)


def test_a_killed_run_gives_the_weights_of_one_that_went_through(folder, init, released, tmp_path):
    run = Run(RECIPE, folder, tmp_path, init=init, device="cpu")
    run.batches = Interrupted(run.batches, 3)
    with pytest.raises(KeyboardInterrupt):
        run.train(RECIPE.steps)
    assert not (tmp_path / "model.safetensors").exists()
    train_general(RECIPE, folder, tmp_path, init=init, device="cpu")
    one, other = (path / "model.safetensors" for path in (released, tmp_path))
    assert one.read_bytes() == other.read_bytes()
    logs = [read_log(path) for path in (released, tmp_path)]
    assert [line["step"] for line in logs[0]] == [2, 4, 5]
    for line in (*logs[0], *logs[1]):
        del line["seconds"]
    assert logs[0] == logs[1]
    losses = {name for name in logs[0][0] if name.endswith("_loss")}
    assert {"expression_loss", "label_loss", "web_loss", "pair_loss"} < losses
    assert len(losses) == 8


def test_released_vectors_have_unit_variance_on_the_reference_set(folder, init, released):
    weights = hub.load(released)
    network = build(weights.config, weights.state_dict)
    sources = read_sources(RECIPE, folder, released, make_config(RECIPE, hub.load(init)))
    vectors = torch.cat([answers(network, s)[0] for s in (sources.ferplus, sources.faces)])
    assert vectors.shape == (180 + 24, 8)
    assert vectors.mean(dim=0).abs().max() < 0.03
    assert vectors.var(dim=0, correction=0) == pytest.approx(np.ones(8), abs=0.02)
    done = weights.config.metadata["release"]
    assert done["reference_faces"] == 204
    assert weights.config.metadata["init"] == hub.load(init).sha256
    assert weights.config.metadata["steps"] == 5
    assert sum(weights.config.expression_prior) == pytest.approx(1, abs=1e-4)


def test_released_weights_extract_with_either_prior(released):
    extractor = Extractor(released, device="cpu")
    smile = drawn_face(True, 48, np.random.default_rng(5))
    (record,) = extractor.extract_records(smile, aligned=True)
    assert record.face.vector.shape == (8,)
    network = build(extractor.config, hub.load(released).state_dict)
    logits = torch.zeros(1, 8)
    assert network.probabilities(logits).tolist() == [[1 / 8] * 8]
    presumed = network.probabilities(logits, "training")[0]
    assert presumed.tolist() == pytest.approx(extractor.config.expression_prior, rel=1e-3)


def test_heads_answer_as_before_when_vectors_are_standardised(folder, init, released):
    recipe = dataclasses.replace(RECIPE, every=7)
    run = Run(recipe, folder, released, init=init, device="cpu")
    assert run.step == 5, "how often it reports may change"
    run.kept.eval()
    _, before = answers(run.kept, run.sources.valid)
    standardise(run.kept, [run.sources.portraits])
    vectors, _ = answers(run.kept, run.sources.portraits)
    _, after = answers(run.kept, run.sources.valid)
    assert torch.allclose(before, after, atol=1e-3)
    assert vectors.var(dim=0, correction=0) == pytest.approx(np.ones(8), abs=1e-2)


def test_what_is_measured_on_is_not_read(folder, init, released):
    sources = read_sources(RECIPE, folder, released, make_config(RECIPE, hub.load(init)))
    assert len(sources.faces) == 24, "part transfer stays out"
    # Eleven pairs; out of them go those with one of the persons 5, 10, 15 and 20.
    assert len(sources.synthetic) == 14
    pairs = sources.synthetic.blendshapes.reshape(7, 2, 3)
    assert (pairs[:, 0] == pairs[:, 1]).all()
    assert len(np.unique(pairs[:, 0, 0])) == 7
    assert sources.ferplus.crops.shape == (180, 40, 40)
    assert sources.ferplus.web.sum(axis=1) == pytest.approx(np.ones(180), abs=1e-5)
    assert (sources.portraits.expression == 0).all()
    assert np.isnan(sources.portraits.blendshapes).all()


def test_crops_are_cut_once(folder, init, released):
    before = {path: path.stat().st_mtime_ns for path in released.glob("crops-*")}
    assert len(before) == 5
    read_sources(RECIPE, folder, released, make_config(RECIPE, hub.load(init)))
    assert {path: path.stat().st_mtime_ns for path in released.glob("crops-*")} == before


def test_a_step_draws_what_it_drew(folder, init, released):
    sources = read_sources(RECIPE, folder, released, make_config(RECIPE, hub.load(init)))
    words = np.full((180, 8), 1 / 8, np.float32)
    batches = Batches(RECIPE, sources, {"ferplus": words}, torch.tensor([0, 2, 1]))
    one, again, other = batches(3), batches(3), batches(4)
    for name, values in vars(one).items():
        assert values.equal(getattr(again, name)) or name == "blendshapes"
    assert not one.crops.equal(other.crops)
    assert one.crops.shape == (26, 1, 32, 32)
    spans = Spans.of(RECIPE)
    assert (one.expression[spans.ferplus] > 0).all(), "a part of each target are words"
    assert set(one.expression[spans.faces].sum(dim=1).tolist()) == {1.0}
    rendered = one.blendshapes[spans.synthetic].reshape(3, 2, 3)
    assert rendered[:, 0].equal(rendered[:, 1]), "both are mirrored, or neither"


def test_a_run_goes_on_from_anothers_weights(folder, released, tmp_path):
    """Whole, on one synthetic table more, and held to what those weights say."""
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    shutil.copy(data / "synthetic.parquet", data / "synthetic_more.parquet")
    recipe = dataclasses.replace(RECIPE, distill=0.0, soft_weight=0.5)
    run = Run(recipe, data, tmp_path / "run", init=released, device="cpu")
    assert len(run.sources.synthetic) == 2 * 14
    before = hub.load(released)
    first = build(before.config, before.state_dict)
    mine, theirs = (answers(net.eval(), run.sources.valid)[1] for net in (run.network, first))
    assert torch.allclose(mine, theirs, atol=1e-3)
    batch, spans = run.batches(0), Spans.of(recipe)
    assert batch.soft[spans.real].sum(dim=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert not batch.soft[spans.synthetic].any()
    assert run.train_step(0.0)["soft_loss"] > 0


def test_weights_that_presume_a_prior_dont_teach(folder, init, tmp_path):
    recipe = dataclasses.replace(RECIPE, soft_weight=0.5)
    with pytest.raises(WeightsError, match="presumes its training's prior"):
        Run(recipe, folder, tmp_path, init=init, device="cpu")


def test_sets_may_be_left_out(folder, init, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    for name in ("faces.parquet", "faces_labels.parquet", "portraits.parquet", "synthetic.parquet"):
        (tmp_path / "data" / name).unlink()
    recipe = dataclasses.replace(RECIPE, faces=0, portraits=0, synthetic=0, web_teacher="", steps=1)
    train_general(recipe, tmp_path / "data", tmp_path / "run", init=init, device="cpu")
    with pytest.raises(FileNotFoundError, match=r"faces_labels\.parquet is missing"):
        Run(dataclasses.replace(recipe, faces=2), tmp_path / "data", tmp_path / "x", init=init)
    metadata = hub.load(tmp_path / "run").config.metadata
    assert metadata["release"]["reference"] == "FER+ train"
    assert set(metadata["data"]) == {"ferplus", "blendshapes"}


def test_another_run_does_not_go_on(folder, init, released, tmp_path):
    with pytest.raises(ValueError, match="another recipe"):
        Run(dataclasses.replace(RECIPE, seed=1), folder, released, init=init, device="cpu")
    with pytest.raises(WeightsError, match="--init needs a mobilenet_v1"):
        Run(RECIPE, folder, tmp_path, init=Path(__file__).parents[2] / "checkpoints" / "v1")


def test_the_rate_falls_to_nothing_where_the_run_ends(folder, init, released):
    run = Run(RECIPE, folder, released, init=init, device="cpu")
    run.recipe = dataclasses.replace(RECIPE, warm_up=10, decay=0.2)
    factors = []
    for run.step in range(101):
        factors.append(run._factor(100, None))
    assert factors[:11] == pytest.approx([*np.linspace(0.1, 1, 10), 1])
    assert set(factors[10:80]) == {1.0}
    assert factors[80:] == pytest.approx(np.linspace(1, 0, 21), abs=1e-9)
    run._before = 60 * 9.0
    assert run._factor(0, minutes=10) == pytest.approx(0.5, abs=0.2)
    run._before = 60 * 10.0
    assert run._factor(0, minutes=10) <= 0


def test_time_that_is_over_leads_to_a_release(folder, init, released, tmp_path):
    shutil.copytree(released, tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    train_general(RECIPE, folder, tmp_path / "run", init=init, minutes=1e-6, device="cpu")
    whole, again = (path / "model.safetensors" for path in (released, tmp_path / "run"))
    assert whole.read_bytes() == again.read_bytes()


def test_logits_that_know_nothing_come_out_uniform():
    """Drawn unevenly from uneven labels, and learned by adjusted logits alone."""
    random = np.random.default_rng(0)
    labels = random.choice(8, 5000, p=[0.5, 0.2, 0.1, 0.08, 0.05, 0.04, 0.02, 0.01])
    expression = np.eye(8, dtype=np.float32)[labels]
    chances = odds(expression, 12)
    drawn = torch.from_numpy(expression[random.choice(5000, 40_000, p=chances)])
    for smoothing in (0.0, 0.15):
        share = shares(expression, chances)
        prior = as_prior((1 - smoothing) * share + smoothing / 8)
        logits = torch.zeros(1, 8, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=50)

        def closure(logits=logits, prior=prior, smoothing=smoothing, optimizer=optimizer):
            optimizer.zero_grad()
            loss = adjusted_cross_entropy(logits.expand(len(drawn), 8), drawn, prior, smoothing)
            loss.backward()
            return loss

        optimizer.step(closure)
        assert logits.softmax(dim=1).detach().numpy() == pytest.approx(
            np.full((1, 8), 1 / 8), rel=0.1
        )
    assert share.max() / share.min() > 3, "without the adjustment they would not"


def test_rare_classes_are_drawn_by_the_root_of_their_frequency():
    expression = np.eye(8, dtype=np.float32)[[0] * 900 + [1] * 100 + [2]]
    chances = odds(expression, 12)
    assert chances.sum() == pytest.approx(1)
    assert chances[950] / chances[0] == pytest.approx(3)
    assert chances[1000] / chances[0] == pytest.approx(12), "and not thirty"
    assert shares(expression, chances)[1] == pytest.approx(100 * chances[950])
    unlabelled = odds(np.concatenate([expression, np.zeros((1, 8), np.float32)]), 12)
    assert unlabelled[-1] == unlabelled[0], "the middle of all"


def test_pairs_are_told_from_the_rest():
    together = torch.eye(4).repeat_interleave(2, dim=0)
    apart = torch.eye(4).repeat(2, 1)
    assert pairs_apart(together, 0.15) < 0.05
    assert pairs_apart(apart, 0.15) > 5


def test_views_are_the_middle_of_a_crop():
    crops = np.arange(40 * 40, dtype=np.uint32).reshape(1, 40, 40).astype(np.uint8)
    assert views(crops, 32)[0, 0].round().byte().numpy() == pytest.approx(crops[0, 4:36, 4:36])
    moved = views(crops, 32, torch.Generator().manual_seed(0), 0.8)
    assert not torch.equal(moved, views(crops, 32))


def test_room_leaves_the_face_where_it_was():
    preprocessing = hub.load(None).config.preprocessing
    wide = with_room(preprocessing)
    assert wide.size == 120
    inside = np.array(wide.template) * 120 - 12
    assert inside == pytest.approx(np.array(preprocessing.template) * 96)


def test_the_web_teacher_is_run_as_it_was_made(data):
    path = data / GeneralRecipe.read("general").web_teacher
    if not path.is_file():
        pytest.skip("needs ../shared/data/faceapi_expression.safetensors")
    teacher = WebTeacher.read(path, GeneralRecipe.read("general").web_teacher_sha256)
    ramp = torch.arange(float(SIZE)).expand(SIZE, SIZE)
    picture = torch.stack([ramp.T, ramp, (ramp.T + ramp) / 2])[None]
    expected = [0.6908, 0.0829, 0.0782, 0.1190, 0.0128, 0.0041, 0.0121]
    assert teacher(picture)[0].tolist() == pytest.approx(expected, abs=2e-4)


def test_another_web_teacher_is_refused(folder, tmp_path):
    with pytest.raises(WeightsError, match="not the file that the recipe names"):
        WebTeacher.read(folder / WEB, "0" * 64)
    with pytest.raises(FileNotFoundError, match="learns from it"):
        WebTeacher.read(tmp_path / "none.safetensors")
    tensors = web_tensors()
    del tensors["dense2.conv1.bias"]
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(WeightsError, match=r"dense2\.conv1\.bias"):
        WebTeacher.read(tmp_path / "odd.safetensors")


def test_recipes_are_checked(tmp_path):
    ours = GeneralRecipe.read("general")
    assert ours.taps == ((9, 3), (13, 1))
    for text, named in (('{"name": "x", "synthetic": 3}', "pairs"), ('{"speed": 3}', "speed")):
        (tmp_path / "odd.json").write_text(text)
        with pytest.raises(ValueError, match=rf"odd\.json.*{named}"):
            GeneralRecipe.read(tmp_path / "odd.json")


def test_other_labels_and_blendshapes_are_refused(folder, init, released, tmp_path):
    shutil.copytree(folder, tmp_path / "data")
    for crops in released.glob("crops-*"):
        shutil.copy(crops, tmp_path)  # those of other tables need not be cut again
    path, config = tmp_path / "data" / "synthetic.parquet", make_config(RECIPE, hub.load(init))
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"blendshape_names": "a,b,c"}), path)
    with pytest.raises(ValueError, match="other blendshapes"):
        read_sources(RECIPE, tmp_path / "data", tmp_path, config)
    labels = ["boredom"] * table.num_rows
    index = table.column_names.index("recipe")
    pq.write_table(table.set_column(index, "recipe", [labels]), path)
    with pytest.raises(ValueError, match="no expression of ours: boredom"):
        read_sources(RECIPE, tmp_path / "data", tmp_path, config)
    assert "boredom" not in EXPRESSIONS
