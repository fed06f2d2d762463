"""Weights from a folder, or a clear error."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
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
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
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


def test_weights_that_overflow_are_not_written(tmp_path):
    state = FeverNet(config()).state_dict()
    state["embedding.0.weight"] = torch.full((12, 16), 1e6).half()
    with pytest.raises(WeightsError, match="not finite"):
        checkpoint.save(tmp_path / "bad", config(), state)
    assert not (tmp_path / "bad" / "model.safetensors").exists()


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
