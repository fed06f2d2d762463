"""Clips in a folder of shards: stretches have the rows that the whole clip has in one table."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest
from clip_maker import TURNS, scene, show_by, write_clip, write_sound
from engines import InProcess, here
from PIL import Image

import fever_extract
from fever_extract import Options, Status
from fever_extract.jobs import sharded
from fever_extract.jobs._clips import measure
from fever_extract.jobs.engine import local
from fever_extract.jobs.job import Job
from fever_extract.jobs.sources import Input, NoImagesError
from fever_extract.jobs.worker import process, to_table
from fever_extract.records import Frame
from fever_extract.tables import shards
from fever_extract.video import frames, stretch
from fever_extract.video.frames import extract_stretch

av = pytest.importorskip("av")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Stretches of a second."""
    monkeypatch.setattr(stretch, "SECONDS", 1.0)
    monkeypatch.setattr(stretch, "LONGEST", 1.0)


@pytest.fixture(scope="module")
def face(astronaut):
    return astronaut.crop((120, 0, 340, 220)).resize((90, 90))


@pytest.fixture(scope="module")
def pictures(face):
    """28 frames: two faces that drift; one goes, and comes back after more than a second."""
    places = [[(5 + 2 * i, 20), (190 - i, 100)] for i in range(28)]
    return [scene(face, *(some if not 6 <= i < 22 else some[:1])) for i, some in enumerate(places)]


reverse = partial(here, order=lambda tasks: tasks[::-1])


OPTIONS = {"show_progress": False, "min_face_size": 36}  # a quick search


def table(extractor, source, output, **settings):
    """One table, made by the same options."""
    return extractor.extract_folder(source, output, **OPTIONS, **settings)


def run(extractor, source, output, engine=here, shard_rows=25, **settings):
    options = Options(**OPTIONS)
    job = Job(source, output, options, device="cpu", **settings)
    job.check()
    return sharded.run(job, extractor._checkpoint, engine, shard_rows=shard_rows)


def assert_same(output, expected, tracks=True):
    (x, table), (y, wanted) = fever_extract.load(output), fever_extract.load(expected)
    names = ["path", "status", "error", "face_index", "expression"] + ["track"] * tracks
    for name in names:
        assert table[name].to_pylist() == wanted[name].to_pylist(), name
    np.testing.assert_array_equal(table["time"].to_numpy(), wanted["time"].to_numpy())
    np.testing.assert_allclose(x, y, atol=1e-4)
    np.testing.assert_allclose(table["score"].to_numpy(), wanted["score"].to_numpy(), atol=1e-4)


def stretches_in(output):
    """(name, start, end) of all stretches, in the order of the table."""
    found = []
    for file in shards.shards_in(output):
        metadata = pq.read_schema(file).metadata
        for _, _, key, _ in json.loads(metadata.get(b"fever_extract_stretches", b"[]")):
            found.append((key[0], *key[3:]))
    return found


@pytest.mark.parametrize("all_faces", [True, False])
def test_the_same_rows_as_one_table(extractor, pictures, astronaut, tmp_path, all_faces):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "b.mp4", pictures)
    write_clip(folder / "d.mkv", pictures[:3])
    for name in ("a.jpg", "c.jpg", "e.jpg"):
        astronaut.resize((160, 160)).save(folder / name)
    arguments = {"all_faces": all_faces}
    one = table(extractor, folder, tmp_path / "f.parquet", **arguments)
    summary = run(extractor, folder, tmp_path / "out", reverse, **arguments)
    assert_same(tmp_path / "out", tmp_path / "f.parquet")
    assert stretches_in(tmp_path / "out") == [
        ("b.mp4", 0.0, 1.0),
        ("b.mp4", 1.0, 2.0),
        ("b.mp4", 2.0, None),
        ("d.mkv", 0.0, None),
    ]
    for found in (one, summary):
        assert (found.images, found.photographs, found.frames, found.clips) == (34, 3, 31, 2)
        assert str(found).startswith("3 photographs and 31 frames of 2 clips in ")
    again = run(extractor, folder, tmp_path / "out", **arguments)
    assert (again.reused, again.frames) == (34, 31)


