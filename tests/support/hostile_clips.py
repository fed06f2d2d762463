"""Clips that decoders choke on, made from whole ones; the same seed gives the same files."""

import random
import struct
from pathlib import Path

import numpy as np
from clip_maker import write_clip, write_sound
from hostile import cut, empty, flip, nest, noise, splice

# Four letters that begin what is in an mp4, and the size of the numbers that follow.
_BOXES = (b"moov", b"tkhd", b"mdhd", b"stsd", b"avc1", b"avcC", b"stts", b"stsz", b"stco", b"pasp")


def whole_clips(folder: Path) -> list[tuple[str, bytes]]:
    """A few frames in every container and codec that is likely: (extension, content)."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)
    made = [
        (".mp4", {}),
        (".mp4", {"movflags": "faststart", "pixel_aspect": 2}),
        (".mp4", {"movflags": "frag_keyframe+empty_moov"}),
        (".mov", {"codec": "mpeg4"}),
        (".mkv", {"pixel_aspect": 2}),
        (".webm", {"codec": "libvpx"}),
        (".avi", {"codec": "mpeg4"}),
        (".ts", {}),
        (".mpg", {"codec": "mpeg2video"}),
        (".h264", {}),
    ]
    clips = []
    for number, (extension, options) in enumerate(made):
        path = folder / f"{number}{extension}"
        write_clip(path, list(pixels), **options)
        clips.append((extension, path.read_bytes()))
    write_sound(folder / "sound.mp4")
    return [*clips, (".mp4", (folder / "sound.mp4").read_bytes())]


def write(folder: Path, count: int, seed: int) -> list[Path]:
    """Write ``count`` hostile clips into a folder; returns their paths."""
    clips = whole_clips(folder / "whole")
    rng = random.Random(seed)
    paths = []
    for number in range(count):
        extension, data = rng.choice(clips)
        damage = rng.choice(DAMAGES)
        for _ in range(rng.randint(1, 3)):
            data = damage(data, rng, clips)
        paths.append(folder / f"{number:04}_{damage.__name__}{extension}")
        paths[-1].write_bytes(data)
    return paths


def lie(data: bytes, rng: random.Random, clips: list[tuple[str, bytes]]) -> bytes:
    """Other numbers in a box of an mp4, its size included; elsewhere anywhere near the start."""
    damaged = bytearray(data)
    starts = [start for box in _BOXES if (start := data.find(box)) >= 4]
    place = (rng.choice(starts) if starts else rng.randrange(1, 400)) + rng.choice((-4, 4, 8, 40))
    value = rng.choice((0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.getrandbits(32)))
    if 0 <= place <= len(damaged) - 4:
        struct.pack_into(">I", damaged, place, value)
    return bytes(damaged)


DAMAGES = (cut, flip, flip, lie, lie, lie, splice, nest, empty, noise)
