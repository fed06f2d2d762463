"""The command ``fever-extract``: parse arguments, call the package, print.

No work of its own: what a command does is in the folder of that name or in the `Extractor`.
"""

from fever_extract.cli.main import main

__all__ = ["main"]
