"""Decode clips with PyAV: every frame with its time, damage reported."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ContextDecorator, suppress
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Union

import numpy as np

from fever_extract._utils.extras import install
from fever_extract.records import ExtractionError, Status

try:
    import av
    from av.container import InputContainer
    from av.sidedata.sidedata import Type
    from av.stream import Disposition
except ImportError as error:
    raise ImportError(f"video needs PyAV: {install('video')}") from error

if TYPE_CHECKING:
    import numpy.typing as npt
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

ClipLike = Union[str, "os.PathLike[str]", IO[bytes], InputContainer]
"""A path, a URL, an open binary file, or what ``av.open`` gave (for a camera, say)."""

_INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi")
# Titles need not be UTF-8; PyAV 19 knows that itself, and takes no word for it.
_METADATA: dict[str, Any] = (
    {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
)
_MISSING_TAIL = 0.5  # seconds by which a header may promise too much
_PLAUSIBLE = 86400.0  # seconds that a header may promise; beyond, it is looked into
_WIDEST_PIXEL = 16  # times as wide as high, or as high as wide; beyond, the header is damaged


def check(clip: object) -> None:
    """Refuse what can't be a clip, whatever it holds.

    Raises:
        TypeError: saying what was expected and what came.
    """
    if not isinstance(clip, (str, os.PathLike, InputContainer)) and not hasattr(clip, "read"):
        raise TypeError(
            "expected a clip's path or URL, an open binary file, or a container of av.open; got "
            f"{type(clip).__name__}"
        )


class _Told(ContextDecorator):
    """Convert FFmpeg's and PyAV's errors about a file's content to `ExtractionError`."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, ExtractionError):
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ExtractionError(Status.DECODE_ERROR, f"could not be decoded: {reason}") from error


_told = _Told()


