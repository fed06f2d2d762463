"""What makes it fast must not change what it says, or what the caller has set."""

import copy
import threading

import numpy as np
import pytest
import torch
from helpers import cosine, iou
from PIL import Image

from fever_extract import Status, images
from fever_extract.models.config import OURS, Backbone, Config, Preprocessing
from fever_extract.models.inference import for_inference, in_dtype
from fever_extract.models.network import FeverNet
from fever_extract.training.trainer.start import TEMPLATE


@pytest.fixture(scope="module")
def large(astronaut, tmp_path_factory):
    """A JPEG of 3000 pixels a side, with a face of 600."""
    path = tmp_path_factory.mktemp("large") / "large.jpg"
    astronaut.resize((3000, 3000), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def test_a_large_jpeg_decoded_smaller_gives_the_same_face(extractor, large):
    (full,) = extractor.extract_faces(large)
    (reduced,) = extractor.extract_faces(large, detect_size=640)
    assert images.read_reduced(large, 640)[0].shape == (750, 750, 3)
    assert iou(full.box, reduced.box) > 0.9
    assert cosine(full.vector, reduced.vector) > 0.995


def test_a_face_that_became_small_is_decoded_again(extractor, astronaut, tmp_path):
    canvas = Image.new("RGB", (2400, 2400), "grey")
    canvas.paste(astronaut.resize((700, 700)), (900, 800))
    canvas.save(tmp_path / "far.jpg", quality=95)
    (full,) = extractor.extract_faces(tmp_path / "far.jpg")
    (reduced,) = extractor.extract_faces(tmp_path / "far.jpg", detect_size=1000, min_face_size=60)
    # At half the size its crop would be blurred.
    assert images.read_reduced(tmp_path / "far.jpg", 1000)[1] > 1
    assert reduced.size / 2 < extractor.config.preprocessing.size * 1.5
    assert cosine(full.vector, reduced.vector) > 0.995


def test_detect_size_leaves_small_faces_out(extractor, astronaut):
    canvas = Image.new("RGB", (1600, 1200), "grey")
    canvas.paste(astronaut.resize((300, 300)), (100, 100))
    assert extractor.extract_records(canvas)[0].status is Status.OK
    record = extractor.extract_records(canvas, detect_size=320)[0]
    assert record.status is Status.NO_FACE
    assert "133 pixels" in record.error


def test_an_image_that_is_rotated_may_be_decoded_smaller_too(extractor, large, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = Image.open(large).transpose(Image.Transpose.ROTATE_90).crop((0, 0, 2400, 3000))
    turned.save(tmp_path / "turned.jpg", quality=90, exif=exif)
    (full,) = extractor.extract_faces(tmp_path / "turned.jpg")
    (reduced,) = extractor.extract_faces(tmp_path / "turned.jpg", detect_size=640)
    assert iou(full.box, reduced.box) > 0.9


def test_bfloat16_changes_vectors_little(extractor, astronaut):
    exact = extractor.extract(astronaut)
    fast = extractor.extract(astronaut, dtype="bfloat16")
    assert fast.dtype == np.float32
    assert not np.array_equal(exact, fast)
    assert cosine(exact, fast) > 0.999


@pytest.mark.parametrize(
    "name", ["compact", "mobilenet_v1", "two_stream", "resnet18", "densenet121"]
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fused_convolutions_compute_the_same(name, dtype):
    shape = ((8, 16), (1, 1)) if name in ("compact", "two_stream") else ((), ())
    config = Config(
        "test", Preprocessing(32, "grey", (128.0,), (60.0,), TEMPLATE), Backbone(name, *shape)
    )
    torch.manual_seed(0)
    network = FeverNet(config).train()
    for _ in range(3):  # statistics that are not the initial ones
        network(torch.rand(8, 1, 32, 32) * 255)
    fused = in_dtype(for_inference(copy.deepcopy(network.eval())), dtype).backbone
    for count in (1, 5):
        crops = torch.randn(count, network.backbone_channels, 32, 32)
        with torch.inference_mode():
            expected, features = network.backbone(crops), fused(crops)
        tolerance = 1e-4 if dtype == "float32" else 0.05
        error = (features - expected).norm() / expected.norm()
        assert error < tolerance, f"off by {error:.1e}"
    kinds = [type(module) for module in fused.modules()]
    if name in OURS:
        assert torch.nn.BatchNorm2d not in kinds
        assert torch.nn.ZeroPad2d not in kinds


def test_convolutions_that_may_run_in_another_order_are_not_fused():
    class Backwards(torch.nn.Sequential):
        def forward(self, x):
            return self[0](self[1](x))

    def layers():
        return torch.nn.Conv2d(4, 4, 1), torch.nn.BatchNorm2d(4).train()

    torch.manual_seed(0)
    shared, relu = layers()[0], torch.nn.ReLU()
    (between, norm), norms = layers(), [layers()[1] for _ in range(2)]
    backbone = torch.nn.Sequential(
        Backwards(*layers()),
        torch.nn.Sequential(shared, norms[0], shared, norms[1]),
        torch.nn.Sequential(relu, between, relu, norm),
    )
    backbone(torch.randn(8, 4, 2, 2) * 3 + 1)
    network = torch.nn.Module()
    network.backbone = copy.deepcopy(backbone.eval())
    x = torch.randn(2, 4, 2, 2)
    torch.testing.assert_close(for_inference(network).backbone(x), backbone(x))


@pytest.mark.usefixtures("two_threads")
def test_many_images_at_once_are_the_same_in_order(extractor, astronaut, landscape, tmp_path):
    inputs, expected = [], []
    for index in range(37):
        picture = astronaut.crop((index, 0, 400, 300 + index))
        inputs.append([picture, np.array(picture), landscape, tmp_path / "missing.jpg"][index % 4])
        expected.append([Status.OK, Status.OK, Status.NO_FACE, Status.NOT_FOUND][index % 4])
    records = extractor.extract_records(inputs)
    assert [record.status for record in records] == expected
    for index in (0, 1, 20, 36):
        alone = extractor.extract(inputs[index])
        np.testing.assert_allclose(records[index].face.vector, alone, atol=1e-4)


def test_the_callers_threads_stay_as_they_were(extractor, astronaut):
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        extractor.extract([astronaut] * 20)
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert [torch.get_num_threads(), *elsewhere] == [3, 3]
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_a_stream_that_is_left_early_leaves_no_thread(extractor, astronaut):
    records = extractor._pipeline.stream([astronaut] * 40, extractor._options)
    next(records)
    records.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fever_")]
