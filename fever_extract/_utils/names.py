"""File names as valid UTF-8 and back; text that is safe to print.

A name on disk is bytes, and not always UTF-8. In a table such bytes are written ``\\xNN``,
and so is a backslash that would read as one of these; any other name stays as it is.

What is printed is another matter: `printable` is for people, and can't be turned back.
"""

from __future__ import annotations

import os
import re

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_JOINERS = "\u200c\u200d"  # not printable by Unicode, but letters of Persian, and of emoji
# User info of a URL; a secret may hold a slash, though it should be escaped.
_USER_INFO = re.compile(r"(?<=://)(?:[^/?#\s@]*|[^/?#\s@:]+:(?!\d+/)[^\s@]*)@")
_SECRET = re.compile(
    r"([?&][^=&#\s]*(?:key|secret|token|sig|password|credential)[^=&#\s]*=)[^&#\s]*", re.IGNORECASE
)


def to_text(name: str) -> str:
    """Convert a file name (undecodable bytes as surrogates) to text that is valid UTF-8."""
    if name.isascii() and "\\x" not in name:  # nearly all; this is called for every image
        return name
    escaped = _ESCAPE.sub(rb"\\x5cx\1", os.fsencode(name))
    return escaped.decode("utf-8", "backslashreplace")


def from_text(text: str) -> str:
    """Undo `to_text`: return the name that ``open`` takes."""
    if "\\x" not in text:
        return text
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), os.fsencode(text)))


def redact(text: str) -> str:
    """Remove user names, passwords and keys from the URLs in a text."""
    if "://" not in text:
        return text
    return _SECRET.sub(r"\1***", _USER_INFO.sub("***@", text))


def printable(text: str) -> str:
    """Escape a text that may quote outside names, to one line that is safe to print.

    Control characters (a terminal obeys them), line breaks and marks that turn the direction of
    writing are escaped as Python does it, odd bytes become ``\\xNN``, addresses are redacted.
    """
    text = redact(text)
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in _JOINERS else _escaped(character)
        for character in text
    )


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # an undecodable byte
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "surrogatepass").decode()


def shortened(text: str, most: int = 200) -> str:
    """Shorten a name for a message."""
    return text if len(text) <= most else text[:most] + "..."
