"""A plug-in for Pillow, as a user might have one: raw RGB after a header of 12 bytes."""

import os
import struct
from contextlib import contextmanager

from PIL import Image, ImageFile

DEADLY = b"TOY1" + bytes(8)
"""A file that ends the process which opens it."""


class ToyImageFile(ImageFile.ImageFile):
    format = "TOY"
    format_description = "raw pixels"

    def _open(self):
        header = self.fp.read(12)
        if header == DEADLY:
            os._exit(3)
        self._size = struct.unpack("<II", header[4:])
        self._mode = "RGB"
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 12, ("RGB", 0, 1))]


def accept(prefix):
    return prefix.startswith(b"TOY1")


@contextmanager
def registered():
    Image.init()
    Image.register_open("TOY", ToyImageFile, accept)
    yield
    del Image.OPEN["TOY"]
    Image.ID.remove("TOY")


def encode(image):
    return b"TOY1" + struct.pack("<II", *image.size) + image.tobytes()
