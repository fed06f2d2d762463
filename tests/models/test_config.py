"""Reading a config from a stranger."""

import functools
import json

import pytest
import torch
from tiny import POINTS, config

from fever_extract import Config, ConfigError, WeightsError
from fever_extract.models.backbones import build_backbone
from fever_extract.models.config import FORMAT_VERSION, Backbone, Preprocessing
from fever_extract.models.network import FeverNet, build


def test_it_survives_a_round_trip():
    assert Config.from_json(config().to_json()) == config()


def changed(path: str, value: object) -> str:
    values = json.loads(config().to_json())
    *parents, last = path.split(".")
    target = values
    for name in parents:
        target = target[name]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format_version", FORMAT_VERSION + 1, "upgrade"),
        ("format_version", ..., "no format_version"),
        ("format_version", "1", "format_version"),
        ("name", ..., "lacks field"),
        ("name", 7, "name must be a text"),
        ("surprise", 1, "unknown field"),
        ("embedding_dim", 10**9, "embedding_dim"),
        ("embedding_dim", True, "embedding_dim"),
        ("embedding_dim", 1.5, "embedding_dim"),
        ("expressions", "neutral", "must be a list"),
        ("expressions", ["a", "a"], "different names"),
        ("expressions", [["a"]], "expressions"),
        ("valence_arousal", "yes", "true or false"),
        ("metadata", [], "metadata"),
        ("metadata", functools.reduce(lambda inner, _: {"a": [inner]}, range(30), 1), "50 deep"),
        ("metadata", functools.reduce(lambda inner, _: {"a": inner}, range(900), 1), "50 deep"),
        ("preprocessing.template", [[0.5, 0.5]] * 5, "five times one point"),
        ("backbone", [], "backbone must be a JSON object"),
        ("backbone.widths", [8, 10**6], "backbone.widths"),
        ("backbone.depths", [1], "equal lengths"),
        ("backbone.widths", 8, "must be a list"),
        ("backbone.taps", [[9, 3]], "backbone.taps are for mobilenet_v1"),
        ("expression_prior", [0.5, 0.5], "one share for each"),
        ("expression_prior", [0] * 8, "expression_prior"),
        ("preprocessing", ..., "preprocessing must be"),
        ("preprocessing.size", 100_000, "preprocessing.size"),
        ("preprocessing.color", "bgr", "preprocessing.color"),
        ("preprocessing.mean", [1, 2, 3], "preprocessing.mean"),
        ("preprocessing.std", [0], "greater than 0"),
        ("preprocessing.std", [float("nan")], "preprocessing.std"),
        ("preprocessing.template", [[0.1, 0.2]], "five points"),
        ("preprocessing.template", [1, 2, 3, 4, 5], "template|preprocessing"),
    ],
)
def test_a_bad_field_is_named(path, value, message):
    with pytest.raises(ConfigError, match=message):
        Config.from_json(changed(path, value))


@pytest.mark.parametrize(
    "text", ["", "<html>not found</html>", "[]", "null", b"\xff\xfe", "[" * 99_999, " " * 2_000_000]
)
def test_what_is_no_config(text):
    with pytest.raises(ConfigError):
        Config.from_json(text)


def test_heads_are_those_that_were_trained():
    network = FeverNet(config(expressions=(), valence_arousal=True)).eval()
    output = network(torch.zeros(2, 3, 32, 32))
    assert output.embedding.shape == (2, 12)
    assert {name: tuple(values.shape) for name, values in output.heads.items()} == {
        "blendshapes": (2, 1),
        "valence_arousal": (2, 2),
    }