# No face is as large as that, so that nothing is looked for: frames and times alone.
NOTHING = Options(show_progress=False, min_face_size=2000)


def times(path, pipeline, cuts=(None,), **sampling):
    """The times of a clip's frames, read in stretches."""
    start = sampling.get("start") or 0.0
    borders = [start, *cuts[:-1], sampling.get("end")]
    found = []
    for number, (begin, end) in enumerate(pairwise(borders)):
        part = stretch.Stretch(begin, end, number, number == len(borders) - 2)
        some, _ = extract_stretch(
            pipeline,
            str(path),
            NOTHING,
            part,
            all_faces=True,
            fps=sampling.get("fps"),
            origin=start,
            alive=lambda: None,
        )
        assert all(frame.status is Status.TOO_SMALL for frame in some), some[-1].error
        found += [frame.time for frame in some]
    return found


KINDS = {
    "a.mp4": {"bf": "3", "g": "7"},
    "open.mp4": {"bf": "3", "g": "9", "x264-params": "open-gop=1:scenecut=0"},
    "a.mkv": {"bf": "2"},
    "a.mov": {"codec": "mpeg4"},
    "a.avi": {"codec": "mpeg4"},
    "a.webm": {"codec": "libvpx"},
    "a.ts": {},
    "a.mpg": {"codec": "mpeg2video"},
    "a.h264": {},
}


@pytest.mark.parametrize("name", KINDS)
def test_a_frame_at_a_border_comes_once(extractor, pictures, tmp_path, name):
    """Whatever the container, the order of decoding, the distance of key frames, and the rate."""
    write(tmp_path / name, [picture[::4, ::4] for picture in pictures], **KINDS[name])
    pipeline = extractor._pipeline
    whole = times(tmp_path / name, pipeline)
    assert len(whole) == 28
    borders = [whole[8], whole[9], whole[17], (whole[22] + whole[23]) / 2, None]
    for sampling in ({}, {"fps": 4}, {"fps": 0.7}, {"fps": 3, "start": whole[4], "end": whole[26]}):
        expected = [frame.time for frame in extract(pipeline, str(tmp_path / name), **sampling)]
        assert times(tmp_path / name, pipeline, borders, **sampling) == expected, sampling


def extract(pipeline, path, **sampling):
    return frames.extract(pipeline, path, NOTHING, all_faces=True, **sampling)


def write(path, pictures, codec="libx264", **options):
    """A clip with an encoder's options."""
    rate = 25 if path.suffix == ".mpg" else 10
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = options
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("name", ["clip_long.mp4", "clip_face_then_none.mov"])
def test_real_clips_in_stretches(extractor, photos, name):
    whole = times(photos / name, extractor._pipeline, fps=7)
    borders = [*np.arange(1.3, whole[-1], 2.1), None]
    assert times(photos / name, extractor._pipeline, borders, fps=7) == whole


def test_stretches_without_a_frame(extractor, pictures, tmp_path):
    """A slide show: nothing for seconds, and the ids of faces go on."""
    write_clip(tmp_path / "slides.mp4", pictures[:6], [0, 300, 600, 5200, 5300, 9100])
    table(extractor, tmp_path / "slides.mp4", tmp_path / "f.parquet", all_faces=True)
    for rows in (1, 25):
        output = tmp_path / f"out{rows}"
        for _ in range(2):
            done = []
            engine = partial(here, done=done)
            summary = run(extractor, tmp_path / "slides.mp4", output, engine, rows, all_faces=True)
            assert_same(output, tmp_path / "f.parquet")
            assert (summary.frames, summary.clips) == (6, 1)
        assert not done, "stretches without a row are known, too"
        assert summary.reused == 6
    assert len(stretches_in(output)) > 5


