"""Clips to records: right times, faces that keep their ids, and clear words where it ends."""

import itertools
import re
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import av
import hostile_clips
import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_maker import TURNS, scene, show_by, write_clip, write_sound
from helpers import SMILING, cosine, in_process, iou, write_faces
from PIL import Image

from fever_extract import ExtractionError, Frame, Status, cli
from fever_extract.video.decoding import Clip, upright
from fever_extract.video.frames import sample

UNEVEN = [0, 33, 66, 200, 233, 500, 900, 1000, 1033, 1066, 2000, 2033]


@pytest.fixture(scope="module")
def face(astronaut):
    return astronaut.crop((120, 0, 340, 220)).resize((160, 160))


@pytest.fixture(scope="module")
def moving(face):
    """A face that goes from left to right in twelve frames."""
    return [scene(face, (index * 10, 40)) for index in range(12)]


@pytest.fixture(scope="module")
def clip(moving, tmp_path_factory):
    path = tmp_path_factory.mktemp("clips") / "moving.mp4"
    write_clip(path, moving)
    return path


def times(path, **range_) -> list[float]:
    """The times of all frames that can be decoded."""
    found = []
    try:
        with Clip(path) as opened:
            found.extend(time for time, _ in opened.frames(**range_))
    except ExtractionError:
        pass
    return found


# What is in the records


def test_records_of_a_clip(extractor, clip):
    frames = list(extractor.extract_video(clip, batch_size=5))
    assert all(isinstance(frame, Frame) and frame.status is Status.OK for frame in frames)
    assert [frame.time for frame in frames] == pytest.approx(np.arange(12) / 10)
    assert [face.track for frame in frames for face in frame.faces] == [0] * 12
    lefts = [frame.face.box[0] for frame in frames]
    np.testing.assert_allclose(np.diff(lefts), 10, atol=4)
    with Clip(clip) as opened:
        pixels = [upright(frame, opened.pixel_aspect) for _, frame in opened.frames()]
    np.testing.assert_allclose(
        np.stack([frame.face.vector for frame in frames]), extractor.extract(pixels), atol=1e-4
    )


def test_options_and_the_choice_among_faces(extractor, face, tmp_path):
    """Two faces, of which now this and now that is the larger one, and one id each."""
    small = face.resize((120, 120))
    left, right = Image.fromarray(scene(face, (0, 40))), Image.fromarray(scene(face, (160, 40)))
    left.paste(small, (180, 60))
    right.paste(small, (20, 60))
    pictures = [np.asarray(picture) for picture in (left, left, right, right)]
    write_clip(tmp_path / "two.mp4", pictures)
    frames = list(extractor.extract_video(tmp_path / "two.mp4"))
    assert [[f.track for f in frame.faces] for frame in frames] == [[0, 1]] * 2 + [[1, 0]] * 2
    one = list(extractor.extract_video(tmp_path / "two.mp4", all_faces=False, normalize=True))
    assert [[f.track for f in frame.faces] for frame in one] == [[0], [0], [1], [1]]
    assert np.linalg.norm(one[0].face.vector) == pytest.approx(1, abs=1e-5)


def test_a_face_that_leaves_and_returns(extractor, face, tmp_path):
    shown, empty = scene(face, (80, 40)), scene(face)
    other = scene(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((100, 100)), (10, 40))
    # Gone for 0.4 s, and for 1.6 s; after that one of half the size comes in elsewhere.
    away = [shown] * 2 + [empty] * 3 + [shown] + [empty] * 15 + [shown] + [empty] * 15 + [other]
    write_clip(tmp_path / "away.mp4", away, fine=True)
    frames = list(extractor.extract_video(tmp_path / "away.mp4"))
    assert [frame.status.value for frame in frames] == (
        ["ok"] * 2 + (["no_face"] * 3 + ["ok"]) + (["no_face"] * 15 + ["ok"]) * 2
    )
    assert [frame.face.track for frame in frames if frame.face] == [0, 0, 0, 0, 1]


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    """Another person's face, in grey, as large as ``face``."""
    (path,) = write_faces(tmp_path_factory.mktemp("faces"), SMILING[:1])
    return Image.open(path).convert("RGB")


