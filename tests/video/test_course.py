"""Courses of made-up frames: means, smoothing, neutrals, events, synchrony, files."""

import csv
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fever_extract import Face, Frame, Status
from fever_extract.video import aggregation
from fever_extract.video.aggregation import Observations, aggregate
from fever_extract.video.course import Course

BOX = np.array([0, 0, 100, 100], np.float32)
POINTS = np.zeros((5, 2), np.float32)
NONE = np.zeros(0, np.float32)


def face(track=0, happiness=0.0, smile=0.0, blink=0.0, valence=None):
    return Face(
        BOX,
        1.0,
        POINTS,
        NONE,
        {"neutral": 1 - happiness, "happiness": happiness},
        {
            "mouthSmileLeft": smile,
            "mouthSmileRight": smile,
            "eyeBlinkLeft": blink,
            "eyeBlinkRight": blink,
        },
        valence,
        None if valence is None else -valence,
        track=track,
    )


def frame(time, *faces):
    return Frame(Status.OK if faces else Status.NO_FACE, None if faces else "none", faces, time)


def course(times, step=1.0, **signals):
    """Of one face, with signals by frame."""
    rows = [dict(zip(signals, values)) for values in zip(*signals.values())]
    return Course.of_frames((frame(t, face(**r)) for t, r in zip(times, rows)), step=step)


# Means over steps


def test_a_frame_counts_for_as_long_as_it_is_shown():
    table = course([0, 0.1, 0.9], happiness=[1, 0, 1]).to_pandas()
    # The last is shown for as long as is usual: 0.45 s, the median, and so beyond the first step.
    assert table["time"].tolist() == [0, 1]
    assert table["seconds"].tolist() == pytest.approx([1, 0.35])
    assert table["frames"].tolist() == [3, 0]
    assert table["p_happiness"].tolist() == pytest.approx([0.2, 1])
    assert table["p_happiness_sd"].tolist() == pytest.approx([0.4, 0], abs=1e-6)


def test_means_are_integrals_at_any_frame_rate_and_step(monkeypatch):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.005, 0.4, 300))
    durations = np.append(np.diff(times), 0.1)
    values = rng.random((300, 2)).astype(np.float32)
    monkeypatch.setattr(aggregation, "_BLOCK", 64)
    for step in (0.05, 0.5, 7.0):
        steps = aggregate(Observations(times, durations, values), step)
        for row, index in enumerate(steps.index):
            start, end = index * step, (index + 1) * step
            overlaps = np.minimum(times + durations, end) - np.maximum(times, start)
            weights = np.maximum(overlaps, 0)
            mean = np.average(values, axis=0, weights=weights)
            sd = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
            assert steps.seconds[row] == pytest.approx(weights.sum(), abs=1e-5)
            np.testing.assert_allclose(steps.mean[row], mean, atol=1e-5)
            np.testing.assert_allclose(steps.sd[row], sd, atol=2e-4)
        assert steps.seconds.sum() == pytest.approx(durations.sum())
        assert steps.frames.sum() == 300


def test_steps_begin_where_they_are_said_to():
    """0.3 / 0.1 is less than 3 to a computer."""
    times = np.arange(50) / 10
    assert course(times, step=0.1, happiness=[0.5] * 50).steps[0].index.tolist() == list(range(50))


def test_a_face_that_is_away_is_not_averaged():
    times = np.arange(40) / 10
    shown = [frame(t, *([face(happiness=0.5)] if t < 1.25 or t > 3.25 else [])) for t in times]
    table = Course.of_frames(shown).to_pandas()
    assert table["time"].tolist() == [0, 1, 3]
    assert table["seconds"].tolist() == pytest.approx([1, 0.3, 0.7])


def test_a_frame_says_nothing_of_what_is_long_after_it():
    frozen = course([0, 0.1, 0.2, 5.0], happiness=[0, 0, 1, 0])
    assert frozen.to_pandas()["seconds"].tolist() == pytest.approx([1, 0.2, 0.1])
    sparse = course([0, 2, 4, 6], happiness=[0, 0, 1, 0])
    assert sparse.seconds(0) == pytest.approx(8), "where frames are rare, each counts for more"


