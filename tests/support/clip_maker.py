"""Small clips of real faces, made with PyAV."""

from fractions import Fraction

import av
import numpy as np
from PIL import Image

# 16.16 fixed point (2.30 in the last column): what phones write for a clip that is to be
# turned clockwise by so many degrees.
_ONE, _LAST = 1 << 16, 1 << 30
_MATRICES = {
    90: [0, _ONE, 0, -_ONE, 0, 0, 0, 0, _LAST],
    180: [-_ONE, 0, 0, 0, -_ONE, 0, 0, 0, _LAST],
    270: [0, -_ONE, 0, _ONE, 0, 0, 0, 0, _LAST],
}


def scene(face: Image.Image, *places: tuple[int, int], size=(320, 240)) -> np.ndarray:
    """A grey picture with the face at each place; ``(h, w, 3)`` uint8."""
    picture = Image.new("RGB", size, (128, 128, 128))
    for place in places:
        picture.paste(face, place)
    return np.asarray(picture)


def write_clip(path, pictures, times=None, codec="libx264", **options: str) -> None:
    """A clip of RGB arrays, shown at ``times`` (ms), or 10 a second."""
    times = range(0, 100 * len(pictures), 100) if times is None else times
    rate = 10 if codec in ("mpeg4", "mpeg2video") else 1000  # these know fixed rates only
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        stream.bit_rate = 4_000_000
        stream.gop_size = 12
        for time, picture in zip(times, pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time * rate // 1000, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def turn(path, degrees: int) -> None:
    """Say in an mp4's track header that players shall turn it clockwise."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: flags, times, id, duration, layer, volume
    data[start : start + 36] = np.array(_MATRICES[degrees], ">i4").tobytes()
    path.write_bytes(data)


def write_sound(path) -> None:
    """A second of silence."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        for start in range(0, 8000, 1024):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.rate, frame.pts = 8000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
