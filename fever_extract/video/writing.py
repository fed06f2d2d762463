"""Write frames as a clip, with the sound of the one that they are from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract._utils import files
from fever_extract._utils.extras import install
from fever_extract._utils.files import exclusive, replace_atomically

try:
    import av
    from av.container import InputContainer, OutputContainer
except ImportError as error:
    raise ImportError(f"video needs PyAV: {install('video')}") from error

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from av.audio.stream import AudioStream

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
_CODEC = "libx264"
_CLOCK = 90_000  # ticks a second, to which a variable frame rate is rounded


def check_output(output: str | os.PathLike[str], clip: object = None) -> Path:
    """Refuse a clip that can't be written, before any work is done.

    Args:
        output: the file.
        clip: the one that is read, which must be another.

    Raises:
        ValueError, OSError: if its name or folder won't do.
    """
    path = files.check_output(output, FORMATS, "clip")
    same = isinstance(clip, (str, os.PathLike)) and os.path.exists(clip) and path.exists()
    if same and os.path.samefile(str(clip), path):
        raise ValueError(f"clip {path} is the one that is read; give another name")
    return path


class ClipWriter(AbstractContextManager["ClipWriter"]):
    """A clip in H.264 that appears when it is whole; a context manager.

    The sound is copied as it is, from the first frame to the last; a kind of sound
    that the output's format can't hold is left out, and so is that of a camera or an open file.

    Args:
        output: an ``.mp4``, ``.mov`` or ``.mkv`` file.
        clip: where the sound is, if that is a path.

    Raises:
        ValueError, OSError: at once, if it can't be written.
    """

    def __init__(self, output: str | os.PathLike[str], clip: object = None) -> None:
        self._path = check_output(output, clip)
        self._clip = clip
        self._stack = ExitStack()
        self._container: OutputContainer | None = None
        self._stream: Any = None
        self._sound: Iterator[tuple[float, Any]] = iter(())
        self._next: tuple[float, Any] | None = None
        self._start = self._time = self._interval = 0.0
        self._tick = -1

    def __enter__(self) -> ClipWriter:
        self._stack.enter_context(exclusive(self._path))
        return self

    def write(self, pixels: npt.NDArray[np.uint8], time: float) -> None:
        """Append a frame.

        Args:
            pixels: ``(h, w, 3)`` uint8 RGB, with even sides; of another size than the first, it is
                scaled to that.
            time: in seconds, rising.
        """
        if self._container is None:
            self._open(pixels, time)
        assert self._container is not None
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame = frame.reformat(self._stream.width, self._stream.height, format="yuv420p")
        self._tick = max(round((time - self._start) * _CLOCK), self._tick + 1)
        frame.pts, frame.time_base = self._tick, Fraction(1, _CLOCK)
        self._copy_sound(time)
        self._container.mux(self._stream.encode(frame))
        self._interval, self._time = max(time - self._time, 0.0), time

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> bool | None:
        try:
            if kind is None and self._container is not None:
                self._copy_sound(self._time + self._interval)
                self._container.mux(self._stream.encode())
                self._container.close()
                self._container = None
        except BaseException as late:
            self._stack.__exit__(type(late), late, late.__traceback__)
            raise
        return self._stack.__exit__(kind, error, trace)

    def _open(self, pixels: npt.NDArray[np.uint8], time: float) -> None:
        temporary = self._stack.enter_context(replace_atomically(self._path))
        container = av.open(str(temporary), "w", format=FORMATS[self._path.suffix.lower()])
        self._stack.callback(container.close)
        self._container = container
        stream: Any = container.add_stream(_CODEC, rate=Fraction(30), options={"crf": "20"})
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, _CLOCK)
        self._stream, self._start, self._time = stream, time, time
        if isinstance(self._clip, (str, os.PathLike)):
            source = self._stack.enter_context(_opened(self._clip))
            if source is not None and source.streams.audio:
                self._add_sound(container, source)

    def _add_sound(self, container: OutputContainer, source: InputContainer) -> None:
        stream: AudioStream = source.streams.audio[0]
        name = stream.codec_context.name if stream.codec_context is not None else ""
        if name not in _sounds(container.format.name):
            return
        copy = container.add_stream_from_template(stream)
        origin = (source.start_time or 0) / av.time_base

        def packets() -> Iterator[tuple[float, Any]]:
            for packet in source.demux(stream):
                if packet.pts is None or packet.time_base is None:
                    continue
                time = float(packet.pts * packet.time_base) - origin
                if time < self._start:
                    continue
                begin = round((self._start + origin) / packet.time_base)
                packet.pts -= begin
                packet.dts = packet.pts if packet.dts is None else packet.dts - begin
                packet.stream = copy
                yield time, packet

        self._sound = packets()
        self._next = _next(self._sound)

    def _copy_sound(self, until: float) -> None:
        """What is heard before a frame is written before it, so that little waits in memory."""
        while self._next is not None and self._next[0] <= until:
            assert self._container is not None
            self._container.mux(self._next[1])
            self._next = _next(self._sound)


def _next(sound: Iterator[tuple[float, Any]]) -> tuple[float, Any] | None:
    try:
        return next(sound, None)
    except av.FFmpegError:
        return None  # damaged from here on


def _sounds(container: str) -> tuple[str, ...]:
    """The codecs of sound that a format holds, of those that are common."""
    common = ("aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "flac")
    return (*common, "vorbis", "pcm_s16le") if container == "matroska" else common


@contextmanager
def _opened(clip: str | os.PathLike[str]) -> Iterator[InputContainer | None]:
    path = os.fspath(clip)
    try:
        source = av.open(path if "://" in path else os.path.abspath(path), "r")
    except (av.FFmpegError, OSError, ValueError):
        yield None
        return
    with source:
        yield source