def test_a_grey_network_sees_the_luminance():
    network = FeverNet(config()).eval()
    colour = torch.rand(2, 3, 32, 32) * 255
    weights = torch.tensor([0.299, 0.587, 0.114])
    grey = (colour * weights[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(network.embed(colour), network.embed(grey), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0"])
@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_backbones_of_torchvision(name, color):
    channels = 1 if color == "grey" else 3
    preprocessing = Preprocessing(64, color, (128.0,) * channels, (64.0,) * channels, POINTS)
    chosen = config(backbone=Backbone(name, (), ()), preprocessing=preprocessing)
    network = build(chosen, FeverNet(chosen).state_dict())
    assert network.embed(torch.zeros(1, 3, 64, 64)).shape == (1, 12)


def test_a_backbone_that_does_not_take_the_size():
    chosen = config(
        backbone=Backbone("alexnet", (), ()),
        preprocessing=Preprocessing(16, "grey", (128.0,), (64.0,), POINTS),
    )
    with torch.device("meta"):
        shapes = FeverNet(chosen).state_dict()
    state = {name: torch.zeros(values.shape, dtype=values.dtype) for name, values in shapes.items()}
    with pytest.raises(WeightsError, match="can't be run on 16x16 pixels"):
        build(chosen, state)


@pytest.mark.parametrize("name", ["regnet_y_400mf", "mnasnet0_5"])
def test_backbones_of_torchvision_that_can_not_be_used(name):
    chosen = config(backbone=Backbone(name, (), ()))
    for make in (FeverNet, lambda config: build(config, {})):
        with pytest.raises(ConfigError, match=f"{name} can't be read back"):
            make(chosen)


def test_a_backbone_that_is_not_known():
    with pytest.raises(ConfigError, match="resnet9000"):
        FeverNet(config(backbone=Backbone("resnet9000", (), ())))


def test_the_first_tensor_that_differs_is_named():
    state = FeverNet(config(embedding_dim=10)).state_dict()
    with pytest.raises(WeightsError, match=r"embedding\.0\.weight.*\(10, 16\).*\(12, 16\)"):
        build(config(), state)
    with pytest.raises(WeightsError, match=r"heads\.valence_arousal\.weight.*missing"):
        build(config(valence_arousal=True), FeverNet(config()).state_dict())


def test_a_huge_network_is_refused_without_being_built():
    huge = config(backbone=Backbone(widths=(8192,) * 8, depths=(64,) * 8))
    with pytest.raises(WeightsError, match="don't fit"):
        build(huge, FeverNet(config()).state_dict())


@pytest.mark.parametrize(
    "taps", [((14, 1),), ((9, 0),), ((9, 9),), ((9,),), (9,), ((9, "3"),), ((1, 1),) * 14]
)
def test_taps_that_no_mobilenet_has_are_refused(taps):
    with pytest.raises(ConfigError, match=r"backbone\.taps"):
        Backbone("mobilenet_v1", (), (), taps)


def test_taps_are_regions_of_blocks_side_by_side():
    backbone = Backbone("mobilenet_v1", (), (), ((1, 2), (13, 1)))
    network, features = build_backbone(backbone, 1)
    whole, _ = build_backbone(Backbone("mobilenet_v1", (), ()), 1)
    whole.load_state_dict(network.state_dict())
    crops = torch.randn(2, 1, 64, 64)
    pooled = network.eval()(crops)
    first = network.layers[:3](crops)
    assert pooled.shape == (2, features) == (2, 64 * 4 + 1024)
    upper_right = first[:, :, :16, 16:].mean(dim=(2, 3))
    torch.testing.assert_close(pooled[:, :256].reshape(2, 64, 2, 2)[:, :, 0, 1], upper_right)
    torch.testing.assert_close(pooled[:, 256:], whole.eval()(crops))


def test_the_prior_is_added_to_the_logits():
    network = FeverNet(config(expression_prior=(0.65,) + (0.05,) * 7))
    even = torch.zeros(1, 8)
    torch.testing.assert_close(network.probabilities(even), torch.full((1, 8), 1 / 8))
    torch.testing.assert_close(
        network.probabilities(even, "training"), torch.tensor([[0.65] + [0.05] * 7])
    )
    unknown = FeverNet(config())
    torch.testing.assert_close(unknown.probabilities(even, "training"), torch.full((1, 8), 1 / 8))
    with pytest.raises(ValueError, match="expression_prior"):
        unknown.probabilities(even, "uniform")


@pytest.mark.parametrize(
    "changes", [{"name": "\ud800"}, {"expressions": ["\udcff"]}, {"metadata": {"a": ["\ud800"]}}]
)
def test_half_characters_are_refused(changes):
    values = json.loads(config().to_json()) | changes
    with pytest.raises(ConfigError, match=r"holds \\ud(800|cff), half a character"):
        Config.from_json(json.dumps(values))