def test_a_cut_to_somebody_else_in_the_same_place(extractor, face, another, tmp_path):
    first, second = scene(face, (80, 40)), scene(another, (80, 40))
    write_clip(tmp_path / "cut.mp4", [first] * 3 + [second] * 3 + [first] * 2, fine=True)
    frames = list(extractor.extract_video(tmp_path / "cut.mp4"))
    assert iou(frames[2].face.box, frames[3].face.box) > 0.3
    assert [frame.face.track for frame in frames] == [0] * 3 + [1] * 3 + [0] * 2


def test_two_who_cross(extractor, face, another, tmp_path):
    def shown(step):
        picture = Image.fromarray(scene(another, (480 - 30 * step, 40), size=(640, 240)))
        picture.paste(face, (30 * step, 40))  # who comes from the left is in front
        return np.asarray(picture)

    write_clip(tmp_path / "cross.mp4", [shown(step) for step in range(17)], fine=True)
    frames = list(extractor.extract_video(tmp_path / "cross.mp4"))
    sides = [
        {track: box[0] for track, box in ((f.track, f.box) for f in frames[index].faces)}
        for index in (0, -1)
    ]
    assert len(sides[0]) == len(sides[1]) == 2
    left, right = sorted(sides[0], key=sides[0].__getitem__)
    assert sides[1][left] > sides[1][right]


def test_a_clip_is_never_all_in_memory(extractor):
    """A source without an end, as a camera is, already open."""
    with av.open("testsrc2=size=160x120:rate=10", format="lavfi") as camera:
        stream = extractor.extract_video(camera, batch_size=2)
        taken = list(itertools.islice(stream, 5))
        assert [frame.time for frame in taken] == pytest.approx(np.arange(5) / 10)
        stream.close()
        assert next(camera.decode(video=0)).time < 5, "given open, it stays open"


def test_a_container_that_was_looked_into(extractor, clip):
    with av.open(str(clip)) as container:
        assert next(container.decode(video=0)).pts == 0
        times = [frame.time for frame in extractor.extract_video(container)]
    assert times == pytest.approx(np.arange(1, 12) / 10), "from where it stands"


def test_an_open_file(extractor, clip):
    with open(clip, "rb") as file:
        frames = list(extractor.extract_video(file, end=0.25))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])


# Times


# How a clip is stored that each matrix shows upright.
STORED = {
    (1, 0, 0, 1): lambda upright: upright,
    (-1, 0, 0, 1): lambda upright: upright[:, ::-1],
    (1, 0, 0, -1): lambda upright: upright[::-1],
    TURNS[180]: lambda upright: upright[::-1, ::-1],
    TURNS[90]: np.rot90,
    TURNS[270]: lambda upright: np.rot90(upright, -1),
    (0, 1, 1, 0): lambda upright: upright.swapaxes(0, 1),
    (0, -1, -1, 0): lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    (0.98, 0.17, -0.17, 0.98): lambda upright: upright,  # by ten degrees: the nearest will do
}


def shown(path) -> list[np.ndarray]:
    with Clip(path) as opened:
        return [upright(frame, opened.pixel_aspect) for _, frame in opened.frames()]


@pytest.mark.parametrize("matrix", STORED)
def test_every_display_matrix(extractor, moving, tmp_path, matrix):
    stored = [np.ascontiguousarray(STORED[matrix](picture)) for picture in moving[:2]]
    write_clip(tmp_path / "phone.mp4", stored, fine=True)
    show_by(tmp_path / "phone.mp4", matrix)
    for pixels, picture in zip(shown(tmp_path / "phone.mp4"), moving):
        assert np.abs(pixels.astype(int) - picture).mean() < 5
    frames = list(extractor.extract_video(tmp_path / "phone.mp4"))
    for frame, still in zip(frames, extractor.extract_records(moving[:2])):
        assert iou(frame.face.box, still.face.box) > 0.8
        assert cosine(frame.face.vector, still.face.vector) > 0.99


