"""Courses of real clips, as one is extracted and from a table, and clips drawn on."""

import av
import numpy as np
import pandas as pd
import pytest
from clip_maker import TURNS, scene, show_by, write_clip, write_sound
from PIL import Image

from fever_extract import Status
from fever_extract.video.course import Course, courses_of
from fever_extract.video.drawing import Annotator
from fever_extract.video.writing import ClipWriter

UNEVEN = [0, 40, 80, 700, 740, 1200, 1240, 1280]


@pytest.fixture(scope="module")
def head(astronaut):
    return astronaut.crop((120, 0, 340, 220)).resize((160, 160))


@pytest.fixture(scope="module")
def clip(head, tmp_path_factory):
    """A face that moves, at a variable frame rate; gone in the last frame."""
    path = tmp_path_factory.mktemp("clips") / "uneven.mp4"
    shown = [scene(head, (20 + 10 * step, 40)) for step in range(7)]
    write_clip(path, [*shown, scene(head)], UNEVEN)
    return path


def add_sound(path, target):
    """A copy of a clip with two seconds of silence."""
    write_sound(path.with_name("sound.mp4"))
    sound = path.with_name("sound.mp4")
    with av.open(str(path)) as a, av.open(str(sound)) as b, av.open(str(target), "w") as out:
        sources = (a.streams.video[0], b.streams.audio[0])
        streams = [out.add_stream_from_template(source) for source in sources]
        for source, stream in zip(sources, streams):
            for packet in source.container.demux(source):
                if packet.dts is not None:
                    packet.stream = stream
                    out.mux(packet)


