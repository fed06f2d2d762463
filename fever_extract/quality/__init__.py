"""Quality measures of a face, from its landmarks and crop: pose, sharpness, exposure.

What uses them is in `fever_extract.pipeline` and `fever_extract.tables.schema`.
"""