ASPECTS = {
    "2": (160, 240),
    "64/45": (226, 240),
    "1/2": (320, 120),
}


@pytest.mark.parametrize(
    ("name", "aspect"),
    [("a.mp4", "2"), ("a.mkv", "2"), ("a.ts", "2"), ("a.mp4", "64/45"), ("a.mp4", "1/2")],
)
def test_pixels_that_are_not_square(extractor, moving, tmp_path, name, aspect):
    squeezed = [np.array(Image.fromarray(one).resize(ASPECTS[aspect])) for one in moving[:2]]
    write_clip(tmp_path / name, squeezed, pixel_aspect=Fraction(aspect), fine=True)
    for pixels in shown(tmp_path / name):
        assert abs(pixels.shape[1] / pixels.shape[0] - 320 / 240) < 0.02
    frames = list(extractor.extract_video(tmp_path / name))
    assert len(frames) == 2
    for frame, still in zip(frames, extractor.extract_records(moving[:2])):
        assert cosine(frame.face.vector, still.face.vector) > 0.98


def test_pixels_that_are_not_square_of_a_turned_clip(extractor, moving, tmp_path):
    lying = [np.rot90(np.array(Image.fromarray(one).resize((320, 120)))) for one in moving[:2]]
    path = tmp_path / "turned.mp4"
    write_clip(path, list(map(np.ascontiguousarray, lying)), pixel_aspect=Fraction(2), fine=True)
    show_by(path, TURNS[90])
    assert [pixels.shape for pixels in shown(path)] == [(240, 320, 3)] * 2
    for frame, still in zip(extractor.extract_video(path), extractor.extract_records(moving[:2])):
        assert cosine(frame.face.vector, still.face.vector) > 0.98


@pytest.mark.parametrize("aspect", ["2", "1/2"])
def test_stretched_frames_stay_sharp(astronaut, aspect):
    size = ASPECTS[aspect]
    whole = astronaut.resize((320, 240), Image.Resampling.BOX)
    squeezed = whole.resize(size, Image.Resampling.BOX)
    frame = av.VideoFrame.from_ndarray(np.array(squeezed), format="rgb24")

    def loss(pixels) -> float:
        return float(np.abs(np.asarray(pixels, float) - np.asarray(whole, float)).mean())

    blurred = loss(squeezed.resize(whole.size, Image.Resampling.BILINEAR))
    assert loss(upright(frame, Fraction(aspect))) < 0.95 * blurred


def test_pixels_that_no_picture_has(extractor, moving, tmp_path):
    write_clip(tmp_path / "strip.mkv", moving[:2], pixel_aspect=Fraction(40))
    (frame,) = extractor.extract_video(tmp_path / "strip.mkv")
    assert frame.status is Status.DECODE_ERROR
    assert "40 times as wide as high" in frame.error


def test_pixels_whose_shape_changes_on_the_way(moving, tmp_path):
    """As when a broadcast goes from 4:3 to 16:9; the second half begins anew."""
    for name, aspect in (("a.ts", 1), ("b.ts", 2)):
        write_clip(tmp_path / name, moving[:3], pixel_aspect=Fraction(aspect))
    both = (tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes()
    (tmp_path / "both.ts").write_bytes(both)
    widths = [pixels.shape[1] for pixels in shown(tmp_path / "both.ts")]
    assert widths == [320] * 3 + [640] * 3


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "ts"])
@pytest.mark.parametrize("first", [0, 5000])
def test_a_variable_frame_rate_and_a_late_beginning(moving, tmp_path, extension, first):
    path = tmp_path / f"uneven.{extension}"
    write_clip(path, moving, [first + time for time in UNEVEN])
    # mp4 keeps an empty second as an edit: there the picture begins late, as it was made.
    late = first / 1000 if extension in ("mp4", "mov") else 0
    assert np.subtract(times(path), times(path)[0]) == pytest.approx(np.array(UNEVEN) / 1000)
    assert times(path)[0] in (0, pytest.approx(late))


