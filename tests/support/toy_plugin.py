"""A plug-in for Pillow, as a user might have one: raw RGB after a header of 12 bytes."""

import struct

from PIL import Image, ImageFile


class ToyImageFile(ImageFile.ImageFile):
    format = "TOY"
    format_description = "raw pixels"

    def _open(self):
        self._size = struct.unpack("<II", self.fp.read(12)[4:])
        self._mode = "RGB"
        self.tile = [ImageFile._Tile("raw", (0, 0, *self._size), 12, ("RGB", 0, 1))]


def accept(prefix):
    return prefix.startswith(b"TOY1")


def register():
    Image.register_open("TOY", ToyImageFile, accept)


def encode(image):
    return b"TOY1" + struct.pack("<II", *image.size) + image.tobytes()
