"""The HTTP service of ``fever-extract serve``: images in, records out.

Needs the extra ``serve``. What is extracted, and how, is the `Extractor`'s matter.
"""
