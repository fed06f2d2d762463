"""`Course`: how the faces of a clip change over time."""

from __future__ import annotations

import dataclasses
import math
import mimetypes
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fever_extract.records import Frame
from fever_extract.tables.reading import Table, read_table
from fever_extract.video import plot
from fever_extract.video._collecting import Collector
from fever_extract.video.aggregation import Observations, aggregate
from fever_extract.video.events import GAP, Event, find_blinks, find_stretches
from fever_extract.video.measured import Measured
from fever_extract.video.saving import long_columns, open_courses, wide_columns
from fever_extract.video.signals import columns_of
from fever_extract.video.smoothing import FILTERS
from fever_extract.video.synchrony import Synchrony, correlate

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd
    from matplotlib.figure import Figure

Stretch = tuple[float, float]
Neutral = str | Stretch | Mapping[int, Stretch]
"""``"median"``, a stretch of the clip in seconds, or one for each face."""


class Course(Measured):
    """How the faces of a clip change: means over steps of time, and what follows from frames.

    The values are the columns of a table: probabilities ``p_happiness``, blendshapes
    ``bs_jawOpen``, ``valence`` and ``arousal`` where the weights have them. Methods that take a
    signal's name take one of these, an expression or blendshape without its prefix, ``smile``
    or ``blink``.

    Make one with `Extractor.extract_course`, `Course.of_frames` or `Course.of_table`.
    """

    @classmethod
    def of_frames(
        cls,
        frames: Iterable[Frame],
        *,
        step: float = 1.0,
        clip: str = "",
        keep_frames: bool = True,
        about: Mapping[str, Any] | None = None,
    ) -> Course:
        """Make the course of frames, as `Extractor.extract_video` yields them.

        A frame counts for as long as it is shown: until the next one, but for no more than a
        second (or one and a half of the usual intervals, where that is longer).

        Args:
            frames: in the order of time, faceless ones too. They are taken one by one.
            step: in seconds.
            clip: its name.
            keep_frames: keep what was measured in each frame (240 bytes a face), which smoothing,
                events and synchrony need. Without, only the means are kept.
            about: what made it.

        Raises:
            ValueError: if the step can't be used.
        """
        _check_step(step)
        collector = Collector(step, keep_frames)
        for frame in frames:
            collector.add(frame)
        return cls._collected(collector, clip, step, about or {})

    @classmethod
    def of_table(
        cls, table: Table | str | os.PathLike[str], *, clip: str | None = None, step: float = 1.0
    ) -> Course:
        """Make the course of a clip whose frames are rows of a table.

        Args:
            table: what `Extractor.extract_folder` wrote of clips with ``all_faces=True``, whole:
                rows without a face say how long the others were shown.
            clip: its ``path`` in the table; not needed if there is one only.
            step: in seconds.

        Raises:
            ValueError: if it has no frames, or those of several clips; if the step can't be used.
            OSError, ImportError: as `fever_extract.read_table`.
        """
        _check_step(step)
        table = table if isinstance(table, Table) else read_table(table)
        clips = clips_of(table)
        if clip is None and len(clips) == 1:
            (clip,) = clips
        if clip not in clips:
            some = ", ".join(list(clips)[:5]) + (", ..." if len(clips) > 5 else "")
            what = "several clips; choose one with clip=" if clip is None else f"no clip {clip!r}"
            raise ValueError(f"the table has {what}; there are {some}")
        collector = Collector(step, keep=True)
        collector.add_table(table.take(clips[clip]))
        return cls._collected(collector, clip, step, table.metadata)

    @classmethod
    def _collected(
        cls, collector: Collector, clip: str, step: float, about: Mapping[str, Any]
    ) -> Course:
        collector.finish()
        problems = list(collector.problems)
        if not collector.steps and collector.frames:
            problems.insert(0, collector.no_face())
        return cls(
            clip,
            step,
            collector.names,
            collector.frames,
            tuple(problems),
            {name: about[name] for name in ("weights", "weights_sha256") if name in about},
            collector.steps,
            collector.seen,
        )

    def smooth(self, method: str, **settings: float) -> Course:
        """Smooth all values, within each stretch in which the face is seen.

        Args:
            method: ``savgol`` (Savitzky-Golay; settings ``window`` in seconds and ``order``) or
                ``one_euro`` (settings ``min_cutoff`` in Hz and ``beta``).
            settings: see `fever_extract.video.smoothing`.

        Raises:
            ValueError, TypeError: if there is no such method or setting.
            ImportError: if the package that it needs is missing.
        """
        if method not in FILTERS:
            raise ValueError(f"method must be one of {', '.join(FILTERS)}, not {method!r}")

        def smoothed(seen: Observations, _: int) -> npt.NDArray[np.float32]:
            values: npt.NDArray[np.float32] = seen.values.copy()
            for run in seen.runs(GAP):
                values[run] = FILTERS[method](seen.times[run], seen.values[run], **settings)
            return values

        return self._changed(smoothed, smoothing={"method": method, **settings})

    def minus_neutral(self, neutral: Neutral = "median") -> Course:
        """Subtract from each face's values what they are when it does nothing.

        Args:
            neutral: ``"median"`` over all of its frames; or a stretch of the clip in which it is
                neutral, (start, end) in seconds, whose median is taken; or such a stretch for
                each face, by id.

        Raises:
            ValueError: if a face is not seen in its stretch.
        """

        def changed(seen: Observations, face: int) -> npt.NDArray[np.float32]:
            rows = np.ones(len(seen), bool)
            if neutral != "median":
                start, end = _stretch(neutral, face)
                rows = (seen.times >= start) & (seen.times < end)
                if not rows.any():
                    raise ValueError(
                        f"face {face} is not seen from {start:g} to {end:g} s; give a stretch for "
                        "each face: {0: (start, end), 1: (start, end)}"
                    )
            usual = np.median(seen.values[rows], axis=0)
            return np.asarray(seen.values - usual, np.float32)

        return self._changed(changed, neutral=neutral)

    def events(
        self,
        name: str,
        *,
        face: int | None = None,
        threshold: float | None = None,
        min_duration: float | None = None,
    ) -> list[Event]:
        """Find when a signal is high, in the order of time; ``pandas.DataFrame`` takes the list.

        ``blink`` is found as short peaks, everything else as stretches; see
        `fever_extract.video.events` for the two methods and their defaults.

        Args:
            name: of the signal.
            face: of this face only.
            threshold: that the signal reaches, 0.5 by default; of blinks, by how much it rises,
                0.1 by default.
            min_duration: in seconds, 0.2 by default; of blinks, 0.

        Raises:
            ValueError: if there is no such signal or face.
        """
        find = find_blinks if name == "blink" else find_stretches
        settings = {"threshold": threshold, "min_duration": min_duration}
        if face is None:
            columns_of(name, self.names) if self.names else None
        events = [
            event
            for one in (self.faces if face is None else [face])
            for event in find(self._signal(one, name), one, name, **settings)
        ]
        return sorted(events, key=lambda event: (event.onset, event.face))

    def per_minute(self, name: str, **settings: float | None) -> dict[int, float]:
        """Count a signal's events by face, per minute in which the face is seen.

        Args:
            name, settings: as in `events`.
        """
        counts = dict.fromkeys(self.faces, 0)
        for event in self.events(name, **settings):  # type: ignore[arg-type]
            counts[event.face] += 1
        return {face: 60 * count / self.seconds(face) for face, count in counts.items()}

    def synchrony(
        self,
        first: int,
        second: int,
        name: str = "smile",
        *,
        window: float = 5.0,
        max_lag: float = 2.0,
    ) -> Synchrony:
        """Correlate a signal of two faces, window by window and lag by lag.

        Args:
            first, second: ids of the faces.
            name: of the signal.
            window: in seconds; windows overlap by half.
            max_lag: in seconds, by which one may be behind the other.

        Raises:
            ValueError: if there is no such face or signal, or they are not in the clip together
                for as long as a window.
        """
        return correlate(
            self._signal(first, name),
            self._signal(second, name),
            (first, second),
            name,
            window=window,
            max_lag=max_lag,
            gap=GAP,
        )

    def to_pandas(self, *, long: bool = False) -> pd.DataFrame:
        """A `pandas.DataFrame` with a row per face and step in which it is seen.

        Columns are ``clip``, ``face``, ``time`` (the step's beginning), ``seconds`` (for how long
        the face is seen in it), ``frames``, and for each value its mean, ``p_happiness``, and
        standard deviation, ``p_happiness_sd``.

        Args:
            long: a row per face, step and value instead, with columns ``signal``, ``mean`` and
                ``sd``: what `save` writes.
        """
        import pandas as pd

        return pd.DataFrame(long_columns(self) if long else wide_columns(self))

    def save(self, output: str | os.PathLike[str]) -> None:
        """Write a row per face, step and value, as R and ggplot2 like it.

        Args:
            output: a ``.csv`` or ``.parquet`` file, replaced when it is whole; for its columns
                see `fever_extract.video.saving`.

        Raises:
            ValueError, OSError, ImportError: if it can't be written.
        """
        with open_courses(output) as write:
            write(self)

    def plot(
        self, output: str | os.PathLike[str] | None = None, *, signals: Iterable[str] | None = None
    ) -> Figure:
        """Draw each face's course; needs matplotlib.

        Args:
            output: a picture to write: ``.png``, ``.svg`` or ``.pdf``.
            signals: their names; by default the expressions that are ever likely.

        Returns:
            The figure, to be changed and saved.

        Raises:
            ValueError: if there is no such signal, or the output's name ends otherwise.
            ImportError: if matplotlib is missing.
        """
        figure = plot.draw(self, signals)
        if output is not None:
            plot.save(figure, output)
        return figure

    def _changed(
        self, change: Callable[[Observations, int], npt.NDArray[np.float32]], **about: object
    ) -> Course:
        seen = {face: some.replaced(change(some, face)) for face, some in self.seen().items()}
        steps = {face: aggregate(some, self.step) for face, some in seen.items()}
        return dataclasses.replace(self, steps=steps, kept=seen, about={**self.about, **about})


