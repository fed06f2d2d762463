"""The adapters in the real libraries: the package's vectors, and gradients."""

import pickle

import numpy as np
import pytest
import torch
from helpers import cosine
from PIL import ExifTags, Image

from fever_extract import Extractor, alignment
from fever_extract.interop.torch import from_pretrained


@pytest.fixture(scope="module")
def crops(extractor, astronaut) -> torch.Tensor:
    pixels = np.asarray(astronaut)
    (face,) = extractor.extract_faces(pixels)
    return alignment.align(pixels, face.landmarks[None], extractor.config.preprocessing)


@pytest.fixture(scope="module")
def saved(extractor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    extractor.save_pretrained(folder)
    return folder


def test_a_torch_module(extractor, astronaut, crops, saved):
    expected = extractor.extract(astronaut)
    for network in (from_pretrained(), from_pretrained(saved)):
        output = network(crops)
        np.testing.assert_allclose(output.embedding[0].detach(), expected, atol=1e-3)
    output.heads["expression"].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert sum(p.grad is not None for p in network.parameters()) > 10
    assert set(network.state_dict()) == set(from_pretrained().state_dict())


def test_transformers(extractor, astronaut, landscape, saved, tmp_path):
    transformers = pytest.importorskip("transformers")
    import fever_extract.interop.transformers  # noqa: F401 - registers

    model = transformers.AutoModel.from_pretrained(saved, trust_remote_code=False)
    processor = transformers.AutoImageProcessor.from_pretrained(saved)
    expected = extractor.extract(astronaut)
    with pytest.warns(UserWarning, match="1 of 2 images have no face"):
        inputs = processor([astronaut, Image.fromarray(landscape)], return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    np.testing.assert_allclose(output.pooler_output[0], expected, atol=1e-3)
    assert output.pooler_output[1].isnan().all()
    assert output.expression.shape == (2, 8)
    # Written by transformers, read by it again.
    processor.save_pretrained(tmp_path)
    again = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    np.testing.assert_array_equal(
        again(astronaut, return_tensors="np").pixel_values, inputs.pixel_values[:1]
    )
    # The model, too, and by the package.
    model.save_pretrained(tmp_path)
    again = transformers.AutoModel.from_pretrained(tmp_path, trust_remote_code=False)
    with torch.inference_mode():
        np.testing.assert_allclose(again(**inputs).pooler_output[0], expected, atol=1e-3)
    np.testing.assert_allclose(Extractor(tmp_path).extract(astronaut), expected, atol=1e-3)
    shape = np.shape(transformers.pipeline("image-feature-extraction", str(tmp_path))(astronaut))
    assert shape == (1, extractor.embedding_dim)
    model.train()
    model(**inputs).pooler_output[0].sum().backward()
    assert next(model.parameters()).grad is not None
    with pytest.raises(TypeError, match="no option device_map"):
        transformers.AutoModel.from_pretrained(saved, device_map="auto")


def test_datasets(extractor, astronaut_path, landscape, tmp_path):
    """Rows in order, NaN without a face, upright, and not computed again for an equal extractor."""
    datasets = pytest.importorskip("datasets")
    Image.fromarray(landscape).save(tmp_path / "none.png")
    upright = Image.open(astronaut_path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    paths = [str(astronaut_path), str(tmp_path / "none.png"), str(tmp_path / "turned.png")]
    dataset = datasets.Dataset.from_dict({"image": paths}).cast_column("image", datasets.Image())

    def embed(rows, extractor):
        return {"embedding": extractor.extract(rows["image"])}

    options = {"batched": True, "batch_size": 2}
    fingerprints = []
    for each in (extractor, pickle.loads(pickle.dumps(extractor))):
        with pytest.warns(UserWarning, match="1 of 2 images have no"):
            table = dataset.map(embed, fn_kwargs={"extractor": each}, **options)
        fingerprints.append(table._fingerprint)
    assert fingerprints[0] == fingerprints[1]
    rows = np.array(table["embedding"])
    np.testing.assert_allclose(rows[[0, 2]], extractor.extract([paths[0], paths[2]]), atol=1e-4)
    assert cosine(rows[0], rows[2]) > 0.99
    assert np.isnan(rows[1]).all()


def test_timm(extractor, astronaut, crops):
    timm = pytest.importorskip("timm")
    import fever_extract.interop.timm  # noqa: F401 - registers

    model = timm.create_model("fever", pretrained=True).eval()
    expected = extractor.extract(astronaut)
    with torch.inference_mode():
        np.testing.assert_allclose(model(crops)[0], expected, atol=1e-3)
    # A crop that timm's own transforms made: no more than the bytes' rounding apart.
    data = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**data, is_training=False)
    picture = Image.fromarray(crops[0].permute(1, 2, 0).round().byte().numpy())
    torch.testing.assert_close(transform(picture), crops[0], atol=0.51, rtol=0)
    classifier = timm.create_model("fever", pretrained=True, num_classes=7, drop_rate=0.2)
    assert classifier(crops.repeat(2, 1, 1, 1)).shape == (2, 7)
    classifier.reset_classifier(3)
    assert classifier.get_classifier().out_features == 3
    with pytest.raises(TypeError, match="no option stem_width"):
        timm.create_model("fever", stem_width=3)