class Clip:
    """A clip, open for reading; a context manager.

    Attributes:
        pixel_aspect: width of a pixel of the last frame, in heights of it, as it is stored.
        problems: what is damaged or missing so far: time in seconds (NaN at the beginning), reason.

    Args:
        clip: see `ClipLike`. An open container stays open.
        threads: of the decoder.

    Raises:
        ExtractionError: ``not_found`` or ``decode_error``, with the reason.
    """

    @_told
    def __init__(self, clip: ClipLike, threads: int = 1) -> None:
        self._owned = not isinstance(clip, InputContainer)
        self._container = clip if isinstance(clip, InputContainer) else _open(clip)
        # A picture in a sound file is its cover.
        streams = [
            stream
            for stream in self._container.streams.video
            if not stream.disposition & Disposition.attached_pic
        ]
        if not streams:
            kinds = sorted({stream.type for stream in self._container.streams})
            self.close()
            raise ExtractionError(
                Status.DECODE_ERROR, f"no video in it ({', '.join(kinds) or 'nothing'} only)"
            )
        self._stream: VideoStream = streams[0]
        if self._stream.codec_context is None:
            self.close()
            raise ExtractionError(Status.DECODE_ERROR, "its codec is not known to FFmpeg")
        if not self._stream.codec_context.is_open:  # else it was read from already
            self._stream.thread_type = "AUTO"
            self._stream.codec_context.thread_count = threads
        # Players count from the beginning of picture or sound, whichever is first.
        self._origin = (self._container.start_time or 0) / av.time_base
        self.pixel_aspect = self._stream.sample_aspect_ratio or Fraction(1)
        self._coded_aspect: Fraction | None = None
        self._time = math.nan
        self._end = 0.0
        self.problems: list[tuple[float, str]] = []

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless it was given open."""
        if self._owned:
            self._container.close()

    def frames(
        self, start: float | None = None, end: float | None = None
    ) -> Iterator[tuple[float, VideoFrame]]:
        """Yield every frame from ``start`` to before ``end``, with its time, in seconds.

        Raises:
            ExtractionError: after the last frame, if there should have been more.
        """
        given = False
        for time, frame in self.walk(start or 0.0):
            if end is not None and time >= end:
                break
            if start is None or time >= start:
                given = True
                yield time, frame
        if error := describe_problems(self.problems, given, start or 0.0):
            raise error

    def walk(self, start: float = 0.0) -> Iterator[tuple[float, VideoFrame]]:
        """Yield all frames to the end, with their times, from a key frame before ``start`` on.

        What is damaged or missing is in `problems` then. Of a clip that begins later than
        ``start``, and where a jump may land anywhere, the first is the clip's first.
        """
        with _told:
            for frame in self._decode_from(start):
                if frame.key_frame:
                    self._note_pixel_aspect()
                self._time = self._time_of(frame)
                self._end = self._time + float((frame.duration or 0) * (frame.time_base or 0))
                yield self._time, frame
            promised = self._promised_end()
            if not self.problems and promised and promised > self._end + _MISSING_TAIL:
                self._complain(self._end, f"it ends there, at {promised:.2f} s by its header")

    @_told
    def measure(self) -> tuple[float, float]:
        """Estimate the clip's length in seconds and its frames a second, without decoding.

        By the header; where that says nothing, or more than a day, all packets are looked at.
        """
        stream = self._stream
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        whole = self._container.duration
        seconds = self._promised_end() or (whole / av.time_base if whole else 0.0)
        if not 0 < seconds <= _PLAUSIBLE:
            seconds, packets = 0.0, 0
            with suppress(av.FFmpegError):
                for packet in self._container.demux(stream):
                    packets += packet.size > 0
                    if packet.pts is not None:
                        seconds = max(seconds, float(packet.pts * packet.time_base) - self._origin)
            seconds = min(seconds, _PLAUSIBLE) or packets / rate
        return seconds, rate

    def _decode_from(self, start: float) -> Iterator[VideoFrame]:
        """Decode from the last key frame before ``start`` that can be reached on."""
        if start <= 0 or self._container.format.name not in _INDEXED:
            yield from self._decode()
            return
        frames = self._decode()
        first = next(frames, None)
        if first is not None:
            self._note_pixel_aspect()  # so that a change since then is noticed
        back = 0.0
        while back < start:
            if not self._seek(start - back) and back == 0:  # a pipe, or nothing is before it
                yield from chain([first] if first is not None else [], frames)
                return
            frames = self._decode()
            # What comes before the first key frame may refer to what was jumped over.
            key = next((frame for frame in frames if frame.key_frame), None)
            if key is not None and key.time is not None and self._time_of(key) < start:
                self.problems.clear()
                yield from chain([key], frames)
                return
            # Jumps are by decoding time, or the index is wrong, or the clip ends before that.
            back = 2 * back or 0.5
        self._seek(0.0)
        yield from self._decode()

    def _seek(self, time: float) -> bool:
        """Jump to a time, or a little before or after it; return whether that was possible."""
        try:
            self._container.seek(int((time + self._origin) * av.time_base))
        except av.FFmpegError:
            return False
        self.problems.clear()
        self._time, self._end = math.nan, 0.0
        return True

    def _decode(self) -> Iterator[VideoFrame]:
        """Decode all that can be decoded; a damaged packet does not end it."""
        packets = self._container.demux(self._stream)
        ended = False
        while not ended:
            time = self._time
            try:
                packet = next(packets, None)
                ended = packet is None
                if packet is not None and packet.pts is not None:
                    time = float(packet.pts * packet.time_base) - self._origin
                # At the end, the decoder gives what it still holds.
                frames = self._stream.decode(packet)
            except av.EOFError:
                return  # it held nothing
            except av.FFmpegError as error:
                self._complain(time, error.strerror or str(error))
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self._complain(self._time_of(frame), "a damaged frame")
                else:
                    yield frame

    def _note_pixel_aspect(self) -> None:
        """Note the pixel aspect: the container's, as in players, unless the stream changes it.

        The decoder is ahead of the frames that it gives: only at a key frame do both agree.
        """
        coded = self._stream.codec_context.sample_aspect_ratio or Fraction(1)
        if self._coded_aspect not in (None, coded):
            self.pixel_aspect = coded
        self._coded_aspect = coded

    def _time_of(self, frame: VideoFrame) -> float:
        if frame.time is not None:
            return round(frame.time - self._origin, 6)  # containers count in microseconds
        # Raw streams have no times.
        rate = self._stream.average_rate or self._stream.guessed_rate or 25
        return 0.0 if math.isnan(self._time) else self._time + float(1 / rate)

    def _promised_end(self) -> float | None:
        """Read when the frames end from the header; None if it does not say."""
        stream = self._stream
        if stream.duration is not None and stream.time_base is not None:
            end = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
            return end - self._origin
        # Matroska's way to say it of one stream; its container's duration counts sound too.
        parts = re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", ""))
        if parts is None:
            return None
        hours, minutes, seconds = map(float, parts.groups())
        return 3600 * hours + 60 * minutes + seconds - self._origin

    def _complain(self, time: float, reason: str) -> None:
        self.problems.append((time, reason))


def describe_problems(
    problems: Sequence[tuple[float, str]], given: bool, start: float
) -> ExtractionError | None:
    """Make the error for what is wrong with a clip.

    Args:
        problems: as in `Clip.problems`.
        given: whether there was a frame.
        start: from which time on one was looked for, in seconds.
    """
    if not problems:
        reason = f"no frame in it from {start:g} s on"
        return None if given else ExtractionError(Status.DECODE_ERROR, reason)
    time, reason = problems[0]
    where = "at the beginning" if math.isnan(time) else f"at {time:.2f} s"
    others = f" (and {len(problems) - 1} such problems later)" if len(problems) > 1 else ""
    return ExtractionError(Status.DECODE_ERROR, f"could not be decoded: {where}: {reason}{others}")


@_told
def upright(frame: VideoFrame, pixel_aspect: Fraction) -> npt.NDArray[np.uint8]:
    """Convert a frame as a player shows it: square pixels, rotated and mirrored by its matrix.

    Args:
        frame: as it was decoded.
        pixel_aspect: see `Clip.pixel_aspect`; the picture is enlarged along the longer side of
            its pixels, so that nothing is lost.

    Returns:
        ``(h, w, 3)`` uint8 RGB, C-contiguous.

    Raises:
        ExtractionError: ``decode_error``, if it has no such pixels or no colours.
    """
    if not 1 <= max(pixel_aspect, 1 / pixel_aspect) <= _WIDEST_PIXEL:
        raise ExtractionError(
            Status.DECODE_ERROR,
            f"its pixels are said to be {float(pixel_aspect):g} times as wide as high",
        )
    width = round(frame.width * max(pixel_aspect, Fraction(1)))
    height = round(frame.height * max(1 / pixel_aspect, Fraction(1)))
    try:
        # The default, bilinear, blurs what it stretches; of what is not stretched it is as good.
        is_square = (width, height) == (frame.width, frame.height)
        interpolation = None if is_square else "BICUBIC"
        square = frame.reformat(width, height, "rgb24", interpolation=interpolation)
        pixels = np.asarray(square.to_ndarray(), np.uint8)
    except (av.FFmpegError, ValueError) as error:
        reason = f"a frame of format {frame.format.name} can't be shown: {error}"
        raise ExtractionError(Status.DECODE_ERROR, reason) from error
    sides: Any = frame.side_data  # PyAV's types say that these are texts
    # Asked for by type: what it iterates over, the data or the types, depends on PyAV's version.
    matrix = sides.get(Type.DISPLAYMATRIX)
    if matrix is not None:
        pixels = _displayed(pixels, np.frombuffer(bytes(matrix)[:36], np.int32).reshape(3, 3))
    return np.ascontiguousarray(pixels)


def _displayed(
    pixels: npt.NDArray[np.uint8], matrix: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint8]:
    """Find the nearest of the eight rotations and reflections.

    Args:
        pixels: ``(h, w, 3)``.
        matrix: ``(3, 3)``; its upper left part takes row vectors (x, y), y pointing down, to
            where they are shown.
    """
    (a, b), (c, d) = matrix[:2, :2].astype(float)
    if abs(b) + abs(c) > abs(a) + abs(d):  # x is shown as y
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _open(clip: str | os.PathLike[str] | IO[bytes]) -> InputContainer:
    if isinstance(clip, os.PathLike) or (isinstance(clip, str) and "://" not in clip):
        path = Path(clip)
        if not path.exists():
            raise ExtractionError(Status.NOT_FOUND, f"{path} does not exist")
        if not path.is_file():
            raise ExtractionError(Status.NOT_FOUND, f"{path} is no regular file")
        clip = os.path.abspath(path)  # what looks like a protocol is none then
    try:
        opened: InputContainer = av.open(clip, "r", **_METADATA)
        return opened
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ExtractionError(Status.DECODE_ERROR, f"could not be opened: {reason}") from error
