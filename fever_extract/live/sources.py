"""Open a camera, a stream or a clip by what the user calls it."""

from __future__ import annotations

import errno
import glob
import os
import stat
import sys
from dataclasses import dataclass

import av
from av.container import InputContainer

from fever_extract._utils.names import printable
from fever_extract.video.decoding import Clip

_DEVICES = "/dev/video*"
_SECONDS = (10.0, 10.0)  # to open an address, and for each read from it
_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_REASONS = {
    errno.ENOENT: "does not exist",
    errno.ENODEV: "does not exist any more",
    errno.EBUSY: "is busy: another program has it; close that first",
    errno.EACCES: "may not be opened by you: on Linux, be in the group video",
    errno.EPERM: "may not be opened by you: allow this program the camera in the system's settings",
    errno.ENOTTY: "is no camera",
    errno.EINVAL: "does not offer this size or frame rate; try another --size",
}


class SourceError(OSError):
    """Raised, with one line, for a camera or an address that can't be opened."""


@dataclass(frozen=True)
class Source:
    """What is looked at.

    Args:
        text: the index of a camera, a device, an address, or a path.
        size: width and height that a camera is asked for.
        rate: frames a second that a camera is asked for.
    """

    text: str
    size: tuple[int, int] = (640, 480)
    rate: float | None = None

    @property
    def title(self) -> str:
        """What people call it: of a clip, the file's name; safe to print."""
        is_file = not (self.is_camera or self.is_address)
        return printable(os.path.basename(self.text) if is_file else self.text)

    @property
    def is_camera(self) -> bool:
        """Whether it is a camera of this machine."""
        return self.text.isdecimal() or self.text.startswith("video=") or _is_device(self.text)

    @property
    def is_address(self) -> bool:
        """Whether it is a URL."""
        return not self.is_camera and "://" in self.text

    def open(self) -> tuple[Clip, InputContainer | None]:
        """Open it.

        Returns:
            What reads its frames, and a container that the caller closes after that, if any.

        Raises:
            SourceError: if a camera or an address can't be opened.
            fever_extract.ExtractionError: if a clip can't.
        """
        if not (self.is_camera or self.is_address):
            return Clip(self.text), None
        container = self._open_camera() if self.is_camera else self._open_address()
        try:
            return Clip(container), container
        except BaseException:
            container.close()
            raise

    def _open_camera(self) -> InputContainer:
        name, driver = self._device()
        options = {"video_size": "{}x{}".format(*self.size)}
        if self.rate is not None or driver == "avfoundation":  # which has no rate of its own
            options["framerate"] = f"{self.rate or 30:g}"
        try:
            return av.open(name, "r", format=driver, options=options)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise SourceError(self.explain(name, error)) from None

    def _open_address(self) -> InputContainer:
        try:
            return av.open(self.text, "r", timeout=_SECONDS)
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise SourceError(printable(f"{self.text} could not be opened: {reason}")) from None

    def _device(self) -> tuple[str, str]:
        """Its name and its driver, as FFmpeg calls them."""
        driver = _FORMATS.get(sys.platform, "v4l2")
        if not self.text.isdecimal():
            return self.text, driver
        if driver == "v4l2":
            return f"/dev/video{self.text}", driver
        if driver == "dshow":
            raise SourceError("on Windows, name the camera: live 'video=Integrated Camera'")
        return f"{self.text}:none", driver

    def explain(self, name: str, error: Exception) -> str:
        """Say in one line why a camera can't be opened."""
        number = getattr(error, "errno", None)
        reason = _REASONS.get(number or 0) or getattr(error, "strerror", None) or str(error)
        line = f"camera {printable(name)} {reason}"
        if number == errno.ENOENT and sys.platform == "linux":
            present = sorted(glob.glob(_DEVICES))
            line += f"; there are {', '.join(present)}" if present else "; no camera is connected"
        return line


def _is_device(text: str) -> bool:
    if text.startswith("/dev/video"):
        return True
    try:
        return stat.S_ISCHR(os.stat(text).st_mode)
    except (OSError, ValueError):
        return False