def test_a_stream_without_times(moving, tmp_path):
    write_clip(tmp_path / "raw.h264", moving)
    found = times(tmp_path / "raw.h264")
    assert len(found) == 12
    assert np.diff(found) == pytest.approx(found[1]), "evenly spread"
    assert found[1] > 0


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mpg", "mpeg2video"),
        ("a.h264", "libx264"),
    ],
)
def test_from_start_to_end(moving, tmp_path, name, codec):
    write_clip(tmp_path / name, moving * 3, codec=codec)
    everything = times(tmp_path / name)
    assert len(everything) == 36
    start, end = everything[14], everything[20]
    assert times(tmp_path / name, start=start, end=end) == everything[14:20]
    assert times(tmp_path / name, start=start) == everything[14:]
    assert times(tmp_path / name, end=end) == everything[:20]


@pytest.mark.parametrize(
    ("there", "fps", "taken"),
    [
        ([0.0, 0.1, 0.2, 0.3, 0.4], 5, [0.0, 0.2, 0.4]),
        ([0.0, 0.1, 0.2, 0.3, 0.4], 10, [0.0, 0.1, 0.2, 0.3, 0.4]),
        ([0.0, 0.1, 0.2], 100, [0.0, 0.1, 0.2]),
        ([0.0, 0.1, 0.2, 5.0, 5.1], 1, [0.0, 0.2, 5.0]),
        ([2.0, 2.4, 2.6, 3.1, 3.9], 1, [2.0, 3.1, 3.9]),
        ([7.0], 1, [7.0]),
        ([], 1, []),
        ([0.0, 0.1], None, [0.0, 0.1]),
    ],
)
def test_the_frames_nearest_to_a_rate(there, fps, taken):
    assert [time for time, _ in sample(((time, None) for time in there), fps)] == taken


def test_fps_of_a_clip(extractor, clip):
    frames = list(extractor.extract_video(clip, fps=5))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert [frame.face.track for frame in frames] == [0] * 6


# What can't be read


def cut(path: Path, keep: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_a_broken_tail(extractor, moving, tmp_path, name):
    """All that can be read comes first, then one record that says where it ended."""
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    write_clip(tmp_path / name, moving * 2, **options)
    *good, last = extractor.extract_video(cut(tmp_path / name, 0.6))
    assert 8 <= len(good) < 20
    assert all(frame.status is Status.OK for frame in good)
    assert [frame.time for frame in good] == pytest.approx(np.arange(len(good)) / 10)
    assert last.status is Status.DECODE_ERROR
    assert last.error.startswith("could not be decoded: at ")
    assert last.time == good[-1].time


def test_damage_in_the_middle_does_not_end_a_clip(moving, tmp_path):
    path = tmp_path / "hole.mp4"
    write_clip(path, moving * 4, codec="mpeg4", movflags="faststart")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    found = times(path)
    assert 30 < len(found) < 48
    assert max(found) > 4.5
    with Clip(path) as opened, pytest.raises(ExtractionError, match=r"at [12]\.\d\d s: "):
        list(opened.frames())


def test_what_is_no_clip(extractor, tmp_path, clip):
    (tmp_path / "junk.mp4").write_bytes(b"no clip at all" * 100)
    (tmp_path / "empty.mp4").touch()
    write_sound(tmp_path / "sound.mp4")
    (tmp_path / "index.mp4").write_bytes(clip.read_bytes()[:2000])  # it was at the end
    expected = {
        "junk.mp4": (Status.DECODE_ERROR, "could not be opened: Invalid data"),
        "empty.mp4": (Status.DECODE_ERROR, "could not be opened: Invalid data"),
        "index.mp4": (Status.DECODE_ERROR, "could not be opened: Invalid data"),
        "sound.mp4": (Status.DECODE_ERROR, r"no video in it \(audio only\)"),
        "missing.mp4": (Status.NOT_FOUND, "does not exist"),
        ".": (Status.NOT_FOUND, "is no regular file"),
    }
    for name, (status, error) in expected.items():
        (frame,) = extractor.extract_video(tmp_path / name)
        assert frame.status is status
        assert re.search(error, frame.error)
        assert np.isnan(frame.time)
    (frame,) = extractor.extract_video(clip, start=99)
    assert frame.error == "no frame in it from 99 s on"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"fps": 0}, ValueError, "fps must be more than 0"),
        ({"fps": float("nan")}, ValueError, "fps must be more than 0"),
        ({"start": -1}, ValueError, "start must be at least 0"),
        ({"start": 2, "end": 1}, ValueError, "before end"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"detect_every": 0}, ValueError, "detect_every must be a whole number from 1 on, not 0"),
        ({"detect_every": 2, "any_orientation": True}, ValueError, "any_orientation is for detect"),
        ({"clip": np.zeros((4, 4, 3))}, TypeError, "expected a clip's path"),
    ],
)
def test_wrong_arguments_are_told_at_once(extractor, clip, arguments, error, message):
    with pytest.raises(error, match=message):
        extractor.extract_video(**{"clip": clip, **arguments})


