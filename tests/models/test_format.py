"""What was released once is read for ever; and the network's way out of torch."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import in_process

from fever_extract import Extractor, hub
from fever_extract.alignment import whole
from fever_extract.models.config import FORMAT_VERSION, Backbone
from fever_extract.models.network import FeverNet

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"


def picture() -> np.ndarray:
    """One that any program can make: red is 8x, green is 8y, blue is 4(x + y)."""
    y, x = np.mgrid[:32, :32]
    return np.stack([8 * x, 8 * y, 4 * (x + y)], axis=-1).astype(np.uint8)


def test_each_released_version_has_a_checkpoint():
    names = sorted(path.name for path in CHECKPOINTS.iterdir())
    assert names == [f"v{number}" for number in range(1, FORMAT_VERSION + 1)]


@pytest.mark.parametrize("version", range(1, FORMAT_VERSION + 1))
def test_it_still_gives_what_it_gave(version):
    folder = CHECKPOINTS / f"v{version}"
    expected = json.loads((folder / "expected.json").read_text())
    (record,) = Extractor(folder, device="cpu").extract_records(picture(), aligned=True)
    np.testing.assert_allclose(record.face.vector, expected["vector"], atol=1e-4)
    assert record.face.expressions == pytest.approx(expected["expressions"], abs=1e-4)
    assert record.face.blendshapes == pytest.approx(expected["blendshapes"], abs=1e-4)


@pytest.mark.parametrize("name", ["compact", "mobilenet_v1", "two_stream"])
def test_the_keys_of_the_state_dict_are_those_that_are_documented(name):
    """As in docs/format.md; other frameworks read these."""
    compact = r"(stem\.[01]|blocks\.\d+\.(conv[12]|norm[12]|squeeze|excite|shortcut\.[01]))"
    mobilenet = r"layers\.\d+\.[12]"
    backbone = {
        "compact": compact,
        "mobilenet_v1": mobilenet,
        "two_stream": rf"(residual\.{compact}|mobilenet\.{mobilenet})",
    }[name]
    others = r"embedding\.[01]|heads\.(expression|blendshapes|valence_arousal)"
    values = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
    embedded = hub.load()
    shape = () if name == "mobilenet_v1" else (8, 16)
    config = dataclasses.replace(embedded.config, backbone=Backbone(name, shape, shape))
    keys = list(FeverNet(config).state_dict())
    if name == embedded.config.backbone.name:
        assert sorted(keys) == sorted(embedded.state_dict)
    for key in keys:
        assert re.fullmatch(rf"(backbone\.{backbone}|{others})\.{values}", key), key


def test_onnx_gives_the_same(extractor, astronaut, bundle):
    onnx_model = bundle / "embedder.onnx"
    session = onnxruntime.InferenceSession(onnx_model)
    crop = np.array(astronaut.crop((170, 60, 280, 170)))
    crops = whole(crop, extractor.config.preprocessing).numpy()
    for batch in (1, 3):
        names = [output.name for output in session.get_outputs()]
        outputs = session.run(None, {"crops": np.repeat(crops, batch, axis=0)})
        named = dict(zip(names, outputs))
        vector = extractor.extract(crop, aligned=True)
        np.testing.assert_allclose(named["embedding"], np.tile(vector, (batch, 1)), atol=1e-4)
        assert named["expression"].shape == (batch, 8)
    metadata = {item.key: item.value for item in onnx.load(onnx_model).metadata_props}
    assert metadata["fever_extract_weights_sha256"] == extractor.sha256
    assert json.loads(metadata["fever_extract_config"])["embedding_dim"] == extractor.embedding_dim


def test_the_export_command(tmp_path, capsys):
    weights = ["--weights", CHECKPOINTS / "v1"]
    code, out, err = in_process(capsys, "export", tmp_path / "model.onnx", *weights)
    assert code == 0, err
    assert "differs from torch by at most" in out
    code, _, err = in_process(capsys, "export", tmp_path / "missing" / "model.onnx", *weights)
    assert code == 2
    assert "does not exist" in err
