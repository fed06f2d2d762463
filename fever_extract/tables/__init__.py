"""Tables of faces on disk: their columns, how they are written and read back.

What fills them is in `fever_extract.jobs`, what shows them in `fever_extract.report`.
"""

from fever_extract._utils.names import from_text, to_text

__all__ = ["from_text", "to_text"]
