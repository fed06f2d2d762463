"""The contracts of `Extractor`, as a user meets them."""

import gc
import io
import subprocess
import sys
import warnings
import weakref

import numpy as np
import pytest

from fever_extract import ExtractionError, Extractor, Options, Status
from fever_extract.options import OptionArguments


def test_one_image_is_one_vector(extractor, astronaut_path):
    vector = extractor.extract(astronaut_path)
    assert vector.shape == (extractor.embedding_dim,)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()


def test_every_kind_of_image_gives_the_same_vector(extractor, astronaut_path, astronaut):
    kinds = [str(astronaut_path), astronaut_path, astronaut_path.read_bytes(), astronaut]
    kinds.append(np.array(astronaut))
    vectors = extractor.extract(kinds)
    assert vectors.shape == (5, extractor.embedding_dim)
    np.testing.assert_allclose(vectors, np.broadcast_to(vectors[0], vectors.shape), atol=1e-4)


def test_a_column_of_paths_is_many_images(extractor, astronaut_path):
    column = np.array([str(astronaut_path)] * 2)
    assert extractor.extract(column).shape == (2, extractor.embedding_dim)
    assert extractor.extract(column.astype(object)).shape == (2, extractor.embedding_dim)


def test_a_generator_is_many_images(extractor, astronaut_path):
    assert extractor.extract(path for path in [astronaut_path]).shape == (
        1,
        extractor.embedding_dim,
    )


def test_an_empty_list_gives_an_empty_matrix(extractor):
    vectors = extractor.extract([])
    assert vectors.shape == (0, extractor.embedding_dim)
    assert vectors.dtype == np.float32
    assert extractor.extract_records([]) == []


def test_row_i_is_input_i(extractor_there, astronaut, landscape):
    mixed = [astronaut, "missing.jpg", landscape, astronaut, b"no image"]
    with pytest.warns(UserWarning, match="3 of 5 images") as caught:
        vectors = extractor_there.extract(mixed, batch_size=2)
    assert len(caught) == 1
    assert "1 no_face, 1 decode_error, 1 not_found" in str(caught[0].message)
    assert np.isnan(vectors).all(axis=1).tolist() == [False, True, True, False, True]
    np.testing.assert_allclose(vectors[0], vectors[3], atol=1e-4)


def test_on_error_raise_names_the_input(extractor, astronaut):
    with pytest.raises(ExtractionError, match=r"image 1: .*missing\.jpg does not exist") as caught:
        extractor.extract([astronaut, "missing.jpg"], on_error="raise")
    assert caught.value.status is Status.NOT_FOUND


def test_records_say_what_became_of_each(extractor, astronaut, landscape):
    records = extractor.extract_records([astronaut, landscape, "missing.jpg"])
    assert [record.status for record in records] == ["ok", "no_face", "not_found"]
    face = records[0].face
    assert face is not None
    assert face.expression == "happiness"
    assert face.detected
    assert face.score > 0.99
    assert face.landmarks.shape == (5, 2)
    assert sum(face.expressions.values()) == pytest.approx(1, abs=1e-4)
    assert len(face.blendshapes) == 52
    assert face.valence is None, "the default was not trained for valence"
    assert records[0].error is None
    assert records[1].face is None
    assert "no face" in records[1].error


def test_the_same_alone_in_any_batch_and_in_any_order(extractor_there, astronaut):
    images = [
        astronaut,
        astronaut.resize((300, 340)),
        astronaut.crop((100, 20, 340, 300)),
        astronaut.rotate(15),
        astronaut.transpose(0).resize((640, 480)),
    ]
    together = extractor_there.extract(images)
    assert np.isfinite(together).all()
    alone = np.stack([extractor_there.extract(image) for image in images])
    reversed_ = extractor_there.extract(images[::-1], batch_size=3)[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together, reversed_, atol=1e-4)


def two_faces(astronaut):
    """A small face at the left, a large one at the right, the small one in the middle."""
    canvas = np.full((512, 1200, 3), 128, np.uint8)
    canvas[:, 688:] = np.array(astronaut)
    canvas[128:384, 440:696] = np.array(astronaut.resize((256, 256)))
    return canvas


def test_all_faces_and_which_comes_first(extractor, astronaut):
    canvas = two_faces(astronaut)
    faces = extractor.extract_faces(canvas)
    assert len(faces) == 2
    assert faces[0].size > faces[1].size
    (central,) = extractor.extract_records(canvas, select="center")
    assert central.face.box[0] == pytest.approx(faces[1].box[0])
    scores = [face.score for face in extractor.extract_faces(canvas, select="most_confident")]
    assert scores == sorted(scores, reverse=True)


def test_extract_faces_of_nothing(extractor, landscape):
    assert extractor.extract_faces(landscape) == []
    with pytest.raises(ExtractionError, match="does not exist"):
        extractor.extract_faces("missing.jpg")
    with pytest.raises(TypeError, match="one image"):
        extractor.extract_faces([landscape])


def test_min_confidence_and_min_face_size_leave_faces_out(extractor, astronaut):
    canvas = two_faces(astronaut)
    assert len(extractor.extract_faces(canvas, min_face_size=80)) == 1
    assert extractor.extract_faces(canvas, min_confidence=1.0) == []


