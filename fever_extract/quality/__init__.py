"""Measures of how far a face can be believed, by closed forms: pose, sharpness, exposure.

What uses them is in `fever_extract.pipeline` and `fever_extract.tables.schema`.
"""