def test_several_faces_and_valence():
    shown = [frame(t, face(3, valence=0.5), face(1, valence=-0.5)) for t in (0, 0.5, 1.0)]
    both = Course.of_frames(shown, clip="two.mp4")
    assert both.faces == (1, 3)
    assert both.names[2:4] == ("valence", "arousal")
    assert both.signal(3, "arousal")[1].tolist() == [-0.5] * 3
    assert set(both.to_pandas()["clip"]) == {"two.mp4"}
    with pytest.raises(ValueError, match=r"no face 0 in two.mp4; faces are 1, 3"):
        both.seconds(0)


def test_means_without_frames_are_the_same():
    rng = np.random.default_rng(1)
    times = np.cumsum(rng.uniform(0.02, 0.06, 3000))
    shown = [frame(t, face(happiness=p)) for t, p in zip(times, rng.random(3000))]
    kept, means = (Course.of_frames(shown, keep_frames=keep) for keep in (True, False))
    pd.testing.assert_frame_equal(kept.to_pandas(), means.to_pandas(), atol=1e-5)
    with pytest.raises(ValueError, match="keep_frames=True"):
        means.events("happiness")


def test_two_hours_of_means_are_as_many_numbers_as_there_are_steps():
    shown = (frame(index / 5, face(happiness=index % 2)) for index in range(36_000))
    hours = Course.of_frames(shown, step=60.0, keep_frames=False)
    assert hours.kept is None
    assert hours.to_pandas()["frames"].tolist() == [300] * 120
    assert hours.seconds(0) == pytest.approx(7200)


@pytest.mark.parametrize("step", [0, -1, math.nan, math.inf])
def test_a_step_that_is_none(step):
    with pytest.raises(ValueError, match="step must be more than 0"):
        Course.of_frames([], step=step)


# What can't be read


def test_problems_are_told_once():
    error = Frame(Status.DETECT_ERROR, "out of memory", time=0.1)
    end = Frame(Status.DECODE_ERROR, "could not be decoded: at 0.20 s", time=0.2)
    broken = Course.of_frames([frame(0, face()), error, error, frame(0.2, face()), end])
    assert [problem.error for problem in broken.problems] == [error.error, end.error]
    assert broken.frames == 4


def test_no_face_at_all():
    empty = Course.of_frames([frame(t) for t in (0.0, 1.0, 2.5)])
    (problem,) = empty.problems
    assert problem.status is Status.NO_FACE
    assert problem.error == "no face in 3 frames, from 0.00 to 2.50 s: none"
    assert len(empty.to_pandas()) == 0
    assert empty.events("smile") == []
    assert empty.per_minute("blink") == {}


def test_no_frame_at_all():
    end = Frame(Status.DECODE_ERROR, "no frame in it from 0 s on")
    assert Course.of_frames([end]).problems == (end,)
    assert Course.of_frames([]).frames == 0


def test_photographs_have_no_course():
    with pytest.raises(ValueError, match="frames of extract_video"):
        Course.of_frames([frame(0, face(track=None))])


# Names of signals


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("happiness", 0.75),
        ("p_happiness", 0.75),
        ("smile", 0.5),
        ("mouthSmileLeft", 0.5),
        ("bs_mouthSmileLeft", 0.5),
        ("blink", 0.25),
    ],
)
def test_signals_by_name(name, value):
    one = course([0, 1], happiness=[0.75] * 2, smile=[0.5] * 2, blink=[0.25] * 2)
    times, values = one.signal(0, name)
    assert times.tolist() == [0, 1]
    assert values.tolist() == [value] * 2


def test_signals_that_are_not_there():
    with pytest.raises(ValueError, match="did you mean 'happiness'"):
        course([0, 1], happiness=[0, 0]).events("happines")
    bare = Face(BOX, 1.0, POINTS, NONE, {"happiness": 1.0}, track=0)
    with pytest.raises(ValueError, match=r"mouthSmileRight, which these weights don't give"):
        Course.of_frames([frame(0, bare)]).events("smile")


# Smoothing


def noisy(times):
    rng = np.random.default_rng(0)
    wave = 0.5 + 0.3 * np.sin(times)
    return wave, np.clip(wave + rng.normal(0, 0.08, len(times)), 0, 1)


