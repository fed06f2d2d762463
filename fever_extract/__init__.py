"""Facial-expression vectors from photographs.

    from fever_extract import Extractor
    X = Extractor().extract(["a.jpg", "b.jpg"])   # (2, d) float32

Importing this package does not import torch; making an `Extractor` does.
"""

from importlib.metadata import version

from fever_extract.config import Config, ConfigError, WeightsError
from fever_extract.extractor import Extractor
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Face, Record, Status, Summary
from fever_extract.shards import load

__version__ = version("fever-extract")

__all__ = [
    "Config",
    "ConfigError",
    "ExtractionError",
    "Extractor",
    "Face",
    "Options",
    "Record",
    "Status",
    "Summary",
    "WeightsError",
    "__version__",
    "load",
]