# Tables


def test_a_codec_that_is_not_known(extractor, clip, tmp_path):
    """It costs its own row, and not the others'."""
    data = clip.read_bytes()
    assert data.count(b"avc1") >= 1
    (tmp_path / "a.mp4").write_bytes(data.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzz"))
    (tmp_path / "b.mp4").write_bytes(data)
    (tmp_path / ("n" * 230 + ".mp4")).write_bytes(b"no clip")
    summary = extractor.extract_folder(tmp_path, tmp_path / "f.npz")
    (problem, _), good = summary.failures, summary.statuses[Status.OK]
    assert problem[:2] == ("a.mp4", Status.DECODE_ERROR)
    assert "codec" in problem[2]
    assert good > 0
    (frame,) = extractor.extract_video(tmp_path / "a.mp4")
    assert frame.status is Status.DECODE_ERROR


def test_a_folder_of_photographs_and_clips(extractor, clip, astronaut, tmp_path, moving):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "b.MP4").write_bytes(clip.read_bytes())
    (folder / "c.mov").write_bytes(b"broken")
    write_clip(folder / "d.mkv", [np.full_like(moving[0], 128)] * 2)
    astronaut.save(folder / "a.jpg")
    astronaut.save(folder / "e.jpg")
    summary = extractor.extract_folder(folder, tmp_path / "f.parquet")
    table = pq.read_table(tmp_path / "f.parquet").to_pandas()
    assert table["path"].tolist() == ["a.jpg"] + ["b.MP4"] * 12 + ["c.mov"] + ["d.mkv"] * 2 + [
        "e.jpg"
    ]
    frames = table[table["path"] == "b.MP4"]
    assert frames["time"].tolist() == pytest.approx(np.arange(12) / 10)
    assert frames["track"].tolist() == [0] * 12
    stills = table[table["path"].str.endswith("jpg")]
    assert stills["time"].isna().all()
    assert stills["track"].tolist() == [-1, -1]
    assert summary.images == len(table)
    assert summary.statuses == {Status.OK: 14, Status.NO_FACE: 2, Status.DECODE_ERROR: 1}
    assert [(path, message.split(":")[0]) for path, _, message in summary.failures] == [
        ("c.mov", "could not be opened"),
        ("d.mkv", "from 0.00 to 0.10 s (2 frames)"),
    ]


def test_the_command_takes_a_clip(clip, tmp_path, capsys):
    code, out, err = in_process(capsys, "extract", clip, "-o", tmp_path / "clip.csv")
    assert (code, err) == (0, "")
    assert "12 frames of 1 clip in" in out
    header, first, *_ = (tmp_path / "clip.csv").read_text().splitlines()
    assert header.startswith("path,time,status,error,face_index,track,")
    assert first.startswith("moving.mp4,0.0,ok,,0,0,")


def test_a_folder_of_clips_alone(clip, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "b.mp4").write_bytes(clip.read_bytes())
    assert cli.main(["extract", str(tmp_path / "clips"), "-o", str(tmp_path / "out.csv")]) == 0