@pytest.mark.parametrize("method", ["savgol", "one_euro"])
@pytest.mark.parametrize("uneven", [False, True])
def test_smoothing_comes_nearer_to_the_truth(method, uneven):
    gaps = np.random.default_rng(1).uniform(0.01, 0.07, 400) if uneven else np.full(400, 0.04)
    times = np.cumsum(gaps)
    wave, seen = noisy(times)
    raw = course(times, happiness=seen)
    smooth = raw.smooth(method)
    before, after = (np.abs(c.signal(0, "happiness")[1] - wave).mean() for c in (raw, smooth))
    assert after < 0.6 * before
    assert smooth.signal(0, "happiness")[0].tolist() == times.tolist()
    assert smooth.about["smoothing"] == {"method": method}
    assert (raw.signal(0, "happiness")[1] == seen.astype(np.float32)).all(), "the raw one stays"


def test_savitzky_golay_keeps_what_is_a_parabola():
    times = np.arange(50) / 25
    parabola = 0.1 + 0.2 * (times - 1) ** 2
    smooth = course(times, happiness=parabola).smooth("savgol", window=0.6, order=2)
    np.testing.assert_allclose(smooth.signal(0, "happiness")[1], parabola, atol=1e-5)


def test_one_euro_by_its_paper():
    times, values = [0.0, 0.1, 0.3], [0.0, 1.0, 0.5]
    smooth = course(times, happiness=values).smooth("one_euro", min_cutoff=1.0, beta=0.5)

    def alpha(cutoff, interval):
        return 1 / (1 + 1 / (2 * math.pi * cutoff) / interval)

    speed = alpha(1, 0.1) * (1 / 0.1)
    second = alpha(1 + 0.5 * speed, 0.1) * 1.0
    speed += alpha(1, 0.2) * ((0.5 - second) / 0.2 - speed)
    third = second + alpha(1 + 0.5 * abs(speed), 0.2) * (0.5 - second)
    assert smooth.signal(0, "happiness")[1].tolist() == pytest.approx([0, second, third], abs=1e-6)


@pytest.mark.parametrize("method", ["savgol", "one_euro"])
def test_nothing_is_smoothed_across_an_absence(method):
    times = np.concatenate([np.arange(20) / 20, 5 + np.arange(20) / 20, [9.0]])
    values = np.repeat([0.0, 1.0, 0.5], [20, 20, 1])
    shown = [frame(t, face(happiness=v)) for t, v in zip(times, values)]
    smooth = Course.of_frames(sorted([*shown, frame(1.0), frame(6.0)], key=lambda f: f.time))
    np.testing.assert_allclose(smooth.smooth(method).signal(0, "happiness")[1], values, atol=1e-6)


def test_wrong_ways_to_smooth():
    one = course([0, 0.1, 0.2, 0.3], happiness=[0.5] * 4)
    with pytest.raises(ValueError, match="savgol, one_euro"):
        one.smooth("median")
    with pytest.raises(TypeError, match="beta"):
        one.smooth("savgol", beta=1)
    with pytest.raises(ValueError, match="window must be above 0"):
        one.smooth("savgol", window=0)
    with pytest.raises(ValueError, match="min_cutoff must be above 0"):
        one.smooth("one_euro", min_cutoff=0)


# Neutral


def test_the_neutral_is_subtracted():
    times = np.arange(10) / 10
    smiles = [0.2] * 6 + [0.9] * 4
    one = course(times, smile=smiles)
    assert one.minus_neutral().signal(0, "smile")[1].tolist() == pytest.approx(
        [0] * 6 + [0.7] * 4, abs=1e-6
    )
    marked = one.minus_neutral((0.6, 1.0))
    assert marked.signal(0, "smile")[1].tolist() == pytest.approx([-0.7] * 6 + [0] * 4, abs=1e-6)
    assert marked.about["neutral"] == (0.6, 1.0)
    by_face = one.minus_neutral({0: (0.0, 0.5)})
    assert by_face.to_pandas()["bs_mouthSmileLeft"].tolist() == pytest.approx([0.28], abs=1e-6)


@pytest.mark.parametrize(
    ("neutral", "message"),
    [
        ((5, 6), "face 0 is not seen from 5 to 6 s"),
        ((1, 0), "neutral must be"),
        ("mean", "neutral must be"),
        ({1: (0, 1)}, "no stretch for face 0"),
    ],
)
def test_neutrals_that_are_none(neutral, message):
    with pytest.raises(ValueError, match=message):
        course([0, 0.1], smile=[0, 0]).minus_neutral(neutral)


# Events


