"""Weights from a folder, or a clear error."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from tiny import config

from fever_extract import Extractor, WeightsError, hub
from fever_extract.hub.card import model_card
from fever_extract.models import checkpoint
from fever_extract.models.network import FeverNet

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tmp_path / "tiny", config(), FeverNet(config()).state_dict())
    return tmp_path / "tiny"


def test_a_local_folder(folder, astronaut):
    extractor = Extractor(folder, device="cpu")
    assert extractor.embedding_dim == 12
    assert extractor.source == str(folder)
    assert len(extractor.sha256) == 64
    assert extractor.extract(astronaut).shape == (12,)
    assert "tiny" in repr(extractor)


def test_the_embedded_default_says_what_it_is(extractor):
    assert extractor.source == "embedded"
    assert extractor.config.name.startswith("fever-")
    assert extractor.embedding_dim <= 512


def test_python_started_in_a_checkout_finds_its_weights(tmp_path, extractor):
    for name in ("fever_extract", "weights"):
        shutil.copytree(ROOT / name, tmp_path / name)  # with __pycache__: to compile takes longer
    script = """if True:
        import sys
        # An editable install has a finder that knows where the weights are; a wheel has none.
        sys.meta_path = [one for one in sys.meta_path if "editable" not in repr(one)]
        import fever_extract
        print(fever_extract.__file__, fever_extract.Extractor(device="cpu").sha256)
    """
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == [
        str(tmp_path / "fever_extract" / "__init__.py"),
        extractor.sha256,
    ]


def test_two_weights_have_two_identities(folder, extractor):
    assert hub.load(folder).sha256 != extractor.sha256


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_a_missing_file(folder, file):
    (folder / file).unlink()
    with pytest.raises(WeightsError, match=f"has no {file}"):
        Extractor(folder)


@pytest.mark.parametrize("content", [b"", b"<html></html>", b"\x80\x04\x95pickle", b"cut"])
def test_a_model_that_is_no_safetensors(folder, content):
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:-100] if content == b"cut" else content)
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        Extractor(folder)


def test_a_config_that_does_not_fit(folder):
    (folder / "config.json").write_text(config(embedding_dim=13).to_json())
    with pytest.raises(WeightsError, match=r"embedding\.0\.weight"):
        Extractor(folder)


@pytest.mark.parametrize(
    "name", ["nowhere", "../up/there", "/no/such", "a/b/c", "a b/c d", "https://host/a", "a/.."]
)
def test_what_is_no_folder_and_no_repository(name):
    with pytest.raises(WeightsError, match=r"neither a folder|no name of a Hub"):
        Extractor(name)


def test_revisions_belong_to_the_hub(folder):
    with pytest.raises(WeightsError, match="no revisions"):
        Extractor(folder, revision="v1")
    with pytest.raises(WeightsError, match="give org/name"):
        Extractor(revision="v1")
    with pytest.raises(WeightsError, match="two revisions"):
        Extractor("org/name@v1", revision="v2")


def test_the_hub_out_of_reach_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="not in the cache") as caught:
        Extractor("some-org/some-name")
    assert "\n" not in str(caught.value)


FIRST = "embedding.0.weight"
VARIANCE = "embedding.1.running_var"
BAD_TENSORS = {
    "nan": (FIRST, torch.full((12, 16), torch.nan), "not finite"),
    "one infinity": (FIRST, torch.tensor([torch.inf] + [0.0] * 191).reshape(12, 16), "not finite"),
    "float16": (FIRST, torch.full((12, 16), 1e6).half(), "not finite"),
    "bfloat16": (FIRST, torch.full((12, 16), -torch.inf).bfloat16(), "not finite"),
    "negative variance": (VARIANCE, -torch.ones(12), "variances below 0"),
    "negative bfloat16": (VARIANCE, -torch.ones(12).bfloat16(), "variances below 0"),
    "int8": (FIRST, torch.ones(12, 16, dtype=torch.int8), "dtype I8"),
    "bool": (FIRST, torch.ones(12, 16, dtype=torch.bool), "dtype BOOL"),
    "float64": (FIRST, torch.ones(12, 16, dtype=torch.float64), "dtype F64"),
    "complex": (FIRST, torch.ones(12, 16, dtype=torch.complex64), "dtype C64"),
    "float8": (FIRST, torch.ones(12, 16).to(torch.float8_e4m3fn), "dtype F8_E4M3"),
}


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_a_tensor_that_can_not_be_used_is_named(folder, tmp_path, kind):
    """When weights are read, in whichever way, and when they would be written."""
    name, tensor, message = BAD_TENSORS[kind]
    state = {**FeverNet(config()).state_dict(), name: tensor}
    with pytest.raises(WeightsError, match=f"'{name}'.*{message}"):
        checkpoint.save(tmp_path / "bad", config(), state)
    assert not (tmp_path / "bad" / "model.safetensors").exists()
    data = save(state)
    with pytest.raises(WeightsError, match=f"'{name}'.*{message}"):
        checkpoint.save(tmp_path / "bad", config(), data)
    (folder / "model.safetensors").write_bytes(data)
    for load in (hub.load, Extractor):
        with pytest.raises(WeightsError, match=f"'{name}'.*{message}"):
            load(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (FIRST, torch.ones(12, 16, dtype=torch.int64), f"'{FIRST}' is of torch.int64"),
        ("embedding.1.num_batches_tracked", torch.tensor(1.0), "tracked' is of torch.float32"),
        (FIRST, torch.full((12, 16), 3e38), "the weights overflow"),
    ],
)
def test_what_the_network_can_not_use(folder, name, tensor, message):
    torch.manual_seed(2)  # features whose sum is well above one, so that the product overflows
    state = {**FeverNet(config()).state_dict(), name: tensor}
    (folder / "model.safetensors").write_bytes(save(state))
    with pytest.raises(WeightsError, match=message):
        Extractor(folder)


def test_bfloat16_will_do(folder, astronaut):
    state = FeverNet(config()).state_dict()
    (folder / "model.safetensors").write_bytes(
        save({n: t.bfloat16() if t.is_floating_point() else t for n, t in state.items()})
    )
    assert np.isfinite(Extractor(folder, device="cpu").extract(astronaut)).all()


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(b'{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}', b"0"), "dtype F4"),
        (header(b"{" + b" " * 90_000_000 + b"}"), "has a header of 90,000,002 bytes"),
        (header(b"[" * 100_000), "not a whole safetensors file"),
        (header(b'{"a": 7}'), "not a whole safetensors file"),
        (header(b"[]"), "not a whole safetensors file"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "its header is cut off"),
    ],
)
def test_headers_of_strangers(folder, content, message):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        Extractor(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_file_is_not_its_folder(folder):
    with pytest.raises(WeightsError, match="give the folder that holds it"):
        Extractor(folder / "model.safetensors")


def test_saving_keeps_the_bytes_of_another_tools_file(folder, tmp_path):
    """Its header may be written otherwise: the identity stays."""
    from safetensors.torch import load_file, save_file

    model = folder / "model.safetensors"
    save_file(load_file(model), model, metadata={"made_by": "another tool"})
    extractor = Extractor(folder, device="cpu")
    extractor.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == model.read_bytes()


@pytest.mark.parametrize("evaluation", [{"accuracy": 0.9}, 7, {"faces_by_class": None}])
def test_metadata_of_any_shape_makes_a_card(evaluation):
    card = model_card(config(metadata={"evaluation": evaluation, "description": 3}))
    assert "Nothing has been measured yet" in card
