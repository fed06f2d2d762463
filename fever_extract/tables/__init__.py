"""Tables of faces on disk: their columns, how they are written and read back.

What fills them is in `fever_extract.jobs`, what shows them in `fever_extract.report`.
"""