def test_a_low_confidence_really_admits_more(extractor, astronaut):
    """MTCNN's own last threshold is 0.7; a face on its side is found with less."""
    lying = astronaut.rotate(84)
    assert extractor.extract_faces(lying) == []
    (unsure, *_) = extractor.extract_faces(lying, min_confidence=0.1, select="most_confident")
    assert 0.1 <= unsure.score < 0.7


def test_normalize(extractor, astronaut):
    plain = extractor.extract(astronaut)
    unit = extractor.extract(astronaut, normalize=True)
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain), atol=1e-5)


def test_aligned_takes_the_whole_picture(extractor, astronaut):
    crop = astronaut.crop((170, 60, 280, 170))
    (record,) = extractor.extract_records(crop, aligned=True)
    assert record.status is Status.OK
    assert not record.face.detected
    assert record.face.box.tolist() == [0, 0, 110, 110]
    assert np.isnan(record.face.score)


def test_fallback_only_where_asked_for(extractor, landscape):
    assert extractor.extract_records(landscape)[0].status is Status.NO_FACE
    (record,) = extractor.extract_records(landscape, fallback="whole")
    assert record.status is Status.OK
    assert not record.face.detected


def test_options_are_for_the_extractor_or_for_a_call(astronaut):
    unit = Extractor(device="cpu", normalize=True)
    assert np.linalg.norm(unit.extract(astronaut)) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(unit.extract(astronaut, normalize=False)) > 2


def test_both_spellings_of_the_options_agree():
    assert set(OptionArguments.__annotations__) == set(Options.__dataclass_fields__)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0),
        ("select", "smallest"),
        ("fallback", "guess"),
        ("on_error", "ignore"),
        ("min_confidence", 2),
        ("min_face_size", 3),
    ],
)
def test_an_option_out_of_range_is_refused(extractor, astronaut, option, value):
    with pytest.raises(ValueError, match=option):
        extractor.extract(astronaut, **{option: value})


def test_an_unknown_option_is_refused(extractor, astronaut):
    with pytest.raises(TypeError, match="colour"):
        extractor.extract(astronaut, colour="red")


def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="'tpu:9'"):
        Extractor(device="tpu:9")


def test_good_input_gives_no_warning(extractor, astronaut_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extractor.extract([astronaut_path, astronaut_path])


def test_progress_only_where_asked_for(extractor, astronaut_path, capsys):
    extractor.extract([astronaut_path] * 2)
    assert capsys.readouterr().err == "", "a log is no terminal"
    extractor.extract([astronaut_path] * 2, show_progress=True)
    assert "2/2" in capsys.readouterr().err


def test_importing_the_package_does_not_import_torch():
    code = "import sys; from fever_extract import Extractor; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_the_first_embedding_waits_for_no_import_of_torchvision(astronaut_path):
    code = (
        "import sys; from fever_extract import Extractor\n"
        f"print(Extractor(device='cpu').extract({str(astronaut_path)!r}).shape)\n"
        "print('torchvision' in sys.modules, 'torch._dynamo' in sys.modules)\n"
        "import torch, torchvision\n"  # finds its operators registered, and goes on
        "print(torchvision.ops.nms(torch.tensor([[0, 0, 9, 9.]] * 2), torch.ones(2), 0.5).tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["(512,)", "False False", "[0]"]


def test_detection_trouble_is_a_record(extractor, astronaut, monkeypatch):
    # Out of memory can't be had to order: the detector's own last resort is what is tested.
    def out_of_memory(*_):
        raise RuntimeError("not enough memory")

    monkeypatch.setattr(extractor._pipeline._detector, "_refine", out_of_memory)
    (record,) = extractor.extract_records(astronaut)
    assert record.status is Status.DETECT_ERROR
    assert "not enough memory" in record.error


def test_detection_trouble_with_several_images_is_one_image_s(extractor, astronaut, monkeypatch):
    detector = extractor._pipeline._detector
    detect = detector.detect

    def out_of_memory(pictures, *rest):
        if any(len(picture) > 600 for picture in pictures):
            raise RuntimeError("not enough memory")
        return detect(pictures, *rest)

    monkeypatch.setattr(detector, "detect", out_of_memory)
    images = [astronaut, astronaut.resize((700, 700)), astronaut]
    statuses = [record.status for record in extractor.extract_records(images)]
    assert statuses == [Status.OK, Status.DETECT_ERROR, Status.OK]


def test_a_picture_without_a_face_does_not_linger_in_memory(extractor):
    """Until the garbage collector comes, that is, which does not know how large pictures are."""
    pictures = [np.zeros((200, 200, 3), np.uint8), np.zeros((10, 10, 3), np.uint8)]
    living = [weakref.ref(picture) for picture in pictures]
    gc.collect()
    gc.disable()
    try:
        records = extractor.extract_records(pictures)
        pictures.clear()
        assert [reference() for reference in living] == [None, None]
    finally:
        gc.enable()
    assert [record.status for record in records] == [Status.NO_FACE, Status.TOO_SMALL]


def test_a_pillow_image_that_fails_late_is_a_record(extractor, astronaut_path):
    from PIL import Image

    data = astronaut_path.read_bytes()
    image = Image.open(io.BytesIO(data[: len(data) // 2]))
    assert extractor.extract_records(image)[0].status is Status.DECODE_ERROR
