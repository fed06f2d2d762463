"""Small clips of real faces, made with PyAV."""

from fractions import Fraction

import av
import numpy as np
from PIL import Image

# What phones write for a clip that is to be turned clockwise by so many degrees: where a
# pixel's x and y are shown, as (xx, xy, yx, yy).
TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}


def scene(face: Image.Image, *places: tuple[int, int], size=(320, 240)) -> np.ndarray:
    """A grey picture with the face at each place; ``(h, w, 3)`` uint8."""
    picture = Image.new("RGB", size, (128, 128, 128))
    for place in places:
        picture.paste(face, place)
    return np.asarray(picture)


def write_clip(
    path, pictures, times=None, codec="libx264", *, pixel_aspect=None, fine=False, **options: str
) -> None:
    """A clip of RGB arrays, shown at ``times`` (ms), or 10 a second; ``fine`` loses little."""
    times = range(0, 100 * len(pictures), 100) if times is None else times
    rate = 10 if codec in ("mpeg4", "mpeg2video") else 1000  # these know fixed rates only
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, rate)
        if fine:
            stream.options = {"crf": "5"}
        else:
            stream.bit_rate = 4_000_000
        stream.gop_size = 12
        if pixel_aspect is not None:
            stream.sample_aspect_ratio = pixel_aspect
        for time, picture in zip(times, pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time * rate // 1000, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def show_by(path, matrix: tuple[float, float, float, float]) -> None:
    """Say in an mp4's track header how players shall turn and mirror it; see `TURNS`."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40  # version 0: flags, times, id, duration, layer, volume
    xx, xy, yx, yy = (round(value * (1 << 16)) for value in matrix)  # 16.16 fixed point
    whole = [xx, xy, 0, yx, yy, 0, 0, 0, 1 << 30]
    data[start : start + 36] = np.array(whole, ">i4").tobytes()
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
