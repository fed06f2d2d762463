"""Training and evaluation of DeepFEVER weights; optional (``pip install fever-extract[training]``).

Run as ``python -m fever_extract.training train``, ``... evaluate`` and ``... adapt``.
"""