def clips_of(table: Table) -> dict[str, npt.NDArray[np.int64]]:
    """The rows of each clip in a table, by its path; photographs are left out.

    A clip that could not be read has no time, and is told by its name.

    Raises:
        ValueError: if there is none.
    """
    times = table.numbers("time")
    paths = table.texts("path")
    rows: dict[str, list[int]] = {}
    if times is not None:
        for row, (path, time) in enumerate(zip(paths, times.tolist())):
            if math.isfinite(time) or (mimetypes.guess_type(path)[0] or "").startswith("video/"):
                rows.setdefault(path, []).append(row)
    if not rows:
        raise ValueError(
            "the table has no frames of a clip: write one with fever-extract extract CLIP "
            "--all-faces"
        )
    return {path: np.array(numbers, np.int64) for path, numbers in rows.items()}


def courses_of(table: Table, step: float = 1.0) -> Iterator[Course]:
    """The course of each clip in a table, in its order."""
    for clip in clips_of(table):
        yield Course.of_table(table, clip=clip, step=step)


def _check_step(step: float) -> None:
    if not 0 < step < math.inf:
        raise ValueError(f"step must be more than 0 seconds, not {step}")


def _stretch(neutral: Neutral, face: int) -> Stretch:
    if isinstance(neutral, Mapping):
        if face not in neutral:
            raise ValueError(f"neutral has no stretch for face {face}")
        neutral = neutral[face]
    if isinstance(neutral, str) or len(neutral) != 2 or not neutral[0] < neutral[1]:
        raise ValueError(f"neutral must be 'median' or (start, end) in seconds, not {neutral!r}")
    return neutral