def read(path):
    """Times, pictures and codecs of a clip."""
    with av.open(str(path)) as container:
        codecs = [stream.codec_context.name for stream in container.streams]
        frames = [
            (frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]
    return [time for time, _ in frames], [pixels for _, pixels in frames], codecs


def test_the_course_of_a_clip(extractor, clip):
    course = extractor.extract_course(clip, step=0.5)
    assert (course.clip, course.frames, course.faces, course.problems) == (
        "uneven.mp4",
        8,
        (0,),
        (),
    )
    table = course.to_pandas()
    assert table["time"].tolist() == [0, 0.5, 1]
    assert table["seconds"].tolist() == pytest.approx([0.5, 0.5, 0.28], abs=1e-3)
    assert table["frames"].tolist() == [3, 2, 2]
    frames = list(extractor.extract_video(clip))
    second = [frames[i].faces[0].expressions["happiness"] for i in (2, 3, 4)]
    mean = np.average(second, weights=[0.2, 0.04, 0.26])
    assert table["p_happiness"][1] == pytest.approx(mean, abs=1e-3)
    assert course.about == {
        "weights": extractor.config.name,
        "weights_sha256": extractor.sha256,
    }
    pd.testing.assert_frame_equal(
        Course.of_frames(frames, step=0.5, clip="uneven.mp4").to_pandas(), table
    )


def test_the_course_of_a_table_is_that_of_its_clip(extractor, clip, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    Image.new("RGB", (60, 60)).save(folder / "photograph.png")
    extractor.extract_folder(folder, tmp_path / "t.parquet", all_faces=True)
    of_clip = extractor.extract_course(folder / "a.mp4")
    of_table = Course.of_table(tmp_path / "t.parquet")
    assert of_table.clip == "a.mp4"
    assert of_table.frames == of_clip.frames
    assert of_table.about == of_clip.about
    pd.testing.assert_frame_equal(of_table.to_pandas(), of_clip.to_pandas(), atol=1e-4)
    assert of_table.per_minute("smile") == of_clip.per_minute("smile")


def test_tables_of_several_clips_and_of_none(extractor, clip, head, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(clip.read_bytes())
    (folder / "c.mp4").write_bytes(b"broken")
    write_clip(folder / "b.mp4", [scene(head)] * 2)
    extractor.extract_folder(folder, tmp_path / "t.npz", all_faces=True, embedding=False)
    with pytest.raises(ValueError, match=r"several clips; choose one with clip=; .*a\.mp4, b\.mp4"):
        Course.of_table(tmp_path / "t.npz")
    with pytest.raises(ValueError, match=r"no clip 'z\.mp4'"):
        Course.of_table(tmp_path / "t.npz", clip="z.mp4")
    broken = Course.of_table(tmp_path / "t.npz", clip="c.mp4")
    assert "could not be opened" in broken.problems[0].error
    empty = Course.of_table(tmp_path / "t.npz", clip="b.mp4")
    assert "no face in 2 frames" in empty.problems[0].error
    Image.new("RGB", (60, 60)).save(tmp_path / "photograph.png")
    extractor.extract_folder(tmp_path / "photograph.png", tmp_path / "p.npz")
    with pytest.raises(ValueError, match="has no frames of a clip"):
        Course.of_table(tmp_path / "p.npz")


def test_all_clips_of_a_table(extractor, clip, head, tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "b.mp4").write_bytes(clip.read_bytes())
    write_clip(folder / "a.mp4", [scene(head, (80, 40))] * 2)
    extractor.extract_folder(folder, tmp_path / "t.parquet", all_faces=True)
    from fever_extract import read_table

    courses = list(courses_of(read_table(tmp_path / "t.parquet"), step=0.5))
    assert [(course.clip, course.frames) for course in courses] == [("a.mp4", 2), ("b.mp4", 8)]


def test_what_can_not_be_read(extractor, clip, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    write_sound(tmp_path / "sound.mp4")
    for name, reason in (
        ("broken.mp4", "could not be opened"),
        ("sound.mp4", "no video in it"),
        ("missing.mp4", "does not exist"),
    ):
        course = extractor.extract_course(tmp_path / name, annotate=tmp_path / "out.mp4")
        (problem,) = course.problems
        assert reason in problem.error
        assert (course.frames, course.faces) == (0, ())
    assert extractor.extract_course(clip, start=60).problems[0].error.startswith("no frame in it")
    assert not (tmp_path / "out.mp4").exists(), "nothing of nothing"


def test_wrong_arguments(extractor, clip, tmp_path):
    for arguments, message in (
        ({"step": 0}, "step must be more than 0"),
        ({"fps": -1}, "fps must be more than 0"),
        ({"start": 2, "end": 1}, "start must be"),
        ({"annotate": tmp_path / "a.gif"}, "must end in .mp4 or"),
        ({"annotate": clip}, "the one that is read"),
    ):
        with pytest.raises(ValueError, match=message):
            extractor.extract_course(clip, **arguments)
    with pytest.raises(TypeError, match="expected a clip"):
        extractor.extract_course(3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_an_annotated_clip(extractor, clip, tmp_path, name):
    add_sound(clip, tmp_path / "sound.mp4")
    course = extractor.extract_course(tmp_path / "sound.mp4", annotate=tmp_path / name)
    assert course.frames == 8
    times, pictures, codecs = read(tmp_path / name)
    assert times == pytest.approx(np.array(UNEVEN) / 1000, abs=1e-3)
    assert codecs == ["h264", "aac"]
    _, before, _ = read(clip)
    assert pictures[0].shape == (240 + 5 * 18, 320, 3)
    face, empty = (
        np.abs(pictures[index][:240].astype(int) - before[index]).mean() for index in (0, 7)
    )
    assert face > 3
    assert empty < 1, "where nothing was found, nothing is drawn"
    band = pictures[5][240:262, 60:]
    assert (band.max(axis=2) > 100).mean() > 0.05, "a bar is in the band"
    assert [p.name for p in tmp_path.iterdir() if "fever" in p.name] == []


def test_sound_of_a_part_of_a_clip(extractor, clip, tmp_path):
    add_sound(clip, tmp_path / "sound.mp4")
    extractor.extract_course(
        tmp_path / "sound.mp4", start=0.5, end=1.0, annotate=tmp_path / "part.mp4"
    )
    with av.open(str(tmp_path / "part.mp4")) as container:
        ends = {
            stream.type: float(stream.duration * stream.time_base) for stream in container.streams
        }
    times, _, _ = read(tmp_path / "part.mp4")
    assert times == pytest.approx([0, 0.04], abs=1e-3)
    assert 0 < ends["audio"] < 0.3


def test_a_turned_clip_is_drawn_upright(extractor, head, tmp_path):
    lying = np.ascontiguousarray(np.rot90(scene(head, (80, 40))))
    write_clip(tmp_path / "phone.mp4", [lying] * 2)
    show_by(tmp_path / "phone.mp4", TURNS[90])
    course = extractor.extract_course(tmp_path / "phone.mp4", annotate=tmp_path / "out.mp4")
    assert course.faces == (0,)
    _, pictures, _ = read(tmp_path / "out.mp4")
    assert pictures[0].shape == (240 + 5 * 18, 320, 3)


def test_a_broken_tail_is_drawn_as_far_as_it_goes(extractor, head, tmp_path):
    shown = [scene(head, (20 + step, 40)) for step in range(30)]
    write_clip(tmp_path / "cut.mp4", shown, movflags="faststart")
    data = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: int(len(data) * 0.6)])
    course = extractor.extract_course(tmp_path / "cut.mp4", annotate=tmp_path / "out.mp4")
    (problem,) = course.problems
    assert problem.status is Status.DECODE_ERROR
    assert course.frames == len(read(tmp_path / "out.mp4")[0]) > 5


def test_a_clip_that_fails_half_way_leaves_the_old_one(tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"old")
    writer = ClipWriter(tmp_path / "out.mp4")

    def fail():
        with writer:
            writer.write(np.zeros((64, 64, 3), np.uint8), 0.0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_sides_become_even_and_the_band_forgets(extractor, head):
    pixels = np.asarray(scene(head, (80, 40)))[:239, :319]
    faces = [
        face.__class__(**{**face.__dict__, "track": 0}) for face in extractor.extract_faces(pixels)
    ]
    annotator = Annotator()
    with_face = annotator.draw(pixels, faces, 0.0)
    assert with_face.shape[0] % 2 == with_face.shape[1] % 2 == 0
    later = annotator.draw(pixels, [], 60.0)
    assert (later[:239, :319] == pixels).all()
    assert with_face.shape == later.shape
