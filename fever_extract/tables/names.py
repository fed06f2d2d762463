"""File names as text that can stand in a table, and back.

A name on disk is bytes, and not always UTF-8. In a table such bytes are written ``\\xNN``,
and so is a backslash that would read as one of these; any other name stays as it is.
"""

from __future__ import annotations

import os
import re

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def to_text(name: str) -> str:
    """A name as Python has it (odd bytes as surrogates) as text that is UTF-8."""
    if name.isascii() and "\\x" not in name:  # nearly all; this is called for every image
        return name
    escaped = _ESCAPE.sub(rb"\\x5cx\1", os.fsencode(name))
    return escaped.decode("utf-8", "backslashreplace")


def from_text(text: str) -> str:
    """The name that `to_text` was given: what ``open`` takes."""
    if "\\x" not in text:
        return text
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(text)))


def printable(text: str) -> str:
    """A message that may quote a name that is not UTF-8; its odd bytes become ``\\xNN``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")
