"""A source of many images to a table: list, plan, share out, extract, write.

One process, supervised workers or Ray. What becomes of one image is in `fever_extract.pipeline`;
the format of what is written, in `fever_extract.tables`.
"""
