"""Facial-expression embeddings from photographs.

    from fever_extract import Extractor
    X = Extractor().extract(["a.jpg", "b.jpg"])   # (2, d) float32

Importing this package does not import torch; making an `Extractor` does.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fever_extract.extractor import Extractor
from fever_extract.models.config import Config, ConfigError, WeightsError
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Face, Frame, Record, Status, Summary
from fever_extract.tables.reading import Table, load, read_table

if TYPE_CHECKING:
    from fever_extract.estimator import FeverTransformer as FeverTransformer

__version__ = version("fever-extract")

__all__ = [
    "Config",
    "ConfigError",
    "ExtractionError",
    "Extractor",
    "Face",
    "Frame",
    "Options",
    "Record",
    "Status",
    "Summary",
    "Table",
    "WeightsError",
    "__version__",
    "load",
    "read_table",
]


def __getattr__(name: str) -> Any:
    # scikit-learn is an extra, and slow to import: only who asks for the transformer pays. It is
    # not in __all__, so that `from fever_extract import *` works without it.
    if name == "FeverTransformer":
        from fever_extract.estimator import FeverTransformer

        return FeverTransformer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "FeverTransformer"]