def bump(times, middle, width, height):
    return height * np.clip(1.5 - np.abs(times - middle) / width, 0, 1)


def test_onset_apex_and_offset():
    times = np.arange(100) / 20
    smile = bump(times, 1.5, 0.4, 0.8) + bump(times, 3.5, 0.4, 0.4)
    (event,) = course(times, smile=smile).events("smile")
    assert (event.face, event.name, event.complete) == (0, "smile", True)
    # It is above 0.35, 0.7 of the threshold, for 0.425 s on either side.
    assert event.onset == pytest.approx(1.10, abs=0.051)
    assert event.offset == pytest.approx(1.95, abs=0.051)
    assert event.onset < event.apex < event.offset
    assert event.peak == pytest.approx(0.8)
    assert event.duration == pytest.approx(event.offset - event.onset)
    assert len(course(times, smile=smile).events("smile", threshold=0.3)) == 2
    assert course(times, smile=smile).events("smile", min_duration=1.0) == []


def test_flicker_about_the_threshold_is_one_event():
    times = np.arange(60) / 20
    smile = np.where((times > 0.5) & (times < 2), 0.5 + 0.1 * (-1) ** np.arange(60), 0)
    assert len(course(times, smile=smile).events("smile")) == 1


def test_events_under_way_at_an_end_or_a_gap_are_not_complete():
    times = np.arange(60) / 20
    shown = [frame(t, *([face(smile=0.9)] if not 1 <= t < 2 else [])) for t in times]
    events = Course.of_frames(shown).events("smile")
    assert [event.complete for event in events] == [False, False]
    assert [(event.onset, event.offset) for event in events] == [
        pytest.approx((0, 1)),
        pytest.approx((2, 3)),
    ]


def test_a_detection_missed_in_between_does_not_end_an_event():
    times = np.arange(40) / 20
    shown = [frame(t, *([face(smile=0.9)] if not 1 <= t < 1.3 else [])) for t in times]
    assert len(Course.of_frames(shown).events("smile")) == 1


def test_blinks_are_short_peaks_from_open_eyes():
    times = np.arange(250) / 25
    blink = np.full(250, 0.05)
    for frame_number in (20, 60):
        blink[frame_number : frame_number + 3] = (0.2, 0.4, 0.2)
    blink[100:140] = 0.7  # eyes closed for 1.6 s,
    blink[115] = 0.85  # a twitch of which is no blink
    blink[180] = 0.1  # nor is noise
    one = course(times, blink=blink)
    events = one.events("blink")
    assert [event.apex for event in events] == pytest.approx([21 / 25, 61 / 25])
    assert [event.duration for event in events] == pytest.approx([0.08] * 2, abs=0.03)
    assert one.per_minute("blink") == {0: pytest.approx(12)}
    assert len(one.events("blink", threshold=0.04)) == 3


def test_events_of_one_face_and_of_all():
    shown = [frame(t / 20, face(0, smile=t >= 20), face(1, smile=t < 10)) for t in range(40)]
    both = Course.of_frames(shown)
    assert [event.face for event in both.events("smile")] == [1, 0]
    assert [event.face for event in both.events("smile", face=0)] == [0]
    assert both.per_minute("smile") == {0: pytest.approx(30), 1: pytest.approx(30)}
    assert list(pd.DataFrame(both.events("smile")).columns[:4]) == [
        "face",
        "name",
        "onset",
        "apex",
    ]


# Synchrony


def wander(seed, count):
    """A random walk that is smooth, 0 to 1."""
    noise = np.random.default_rng(seed).normal(size=count + 40)
    walk = np.convolve(noise, np.hanning(20), "valid")[:count]
    return (walk - walk.min()) / (walk.max() - walk.min())


def two(first, second, rate=20):
    shown = [
        frame(index / rate, face(0, smile=a), face(1, smile=b))
        for index, (a, b) in enumerate(zip(first, second))
    ]
    return Course.of_frames(shown)


def test_synchrony_finds_who_follows_and_by_how_much():
    walk = wander(0, 1220)
    together = two(walk[10:1210], walk[:1200]).synchrony(0, 1)  # 1 does it 0.5 s later
    assert together.mean > 0.95
    assert np.median(together.peak_lags) == pytest.approx(0.5, abs=0.11)
    assert together.p < 0.05
    assert together.correlations.shape == (len(together.times), len(together.lags))
    assert "faces 0 and 1, smile" in repr(together)
    reverse = two(walk[10:1210], walk[:1200]).synchrony(1, 0)
    assert np.median(reverse.peak_lags) == pytest.approx(-0.5, abs=0.11)


