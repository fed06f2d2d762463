"""Faces that are detected in some frames of a clip and followed in the others."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_maker import scene, write_clip
from helpers import cosine, in_process
from PIL import Image

from fever_extract.records import Status


@pytest.fixture(scope="module")
def face(astronaut):
    return astronaut.crop((120, 0, 340, 220)).resize((160, 160))


@pytest.fixture
def searched(extractor, monkeypatch):
    """How many frames were searched in each call of the detector."""
    counts = []
    detector = extractor._pipeline._detector
    detect = detector.detect

    def counted(images, *arguments):
        counts.append(len(images))
        return detect(images, *arguments)

    monkeypatch.setattr(detector, "detect", counted)
    return counts


def assert_near(face, other, part=0.05):
    """The same landmarks, to a part of the distance between the eyes, and so the same embedding."""
    apart = np.linalg.norm(other.landmarks[1] - other.landmarks[0])
    assert np.linalg.norm(face.landmarks - other.landmarks, axis=1).max() < part * apart
    assert cosine(face.embedding, other.embedding) > 0.98


def test_followed_faces_are_those_that_are_detected(extractor, face, tmp_path, searched):
    """At a variable rate too: segments are counted anew each second."""
    path = tmp_path / "moving.mp4"
    pictures = [scene(face, (index * 8, 40)) for index in range(15)]
    write_clip(path, pictures, [*range(0, 1000, 100), 1100, 1150, 1200, 1900, 2500])
    expected = list(extractor.extract_video(path))
    assert sum(searched) == 15
    for size in (32, 1):
        searched.clear()
        frames = list(extractor.extract_video(path, detect_every=4, batch_size=size))
        assert sum(searched) == 3 + 1 + 1, size
        assert [frame.time for frame in frames] == [frame.time for frame in expected]
        assert [face.track for frame in frames for face in frame.faces] == [0] * 15
        for frame, other in zip(frames, expected):
            assert_near(frame.face, other.face)
            assert frame.face.score > 0.9
    searched.clear()
    list(extractor.extract_video(path, detect_every=4, fps=5))
    assert sum(searched) == 2 + 1 + 1


def test_who_is_lost_is_not_made_up_and_who_comes_is_late(extractor, face, tmp_path):
    alone, nobody = scene(face, (0, 40)), scene(face, (900, 40))
    small = face.resize((120, 120))
    both = Image.fromarray(alone)
    both.paste(small, (180, 60))
    pictures = [alone, alone, nobody, nobody, alone, np.asarray(both), np.asarray(both), alone]
    write_clip(tmp_path / "clip.mp4", pictures, [index * 50 for index in range(8)])
    counts = {}
    for every in (1, 7):
        frames = list(extractor.extract_video(tmp_path / "clip.mp4", detect_every=every))
        counts[every] = [len(frame.faces) for frame in frames]
        assert frames[2].status is frames[3].status is Status.NO_FACE
    assert counts[1] == [1, 1, 0, 0, 1, 2, 2, 1]
    assert counts[7] == [1, 1, 0, 0, 1, 1, 1, 1], "the second is not looked for before frame 7"
    frames = list(extractor.extract_video(tmp_path / "clip.mp4", detect_every=6))
    assert [len(frame.faces) for frame in frames] == [1, 1, 0, 0, 1, 1, 2, 1]


def test_a_face_that_the_border_cuts_is_followed(extractor, face, tmp_path, searched):
    """As it is where the picture goes on, which a look at what remains can't tell."""
    whole = [scene(face, (80 + index, 20)) for index in range(4)]
    cut = [np.ascontiguousarray(picture[:144]) for picture in whole]
    for name, pictures in (("whole", whole), ("cut", cut)):
        write_clip(tmp_path / f"{name}.mp4", pictures)
    searched.clear()
    frames = list(extractor.extract_video(tmp_path / "cut.mp4", detect_every=4))
    assert sum(searched) == 1
    for frame, other in zip(frames, extractor.extract_video(tmp_path / "whole.mp4")):
        assert frame.face.box[3] > 144
        assert_near(frame.face, other.face, 0.1)


def test_the_command_writes_what_was_asked_for(face, tmp_path, capsys):
    write_clip(tmp_path / "clip.mp4", [scene(face, (40, 40))] * 3)
    output = tmp_path / "f.parquet"
    arguments = ("extract", tmp_path / "clip.mp4", "-o", output, "--detect-every", 3)
    assert in_process(capsys, *arguments)[0] == 0
    assert b'"detect_every": 3' in pq.read_schema(output).metadata[b"fever_extract"]
    assert len(pq.read_table(output)) == 3
