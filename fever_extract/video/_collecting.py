"""Collect what was seen of each face, from a stream of frames or the rows of a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fever_extract.records import Frame, Status
from fever_extract.tables.schema import flat_names
from fever_extract.video.aggregation import HOLD, Observations, Steps, aggregate, merge
from fever_extract.video.signals import names_of, values_of

if TYPE_CHECKING:
    import numpy.typing as npt

    from fever_extract.tables.reading import Table

    Values = Sequence[float] | npt.NDArray[np.float32]

_AT_ONCE = 1024  # frames of the clip before they become arrays
_LIKELY = 0.04  # seconds: how long the only frame of a clip is shown
_LATE = 1.5  # of the usual interval, for which a frame may be shown


class Collector:
    """Frame by frame, in the order of time; then `finish`.

    Args:
        step: in seconds.
        keep: keep what was seen in each frame, rather than means alone.

    Attributes:
        names: of the values.
        frames: how many were looked at.
        problems: what could not be read; the same reason once.
        steps, seen: by face, rising ids, after `finish`; ``seen`` is None without ``keep``.
    """

    def __init__(self, step: float, keep: bool) -> None:
        self.names: tuple[str, ...] = ()
        self.frames = 0
        self.problems: list[Frame] = []
        self.steps: dict[int, Steps] = {}
        self.seen: dict[int, Observations] | None = {} if keep else None
        self._step = step
        self._shown: tuple[float, list[tuple[int, Values]]] | None = None
        self._rows: defaultdict[int, list[tuple[float, float, Values]]] = defaultdict(list)
        self._parts: defaultdict[int, list[Observations]] = defaultdict(list)
        self._means: defaultdict[int, list[Steps]] = defaultdict(list)
        self._intervals: list[float] = []
        self._hold = HOLD
        self._first = self._last = 0.0
        self._faceless = Frame(Status.NO_FACE)

    def add(self, frame: Frame) -> None:
        """Take the next frame of a clip."""
        if not frame.status.was_searched:
            if not self.problems or self.problems[-1].error != frame.error:
                self.problems.append(frame)
            if frame.status is not Status.DETECT_ERROR:
                return
        faces: list[tuple[int, Values]] = []
        for face in frame.faces:
            if face.track is None:
                raise ValueError("a face has no id: a course is of frames of extract_video")
            self.names = self.names or names_of(face)
            faces.append((face.track, values_of(face)))
        if not faces:
            self._faceless = frame
        self._add(frame.time, faces)

    def add_table(self, table: Table) -> None:
        """Take rows of one clip, in any order."""
        times = np.asarray(table.columns["time"])
        tracks = table.numbers("track")
        if tracks is None:
            raise ValueError("the table has no column track; extract the clip again")
        values, names = [], []
        for name in ("expressions", "valence", "arousal", "blendshapes"):
            numbers = table.numbers(name)
            if numbers is not None:
                flat = numbers.ndim == 1
                values.append(numbers[:, None] if flat else numbers)
                names += [name] if flat else flat_names(name, numbers.shape[1], table.metadata)
        self.names = tuple(names)
        rows = np.concatenate(values, axis=1) if values else np.zeros((len(table), 0), np.float32)
        statuses, errors = table.texts("status"), table.texts("error")
        faces: dict[float, list[tuple[int, Values]]] = {}
        for row in np.argsort(times, kind="stable").tolist():
            time, status = float(times[row]), Status(statuses[row])
            if status is Status.OK:
                faces.setdefault(time, []).append((int(tracks[row]), rows[row]))
                continue
            frame = Frame(status, errors[row], time=time)
            if not status.was_searched:
                self.problems.append(frame)
            else:
                self._faceless = frame
                faces.setdefault(time, [])
        for time, some in faces.items():
            self._add(time, some)

    def finish(self) -> None:
        """No more frames come."""
        if self._shown is not None:
            usual = float(np.median(self._intervals)) if self._intervals else _LIKELY
            self._store(usual)
        self._flush()
        faces = sorted({*self._parts, *self._means})
        for face in faces:
            if self.seen is None:
                self.steps[face] = merge(self._means[face], len(self.names))
            else:
                self.seen[face] = _joined(self._parts.pop(face))
                self.steps[face] = aggregate(self.seen[face], self._step)

    def no_face(self) -> Frame:
        """Say that there was no face in any frame."""
        reason = f": {self._faceless.error}" if self._faceless.error else ""
        count = f"{self.frames} frames" if self.frames > 1 else "the only frame"
        return Frame(
            self._faceless.status,
            f"no face in {count}, from {self._first:.2f} to {self._last:.2f} s{reason}",
            time=self._first,
        )

    def _add(self, time: float, faces: list[tuple[int, Values]]) -> None:
        if self._shown is None:
            self._first = time
        else:
            interval = max(time - self._shown[0], 0.0)
            if len(self._intervals) < _AT_ONCE:
                self._intervals.append(interval)
            self._store(interval)
        self._shown = time, faces
        self._last = time
        self.frames += 1
        if self.frames % _AT_ONCE == 0:
            self._flush()

    def _store(self, duration: float) -> None:
        assert self._shown is not None
        time, faces = self._shown
        for face, values in faces:
            self._rows[face].append((time, duration, values))

    def _flush(self) -> None:
        if self._intervals:
            self._hold = max(HOLD, _LATE * float(np.median(self._intervals)))
        for face, rows in self._rows.items():
            times, durations, values = zip(*rows)
            seen = Observations(
                np.array(times, np.float64),
                np.minimum(durations, self._hold),
                np.array(values, np.float32).reshape(len(rows), len(self.names)),
            )
            if self.seen is None:
                self._means[face].append(aggregate(seen, self._step))
            else:
                self._parts[face].append(seen)
        self._rows.clear()


def _joined(parts: list[Observations]) -> Observations:
    times, durations, values = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("times", "durations", "values")
    )
    if (np.diff(times) < 0).any():  # a damaged clip's may go back
        order = np.argsort(times, kind="stable")
        times, durations, values = times[order], durations[order], values[order]
    return Observations(times, durations, values)