def test_synchrony_by_chance():
    apart = [two(wander(seed, 1200), wander(seed + 50, 1200)).synchrony(0, 1) for seed in range(8)]
    assert all(one.mean > 0 for one in apart), "the best lag is taken"
    assert np.mean([one.mean - one.by_chance.mean() for one in apart]) == pytest.approx(0, abs=0.1)
    assert np.mean([one.p < 0.05 for one in apart]) <= 0.25


def test_synchrony_without_movement_or_sight():
    still = two(np.full(400, 0.5), wander(0, 400)).synchrony(0, 1)
    assert np.isnan(still.correlations).all()
    assert math.isnan(still.mean)
    assert math.isnan(still.p)
    walk = wander(0, 400)
    shown = [
        frame(i / 20, *([face(0, smile=v)] if i < 200 else []), face(1, smile=v))
        for i, v in enumerate(walk)
    ]
    half = Course.of_frames(shown).synchrony(0, 1)
    assert half.times.max() <= 10
    with pytest.raises(ValueError, match=r"together for 10\.0 s; a window is 20 s"):
        Course.of_frames(shown).synchrony(0, 1, window=20)
    with pytest.raises(ValueError, match="window must be above 0"):
        half = Course.of_frames(shown).synchrony(0, 1, window=-1)


# Files


@pytest.fixture
def made():
    times = np.arange(30) / 20
    end = Frame(Status.DECODE_ERROR, "could not be decoded: at 1.50 s", time=1.45)
    shown = [frame(t, face(0, smile=t / 2), face(2, happiness=t / 2)) for t in times]
    return Course.of_frames([*shown, end], clip="=a,b.mp4", about={"weights": "ours"})


def test_csv_for_r(made, tmp_path):
    made.save(tmp_path / "course.csv")
    with open(tmp_path / "course.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * len(made.names) + 1
    problem = rows.pop()
    assert (problem["face"], problem["mean"], problem["signal"]) == ("-1", "", "")
    assert problem["status"] == "decode_error"
    assert "at 1.50 s" in problem["error"]
    assert {row["clip"] for row in rows} == {"\\x3da,b.mp4"}, "no formula"
    (row,) = [
        row
        for row in rows
        if (row["face"], row["time"], row["signal"]) == ("0", "1.0", "bs_mouthSmileLeft")
    ]
    assert float(row["mean"]) == pytest.approx(np.mean(np.arange(20, 30) / 40), abs=1e-6)
    assert (row["frames"], row["status"], row["error"]) == ("10", "ok", "")


def test_parquet(made, tmp_path):
    made.save(tmp_path / "course.parquet")
    table = pq.read_table(tmp_path / "course.parquet")
    assert b'"weights": "ours"' in table.schema.metadata[b"fever_extract"]
    long = made.to_pandas(long=True)
    rows = table.to_pandas()
    assert rows["mean"].isna().sum() == 1
    pd.testing.assert_frame_equal(rows[:-1][list(long)], long, check_dtype=False)


@pytest.mark.parametrize("name", ["course.txt", "missing/course.csv", "course"])
def test_files_that_are_refused(made, tmp_path, name):
    with pytest.raises((ValueError, OSError), match="course"):
        made.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.png", "a.svg", "a.pdf"])
def test_a_plot(made, tmp_path, name):
    figure = made.plot(tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000
    assert [axes.get_ylabel() for axes in figure.axes] == ["face 0", "face 2"]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["neutral", "happiness"]
    if name.endswith("png"):
        assert np.asarray(Image.open(tmp_path / name).convert("L")).std() > 5


def test_a_plot_of_chosen_signals_and_of_nothing(made, tmp_path):
    figure = made.minus_neutral().plot(signals=["smile", "eyeBlinkLeft"])
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["smile", "eyeBlinkLeft"]
    with pytest.raises(ValueError, match="unknown signal"):
        made.plot(signals=["frown"])
    with pytest.raises(ValueError, match=r"must end in \."):
        made.plot(tmp_path / "a.jpg")
    empty = Course.of_frames([frame(0.0)]).plot()
    assert "no face in the only frame" in empty.axes[0].texts[0].get_text()
