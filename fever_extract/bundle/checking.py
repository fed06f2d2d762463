"""Check a bundle's files, and its Python program's results on the conformance pictures."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from fever_extract.bundle import conformance, runtime, writing
from fever_extract.bundle.conformance import Difference
from fever_extract.bundle.files import BundleError, Files
from fever_extract.bundle.precision import LEAST_COSINE
from fever_extract.models.checkpoint import Checkpoint


def check(
    folder: str | os.PathLike[str], checkpoint: Checkpoint | None = None
) -> Iterator[tuple[str, list[Difference]]]:
    """Compare, picture by picture, with what the package made of them.

    Nothing that is in the folder is run: its programs have to be those of this version of the
    package, and these are run.

    Args:
        folder: the bundle.
        checkpoint: weights; if they are those of the bundle, the package is compared, too.

    Yields:
        ``package``, or a precision of the program for Python, and its differences.

    Raises:
        BundleError: if a file is missing or changed, or the bundle is of another version.
    """
    files = Files(Path(folder))
    made_by = str(files.manifest.get("made_by"))
    programs = writing.programs()
    for name in files.names:
        data = files.read(name)
        if name in programs and data.decode() != programs[name]:
            raise BundleError(
                f"{name} in {folder} is not as fever-extract {version('fever-extract')} writes it: "
                f"the bundle was made by {made_by}. Check it with that, or export it again"
            )
    pictures = Path(folder) / conformance.FOLDER
    if checkpoint is not None and checkpoint.sha256 == files.manifest.get("weights_sha256"):
        yield "package", conformance.compare(pictures, conformance.by_package(checkpoint))
    for precision in files.manifest["embedders"]:
        # More threads would mostly wait for each other, at a core each.
        extractor = runtime.Extractor(folder, precision=precision, threads=1)
        extract = functools.partial(extractor.extract_records, all_faces=True)
        yield precision, conformance.compare(pictures, extract, LEAST_COSINE[precision])
