"""Reading a config from a stranger."""

import functools
import json

import pytest
import torch

from fever_extract import Config, ConfigError, WeightsError
from fever_extract.config import FORMAT_VERSION, Backbone, Preprocessing
from fever_extract.network import FeverNet, build

POINTS = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


def config(**changes) -> Config:
    values = {
        "name": "tiny",
        "preprocessing": Preprocessing(32, "grey", (128.0,), (64.0,), POINTS),
        "backbone": Backbone(widths=(8, 16), depths=(1, 1)),
        "embedding_dim": 12,
        "blendshapes": ("jawOpen",),
    }
    return Config(**(values | changes))


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
