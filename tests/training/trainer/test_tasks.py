"""Several data sets and tasks in one run, distillation, and a start from a network of faces."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from faces_maker import drawn_face, make_tables, rows
from safetensors.torch import save_file

from fever_extract import Extractor, hub
from fever_extract.models.backbones import MobileNetV1
from fever_extract.models.config import Backbone
from fever_extract.training.recipes.recipe import Part, Recipe
from fever_extract.training.trainer.average import average
from fever_extract.training.trainer.finish import finish
from fever_extract.training.trainer.pretrained import load_face_mobilenet
from fever_extract.training.trainer.train import Run, train

RECIPE = Recipe(
    name="test",
    backbone=Backbone(widths=(8, 16), depths=(1, 1)),
    embedding_dim=8,
    size=48,
    epochs=2,
    batch_size=32,
    unlabelled=4,
    peak_lr=0.01,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """FER+ and unlabelled faces, faces with valence and arousal, and triplets of these."""
    root = make_tables(tmp_path_factory.mktemp("data"))
    columns = rows(60, 64)
    happy = np.array(columns.pop("happy"))
    del columns["blendshapes"]
    columns["landmarks"] = pa.array(columns["landmarks"], pa.list_(pa.float32()))
    columns["split"] = ["train"] * 60
    columns["valence"] = pa.array([0.8 if smiles else -0.4 for smiles in happy], pa.float32())
    columns["arousal"] = pa.array([None] * 30 + [0.1, 0.3] * 15, pa.float32())
    pq.write_table(pa.table(columns), root / "affect.parquet")
    random = np.random.default_rng(0)
    kinds = (np.flatnonzero(happy), np.flatnonzero(~happy))
    drawn = []
    for _ in range(100):
        alike, other = random.permutation([0, 1])
        faces = [*random.choice(kinds[alike], 2), random.choice(kinds[other])]
        order = random.permutation(3)
        names = [columns["name"][faces[place]] for place in order]
        drawn.append((*names, int(np.flatnonzero(order == 2)[0])))
    keys = ("face_1", "face_2", "face_3", "odd")
    pq.write_table(pa.table(dict(zip(keys, zip(*drawn)))), root / "affect.triplets.parquet")
    return root


def test_valence_arousal_and_triplets_are_learned_beside_votes(folder, tmp_path):
    recipe = dataclasses.replace(
        RECIPE,
        epochs=20,
        tables=(
            Part("affect.parquet", 16, size=64),
            Part("affect.parquet", 8, size=64, triplets="affect.triplets.parquet"),
        ),
        valence_arousal_weight=1.0,
        triplet_weight=1.0,
    )
    output = train(recipe, folder, tmp_path / "run", device="cpu")
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    for task in ("expression", "valence_arousal", "triplet"):
        losses = [line[f"{task}_loss"] for line in log]
        assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5]), task
    extractor = Extractor(output, device="cpu")
    random = np.random.default_rng(5)
    smile, serious = (
        extractor.extract_records(drawn_face(happy, 48, random), aligned=True)[0].face
        for happy in (True, False)
    )
    assert smile.valence > serious.valence + 0.4
    assert -1 <= smile.arousal <= 1


def test_a_table_that_is_missing_is_named(folder, tmp_path):
    recipe = dataclasses.replace(RECIPE, tables=(Part("rafdb.parquet", 8),))
    with pytest.raises(FileNotFoundError, match=r"rafdb\.parquet"):
        train(recipe, folder, tmp_path / "run", device="cpu")


def test_a_recipe_file_may_name_tables(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"name": "mine", "tables": [{"table": "fec.parquet", "count": 8}]}')
    assert Recipe.read(path).tables == (Part("fec.parquet", 8),)


def test_a_two_stream_student_learns_from_its_teachers(folder, tmp_path):
    quick = dataclasses.replace(RECIPE, size=32)  # a whole MobileNet takes its time
    mobile = dataclasses.replace(quick, backbone=Backbone("mobilenet_v1", (), ()), frozen=3)
    teachers = [
        train(dataclasses.replace(recipe, epochs=1), folder, tmp_path / name, device="cpu")
        for name, recipe in (("residual", quick), ("mobile", mobile))
    ]
    recipe = dataclasses.replace(
        quick,
        backbone=Backbone("two_stream", (8, 16), (1, 1)),
        from_teachers=True,
        frozen=3,
        auxiliary_weight=0.3,
        covered=0.5,
        poor=0.5,
        distill_weight=0.6,
        geometry_weight=1.0,
        geometry_teachers=0.2,
        ema=0.9,
        rare_repeats=2,
    )
    whole = train(recipe, folder, tmp_path / "whole", device="cpu", teachers=teachers)
    stopped = Run(recipe, folder, tmp_path / "stopped", device="cpu", teachers=teachers)
    stopped.train_epoch()
    resumed = train(recipe, folder, tmp_path / "stopped", device="cpu", teachers=teachers)
    weights = [(run / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]
    student = Extractor(whole, device="cpu")
    learned_from = [Extractor(teacher, device="cpu").sha256 for teacher in teachers]
    assert student.config.metadata["teachers"] == learned_from
    smile = drawn_face(True, 48, np.random.default_rng(5))
    assert student.extract(smile, aligned=True).shape == (8,)
    with pytest.raises(ValueError, match="to learn from"):
        Run(recipe, folder, tmp_path / "whole", device="cpu", teachers=teachers[::-1])
    with pytest.raises(ValueError, match="one teacher with a MobileNetV1"):
        Run(recipe, folder, tmp_path / "other", device="cpu", teachers=teachers[:1])
    small = dataclasses.replace(mobile, from_teachers=True)
    run = Run(small, folder, tmp_path / "small", device="cpu", teachers=[whole, teachers[0]])
    taken = hub.load(whole).state_dict["backbone.mobilenet.layers.4.1.weight"].float()
    assert torch.equal(run.network.backbone.layers[4][1].weight, taken)


def test_finished_weights_say_the_same_in_other_numbers(folder, tmp_path):
    # More numbers than the eight that labels may explain.
    recipe = dataclasses.replace(RECIPE, embedding_dim=16)
    trained = train(recipe, folder, tmp_path / "trained", device="cpu")
    done = finish(trained, folder, tmp_path / "finished", rest=0.5, device="cpu")
    before, after = (Extractor(run, device="cpu") for run in (trained, tmp_path / "finished"))
    assert after.config.metadata["finish"] == {"rest": 0.5, "temperature": done.temperature}
    faces = [drawn_face(happy, 48, np.random.default_rng(6)) for happy in (True, False)]
    for face in faces:
        (old,), (new,) = (one.extract_faces(face, aligned=True) for one in (before, after))
        assert new.expression == old.expression
        shapes = [list(one.blendshapes.values()) for one in (old, new)]
        np.testing.assert_allclose(*shapes, atol=0.01)
        assert not np.allclose(new.vector, old.vector, atol=0.01)
    with pytest.raises(ValueError, match="more than 0 and at most 1, not 0"):
        finish(trained, folder, tmp_path / "other", rest=0, device="cpu")


def test_averaged_weights_lie_between_those_of_two_runs(folder, tmp_path):
    start = train(RECIPE, folder, tmp_path / "start", device="cpu")
    end = train(RECIPE, folder, tmp_path / "end", device="cpu", init=start)
    average(start, end, tmp_path / "between", share=0.25)
    first, second, between = (hub.load(run) for run in (start, end, tmp_path / "between"))
    name = "heads.expression.weight"
    numbers = [one.state_dict[name].float() for one in (first, second, between)]
    assert not torch.equal(numbers[0], numbers[1])
    expected = 0.75 * numbers[0] + 0.25 * numbers[1]
    torch.testing.assert_close(numbers[2], expected, atol=1e-3, rtol=1e-3)
    assert between.config.metadata["average"] == {
        "of": [first.sha256, second.sha256],
        "share": 0.25,
    }
    longer = dataclasses.replace(RECIPE, embedding_dim=16)
    other = train(longer, folder, tmp_path / "other", device="cpu")
    with pytest.raises(ValueError, match="differ in more than their numbers"):
        average(start, other, tmp_path / "never", share=0.5)
    with pytest.raises(ValueError, match="share must be 0 to 1, not 2"):
        average(start, end, tmp_path / "never", share=2)


def test_a_pretrained_mobilenet_stays_the_same_function(tmp_path):
    """In grey, with batch norms, as it was in colour and without."""
    torch.manual_seed(0)
    tensors = random_weights()
    save_file(tensors, tmp_path / "faces.safetensors")
    crops = torch.rand(8, 1, 64, 64) * 255
    backbone = MobileNetV1(1)
    load_face_mobilenet(backbone, tmp_path / "faces.safetensors", crops, 129.0, 64.0)
    with torch.no_grad():
        features = backbone.eval()((crops - 129) / 64)
    expected = plainly(tensors, crops)
    # Only the border differs: beyond it a grey picture has one mean, and BGR had three.
    assert (features - expected).abs().mean() < 0.02 * expected.abs().mean()


def test_the_real_pretrained_mobilenet_passes_its_readme_check(data):
    from safetensors.torch import load_file

    path = data / "mobilenet_v1_vggface2.safetensors"
    rows_ = torch.arange(224.0)[:, None].expand(224, 224)
    picture = torch.stack([rows_, rows_.T, (rows_ + rows_.T) / 2])[None]
    with torch.no_grad():
        features = plainly(load_file(path), picture, bgr=True)
    assert features.sum().item() == pytest.approx(2.6797, abs=1e-3)


def random_weights() -> dict[str, torch.Tensor]:
    tensors = {}
    names = ["conv0", *(f"{kind}{index}" for index in range(1, 14) for kind in ("dw", "pw"))]
    for name, layer in zip(names, MobileNetV1(3).layers):
        weight = layer[1].weight.detach()
        gain = (2 / weight[0].numel()) ** 0.5
        tensors[f"{name}.weight"] = torch.randn_like(weight) * gain
        tensors[f"{name}.bias"] = torch.randn(len(weight)) * 0.1
    tensors["conv0.weight"] /= 64
    return tensors


def plainly(tensors: dict[str, torch.Tensor], crops: torch.Tensor, bgr=False) -> torch.Tensor:
    """The network as the file has it: colour, no batch norm."""
    x = crops if bgr else crops.expand(-1, 3, -1, -1)
    x = x - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    names = ["conv0", *(f"{kind}{index}" for index in range(1, 14) for kind in ("dw", "pw"))]
    for name, (padding, convolution, _, activation) in zip(names, MobileNetV1(3).layers):
        convolution.weight.data.copy_(tensors[f"{name}.weight"])
        x = activation(convolution(padding(x)) + tensors[f"{name}.bias"][:, None, None])
    return x.mean(dim=(2, 3))
