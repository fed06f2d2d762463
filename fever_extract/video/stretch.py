"""Stretches: a long clip in parts that can be read one by one, and in any order.

Needs no PyAV, so that a job can be planned without it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fever_extract.options import Options

SECONDS = 30.0
"""A stretch is this long, or longer where few frames a second are taken."""
FRAMES = 600
"""Frames that make a longer stretch worth its jump to the nearest key frame."""
LONGEST = 300.0

_MOST = 1_000_000  # frames of a stretch, where a header lies


@dataclass(frozen=True, slots=True)
class Stretch:
    """The frames of a clip from ``start`` to before ``end``, in seconds.

    Attributes:
        start: where it begins.
        end: where the next begins, or where to stop; None for the clip's end.
        number: of the stretch in the clip, from 0.
        last: no other stretch of the clip follows.
        frames: how many there are, about.
    """

    start: float = 0.0
    end: float | None = None
    number: int = 0
    last: bool = True
    frames: int = 1

    def owns(self, time: float) -> bool:
        """Whether what is wrong at a time is this stretch's to report; NaN is the beginning."""
        if math.isnan(time) or time < self.start:
            return self.number == 0
        return self.last or self.end is None or time < self.end

    def __str__(self) -> str:
        return f"{self.start:.2f} to {'the end' if self.end is None else f'{self.end:.2f} s'}"


def check_sampling(
    fps: float | None,
    start: float | None,
    end: float | None,
    *,
    detect_every: int = 1,
    options: Options | None = None,
) -> None:
    """Refuse a rate or a range of time that no clip has, or what ``detect_every`` can't do.

    Args:
        fps, start, end, detect_every: as in `fever_extract.Extractor.extract_video`.
        options: that go with them.

    Raises:
        ValueError: saying what is expected.
    """
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps must be more than 0, not {fps}")
    if not 0 <= (start or 0) < (math.inf if end is None else end):
        raise ValueError(f"start must be at least 0 and before end, not {start} and {end}")
    if not isinstance(detect_every, Integral) or detect_every < 1:
        raise ValueError(f"detect_every must be a whole number from 1 on, not {detect_every!r}")
    for name in ("aligned", "any_orientation"):
        if detect_every > 1 and options is not None and getattr(options, name):
            raise ValueError(f"{name} is for detect_every=1: faces can't be followed with it")


def count(
    seconds: float, rate: float, fps: float | None, start: float | None, end: float | None
) -> int:
    """Estimate how many frames are taken of a clip, at least 1."""
    taken = min(seconds, math.inf if end is None else end) - (start or 0.0)
    return round(min(max(1, taken * min(rate, fps or rate)), _MOST))


def cut(
    measured: tuple[float, float] | None,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
) -> Iterator[Stretch]:
    """Cut a clip into stretches; one that is not much longer than a stretch stays whole.

    Args:
        measured: how many seconds it lasts and its frames a second; None if that isn't known.
        fps: frames a second that are taken; None for all.
        start, end: in seconds, of what is taken of the clip.
    """
    begin = start or 0.0
    if measured is None:
        yield Stretch(begin, end)
        return
    seconds, rate = measured
    length = max(SECONDS, min(LONGEST, FRAMES / max(min(rate, fps or rate), 1e-3)))
    last = min(seconds, math.inf if end is None else end)
    pieces = max(1, math.floor((last - begin) / length + 0.5))
    for number in range(pieces):
        from_ = begin + number * length
        is_last = number == pieces - 1
        to = end if is_last else from_ + length
        frames = count(seconds, rate, fps, from_, to)
        yield Stretch(from_, to, number, is_last, frames)