def test_fps_start_and_end(extractor, pictures, tmp_path):
    write_clip(tmp_path / "a.mp4", pictures)
    sampling = {"fps": 3, "start": 0.55, "end": 2.45, "detect_every": 2, "all_faces": True}
    table(extractor, tmp_path / "a.mp4", tmp_path / "f.parquet", **sampling)
    summary = run(extractor, tmp_path / "a.mp4", tmp_path / "out", **sampling)
    assert_same(tmp_path / "out", tmp_path / "f.parquet")
    assert 5 <= summary.frames <= 7
    with pytest.raises(ValueError, match=r"detect_every was 2, is None; fps was 3, is 5; "):
        run(extractor, tmp_path / "a.mp4", tmp_path / "out", fps=5, end=2.45, all_faces=True)
    ((_, _, error),) = run(extractor, tmp_path / "a.mp4", tmp_path / "late", start=99).failures
    assert error == "no frame in it from 99 s on"


def test_what_can_t_be_read_is_a_row_as_in_one_table(extractor, pictures, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "a.mp4", pictures[:20], movflags="faststart")
    data = (folder / "a.mp4").read_bytes()
    (folder / "broken_tail.mp4").write_bytes(data[: len(data) * 6 // 10])
    (folder / "empty.mkv").write_bytes(b"")
    (folder / "none.mp4").write_bytes(b"not a clip")
    write_sound(folder / "sound.mp4")
    (folder / "gone.avi").symlink_to("nowhere")
    write_clip(folder / "turned.mp4", pictures[:3])
    show_by(folder / "turned.mp4", TURNS[90])
    extractor.extract_folder(folder, tmp_path / "f.parquet", min_face_size=500)
    summary = sharded.run(
        Job(folder, tmp_path / "out", Options(show_progress=False, min_face_size=500)),
        extractor._checkpoint,
        here,
    )
    assert_same(tmp_path / "out", tmp_path / "f.parquet")
    errors = {path: error for path, status, error in summary.failures if not status.was_decoded}
    assert set(errors) == {"broken_tail.mp4", "empty.mkv", "none.mp4", "sound.mp4", "gone.avi"}
    assert errors["sound.mp4"] == "no video in it (audio only)"
    assert "could not be decoded: at " in errors["broken_tail.mp4"]
    (text,) = {error for path, _, error in summary.failures if path == "turned.mp4"}
    assert text.startswith("from 0.00 to 0.20 s (3 frames): the picture is 240x320 pixels;")


def test_a_clip_that_changed_is_done_again(extractor, pictures, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "in" / name, pictures[:25])
    run(extractor, tmp_path / "in", tmp_path / "out")
    write_clip(tmp_path / "in" / "b.mp4", pictures[8:20])
    done = []
    summary = run(extractor, tmp_path / "in", tmp_path / "out", partial(here, done=done))
    assert [(item.name, item.stretch.number) for ((_, item),) in done] == [("b.mp4", 0)]
    assert (summary.reused, summary.frames, summary.removed) == (25, 37, 0)
    table(extractor, tmp_path / "in", tmp_path / "f.parquet")
    assert_same(tmp_path / "out", tmp_path / "f.parquet")


def test_what_failed_is_tried_again(extractor, pictures, astronaut, tmp_path):
    """A decoder that was ill once; of a clip, what follows is done again for the ids' sake."""
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_clip(folder / "a.mp4", pictures)
    (folder / "b.jpg").write_bytes(b"\xff\xd8 cut short")
    astronaut.resize((160, 160)).save(folder / "c.jpg")

    @contextmanager
    def ill(work, widths, job, report):
        def do(task):
            ((_, item), *_) = task
            if item.stretch is not None and item.stretch.number == 1:
                record = Frame(Status.CRASHED, "its process ended", time=item.stretch.start)
                return to_table(task, [record], widths)
            return process(extractor._pipeline, work, task)

        yield InProcess(do)

    summary = run(extractor, folder, output, ill, all_faces=True)
    assert summary.statuses[Status.CRASHED] == 1
    tracks = fever_extract.load(output)[1]["track"].to_numpy()
    assert tracks.max() > 2, "nobody is followed across what is missing"
    done = []
    run(extractor, folder, output, partial(here, done=done), all_faces=True)
    assert not done
    engine = partial(here, done=done)
    summary = run(extractor, folder, output, engine, all_faces=True, retry_failed=True)
    assert [item.name for task in done for _, item in task] == ["a.mp4", "a.mp4", "b.jpg"]
    assert summary.statuses[Status.DECODE_ERROR] == 1
    table(extractor, folder, tmp_path / "f.parquet", all_faces=True)
    assert_same(output, tmp_path / "f.parquet")


def test_a_clip_at_an_address(extractor, pictures, tmp_path):
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in" / "a.mp4", pictures[:12])
    done = []
    address = (tmp_path / "in").as_uri()
    run(extractor, address, tmp_path / "out", partial(here, done=done), start=0.5)
    table(extractor, tmp_path / "in", tmp_path / "f.parquet", start=0.5)
    assert_same(tmp_path / "out", tmp_path / "f.parquet")
    ray = pytest.importorskip("fever_extract.jobs.ray")
    assert [ray._to_task(ray._to_block(task)) for task in done] == done


def test_photographs_only_or_clips_only(extractor, pictures, astronaut, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    write_clip(folder / "a.mp4", pictures[:2])
    astronaut.resize((160, 160)).save(folder / "b.jpg")
    for do, name in ((table, "{}.npz"), (run, "{}")):
        summary = do(extractor, folder, tmp_path / name.format("photographs"), no_clips=True)
        assert (summary.images, summary.photographs, summary.clips) == (1, 1, 0)
        summary = do(extractor, folder, tmp_path / name.format("clips"), only_clips=True)
        assert str(summary).startswith("2 frames of 1 clip in ")
    (folder / "a.mp4").unlink()
    with pytest.raises(NoImagesError, match=r"no clips in .* \.mp4, \.mov"):
        extractor.extract_folder(folder, tmp_path / "f.npz", only_clips=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fps": 0}, "fps must be more than 0, not 0"),
        ({"fps": float("nan")}, "fps must be more than 0, not nan"),
        ({"start": -1}, "start must be at least 0 and before end, not -1 and None"),
        ({"start": 2, "end": 2}, "start must be at least 0 and before end"),
        ({"no_clips": True, "only_clips": True}, "leave out no_clips"),
        ({"no_clips": True, "fps": 2}, "leave out no_clips"),
        ({"no_clips": True, "detect_every": 2}, "leave out no_clips"),
        ({"detect_every": 2, "aligned": True}, "aligned is for detect_every=1"),
        ({"overwrite": True, "retry_failed": True}, "leave out retry_failed"),
    ],
)
def test_what_can_t_be_asked_is_refused_at_once(extractor, tmp_path, settings, message):
    for output in ("f.npz", "out/"):
        with pytest.raises(ValueError, match=message):
            extractor.extract_folder(tmp_path, tmp_path / output, **settings)
    with pytest.raises(ValueError, match="retry_failed is for shards"):
        extractor.extract_folder(tmp_path, tmp_path / "f.npz", retry_failed=True)


def test_how_long_clips_are_cut():
    cut = stretch.cut
    assert list(cut(None)) == [stretch.Stretch()]
    assert [part.end for part in cut((1.4, 25))] == [None]
    parts = list(cut((7200, 25)))
    assert len(parts) == 7200
    assert [part.frames for part in parts] == [25] * 7200
    assert list(cut((10, 25), None, 12.0)) == [stretch.Stretch(12.0, frames=1)]
    assert [(part.start, part.end) for part in cut((10, 25), None, 1.0, 3.0)] == [
        (1.0, 2.0),
        (2.0, 3.0),
    ]


def test_hostile_headers_and_lengths_nobody_says(pictures, tmp_path):
    write_clip(tmp_path / "a.mp4", pictures[:20])
    write_clip(tmp_path / "raw.h264", pictures[:20])
    with (
        av.open(str(tmp_path / "live.mkv"), "w", options={"live": "1"}) as container,
        av.open(str(tmp_path / "a.mp4")) as clip,
    ):
        stream = container.add_stream_from_template(clip.streams.video[0])
        for packet in clip.demux(clip.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    for box in (b"mvhd", b"mdhd", b"tkhd"):
        place = data.index(box) + 4 + (20 if box == b"tkhd" else 16)
        data[place : place + 4] = b"\x7f\xff\xff\xff"
    (tmp_path / "lies.mp4").write_bytes(data)
    for name in ("a.mp4", "raw.h264", "live.mkv", "lies.mp4"):
        seconds, rate = measure(Input(name, str(tmp_path / name)))
        assert rate > 0, name
        assert seconds < 86400, name
        if name not in ("raw.h264", "lies.mp4"):
            assert seconds == pytest.approx(2, abs=0.2), name
    (tmp_path / "b.mp4").write_bytes(b"")
    assert measure(Input("b.mp4", str(tmp_path / "b.mp4"))) is None


CODE = """
import sys
from fever_extract import cli
from fever_extract.jobs import sharded
from fever_extract.jobs._clips import measure
from fever_extract.video import stretch
stretch.SECONDS = stretch.LONGEST = 1.0
sharded.run.__kwdefaults__.update(shard_rows=25, save_every=0.1)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_killed_in_the_middle_of_a_clip_it_goes_on(extractor, pictures, tmp_path):
    """The command with a real worker; what it did is used by an engine of this process."""
    write_clip(tmp_path / "a.mp4", pictures + pictures[::-1])
    table(extractor, tmp_path / "a.mp4", tmp_path / "f.parquet", all_faces=True)
    arguments = ["extract", tmp_path / "a.mp4", "-o", tmp_path / "out", "--all-faces"]
    arguments += ["--min-face-size", "36"]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, arguments), "--workers", "1", "--quiet"],
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and not shards.shards_in(tmp_path / "out"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = []
    engine = partial(here, done=done)
    summary = run(extractor, tmp_path / "a.mp4", tmp_path / "out", engine, all_faces=True)
    assert 0 < len(done) < 6
    assert 0 < summary.reused < 56
    assert summary.frames == 56
    assert_same(tmp_path / "out", tmp_path / "f.parquet")


@pytest.mark.slow
def test_a_stretch_that_devours_memory_is_a_row(extractor, face, tmp_path, monkeypatch):
    """Motion JPEG, so that one picture of the second stretch may be of 240 megapixels."""
    jpegs = []
    for size in [(320, 240)] * 23 + [(16000, 15000)] + [(320, 240)] * 36:
        picture = Image.new("L", size, 128) if size[0] > 320 else scene_image(face)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG")
        jpegs.append(buffer.getvalue())
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for number, data in enumerate(jpegs):
            packet = av.Packet(data)
            packet.pts = packet.dts = 100 * number
            packet.time_base, packet.stream = Fraction(1, 1000), stream
            packet.is_keyframe = True
            container.mux(packet)
    monkeypatch.setattr(stretch, "LONGEST", 2.0)
    monkeypatch.setattr(stretch, "SECONDS", 2.0)
    engine = local(1, memory_limit=1_200_000_000)
    summary = run(extractor, tmp_path / "a.mkv", tmp_path / "out", engine)
    assert summary.statuses == {Status.OK: 40, Status.CRASHED: 1}
    ((_, _, error),) = summary.failures
    assert "GB of memory while 2.00 to 4.00 s was read; it was tried again alone" in error
    table = fever_extract.load(tmp_path / "out")[1]
    assert table["time"].to_pylist() == pytest.approx(
        [*np.arange(20) / 10, 2.0, *np.arange(40, 60) / 10]
    )


def scene_image(face):
    return Image.fromarray(scene(face, (20, 20)))
