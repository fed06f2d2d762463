"""Jobs: many images to a table. List, plan, distribute, extract, write.

One process, supervised workers or Ray. What becomes of one image is in `fever_extract.pipeline`;
the format of what is written, in `fever_extract.tables`.
"""
