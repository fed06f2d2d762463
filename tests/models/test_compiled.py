"""Compiled layers compute what those on torch do, whatever the config and the processor."""

import copy

import numpy as np
import pytest
import torch

from fever_extract.kernels.library import INSTRUCTIONS, instructions
from fever_extract.models.compiled import CompiledEmbedding, CompiledMobileNet, compile_layers
from fever_extract.models.config import Backbone, Config, Preprocessing
from fever_extract.models.network import FeverNet
from fever_extract.training.trainer.start import TEMPLATE

LEVELS = [
    pytest.param(
        level,
        marks=pytest.mark.skipif(level > instructions(), reason=f"not here: {words}"),
        id=words,
    )
    for level, words in enumerate(INSTRUCTIONS)
    if level
]


def network_of(backbone, size=64, color="grey", **others):
    """A network whose statistics are not the initial ones."""
    channels = 1 if color == "grey" else 3
    preprocessing = Preprocessing(size, color, (128.0,) * channels, (60.0,) * channels, TEMPLATE)
    config = Config("test", preprocessing, backbone, **others)
    torch.manual_seed(0)
    network = FeverNet(config).train()
    for _ in range(3):
        network(torch.rand(4, 3, size, size) * 255)
    return network.eval()


def difference(ours, torchs):
    return float((ours - torchs).norm() / torchs.norm())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("size", "color", "taps"),
    [
        (96, "grey", ((9, 3), (13, 1))),
        (64, "rgb", ((13, 2), (3, 4), (13, 1), (1, 5))),  # in any order, a block twice
        (50, "grey", ()),  # sides are odd on the way
        (33, "rgb", ((11, 2),)),
        (256, "grey", ((13, 3),)),  # the last frames are large, too
    ],
)
@torch.inference_mode()
def test_a_compiled_mobilenet_has_the_features_of_torch(level, size, color, taps):
    network = network_of(Backbone("mobilenet_v1", (), (), taps), size, color)
    compiled = CompiledMobileNet(network.backbone, level)
    for count in (1, 2, 5, 13):
        crops = torch.randn(count, network.channels, size, size)
        expected, features = network.backbone(crops), compiled(crops)
        assert features.shape == expected.shape
        assert difference(features, expected) < 1e-5
        # A face's features don't depend on those that are with it.
        assert difference(compiled(crops[-1:])[0], features[-1]) < 1e-6


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("half", [True, False])
@torch.inference_mode()
def test_a_compiled_embedding_is_that_of_torch(level, half):
    """Of any length, whether its weights are exact in float16 or not."""
    network = network_of(Backbone("mobilenet_v1", (), (), ((5, 2),)), embedding_dim=77)
    if half:
        network.half().float()
    compiled = CompiledEmbedding(network.embedding, level)
    assert compiled._half == half
    for count in (1, 3, 6, 19):
        features = torch.randn(count, network.embedding[0].in_features)
        expected, embeddings = network.embedding(features), compiled(features)
        assert embeddings.shape == expected.shape
        assert difference(embeddings, expected) < 1e-5


@pytest.mark.skipif(not instructions(), reason="nothing was compiled")
@pytest.mark.parametrize("name", ["two_stream", "compact", "resnet18"])
@torch.inference_mode()
def test_networks_with_other_layers_too_are_compiled_in_part(name):
    shape = ((8, 16), (1, 1)) if name in ("compact", "two_stream") else ((), ())
    network = network_of(Backbone(name, *shape), size=32)
    compiled = copy.deepcopy(network)
    compile_layers(compiled)
    kinds = {type(module) for module in compiled.modules()}
    assert (CompiledMobileNet in kinds) == (name == "two_stream")
    crops = torch.rand(3, 3, 32, 32) * 255
    assert difference(compiled(crops).embedding, network(crops).embedding) < 1e-4


@pytest.mark.skipif(not instructions(), reason="nothing was compiled")
def test_the_extractor_uses_them_and_says_what_torch_says(extractor, astronaut):
    crop = np.array(astronaut.crop((170, 60, 290, 180)).resize((96, 96)))
    (record,) = extractor.extract_records(crop, aligned=True)
    modules = {type(one) for one in extractor._pipeline.embedder._by_dtype["float32"].modules()}
    assert {CompiledMobileNet, CompiledEmbedding} <= modules
    pixels = torch.from_numpy(crop).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        output = extractor.network().eval()(pixels)
    np.testing.assert_allclose(record.face.embedding, output.embedding[0], atol=1e-5)