def test_without_pyav(clip, astronaut_path, tmp_path):
    """Hidden from a process: clips are passed over aloud, and asked for by name, refused."""
    (tmp_path / "a.jpg").write_bytes(astronaut_path.read_bytes())
    (tmp_path / "b.mp4").write_bytes(clip.read_bytes())
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from fever_extract import cli\n"
        "sys.exit(cli.main(['extract', *sys.argv[1:]]))"
    )

    def extract(source) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", code, source, "-o", tmp_path / "out.csv"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = extract(tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("1 images in")
    assert "passed over 1 clips, which need PyAV: pip install 'fever-extract[video]'" in done.stderr
    done = extract(tmp_path / "b.mp4")
    assert done.returncode == 2
    assert done.stderr == (
        "fever-extract: b.mp4 is a clip, which needs PyAV: pip install 'fever-extract[video]'\n"
    )
    command = [
        sys.executable,
        "-c",
        "import sys; sys.modules['av'] = None; import fever_extract.video.decoding",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'fever-extract[video]'")


# Hostile clips

FUZZ = """if True:
    import sys
    from pathlib import Path
    import numpy as np
    from fever_extract import ExtractionError, Status
    from fever_extract.video.decoding import Clip, upright

    for path in sorted(Path(sys.argv[1]).iterdir()):
        if path.is_dir():
            continue
        print(path.name, end=" ", flush=True)
        frames = 0
        try:
            with Clip(path) as clip:
                for _, frame in clip.frames():
                    pixels = upright(frame, clip.pixel_aspect)
                    assert pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)
                    frames += 1
                    if frames == 50:  # a damaged header may promise a year of them
                        break
            print("whole", frames)
        except ExtractionError as error:
            assert error.status is Status.DECODE_ERROR and str(error)
            print("error", frames)
"""


def test_hostile_clips(tmp_path):
    """Frames, or an error that is ours; in a process of its own, which a decoder may end."""
    paths = hostile_clips.write(tmp_path / "clips", 150, seed=17)
    command = [sys.executable, "-c", FUZZ, str(tmp_path / "clips")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, (done.stdout[-300:], done.stderr[-2000:])
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == [path.name for path in paths]
    ends = [end for _, end, _ in lines]
    assert min(ends.count("whole"), ends.count("error")) > 20, "both are tried"


# Real clips


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)])
def test_a_real_face_mirrored_by_the_header(extractor, photos, tmp_path, matrix):
    """A mirrored clip is what a player shows: the frames' vectors are those of the pictures."""
    path = tmp_path / "clip.mp4"
    path.write_bytes((photos / "clip_face.mp4").read_bytes())
    with Clip(path) as opened:
        frames = [frame.to_ndarray(format="rgb24") for _, frame in opened.frames(0, 1)]
    show_by(path, matrix)
    inverse = {(-1, 0, 0, 1): np.s_[:, ::-1], (1, 0, 0, -1): np.s_[::-1], (0, 1, 1, 0): np.s_[:]}
    pictures = [
        np.ascontiguousarray((one.swapaxes(0, 1) if matrix[1] else one)[inverse[matrix]])
        for one in frames
    ]
    found = list(extractor.extract_video(path, end=1))
    for frame, still in zip(found, extractor.extract_records(pictures)):
        assert frame.status is still.status
        if still.face:
            assert cosine(frame.face.vector, still.face.vector) > 0.99


def test_a_real_face_leaves(extractor, photos):
    frames = list(extractor.extract_video(photos / "clip_face_then_none.mov", fps=5))
    assert [frame.time for frame in frames] == pytest.approx(np.arange(32) / 5, abs=0.02)
    # A title follows the man after 2.4 seconds.
    for frame in frames:
        tracks = [face.track for face in frame.faces]
        assert tracks == ([0] if frame.time < 2.38 else []), frame.time
    course = [frame.face.expression for frame in frames if frame.face]
    assert course[0] != "happiness"
    assert course[-1] == "happiness"


def test_real_clips_to_the_end(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(times(photos / "clip_long.mp4")) == 472
        assert len(times(photos / "clip_face.mp4")) == 72
        # 98 are in the file, of which its edit list leaves three out.
        assert len(times(photos / "clip_no_face.mp4")) == 95
