"""Readers of data sets, one module each, from the files that their owners distribute.

A kind of data set is a function that yields a `Sample` for each face; the faces are then found,
cut out and written to a table by `fever_extract.training.data.prepare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fever_extract.training.data.readers import affectnet, fec, ferplus, folders, rafdb
from fever_extract.training.data.readers.sample import Sample

KINDS: dict[str, Callable[[Sequence[Path]], Iterator[Sample]]] = {
    "ferplus": ferplus.samples,
    "affectnet": affectnet.samples,
    "rafdb": rafdb.samples,
    "fec": fec.samples,
    "class-folders": folders.sorted_into_classes,
    "unlabelled": folders.unsorted,
}


def read(kind: str, sources: Sequence[Path], classes: int | None = None) -> list[Sample]:
    """All samples of a data set, so that whatever is wrong with its lists is known at once.

    Args:
        kind: one of `KINDS`.
        sources: files and folders, as the kind's function takes them.
        classes: of AffectNet, 7 or 8 (the default).

    Raises:
        FileNotFoundError: naming what is missing, and where it is to be had.
        ValueError: if a source is not in its owner's format, or two samples have one name.
    """
    for source in sources:
        if not source.exists():
            raise FileNotFoundError(f"{source} does not exist")
        if source.suffix == ".parquet":
            raise ValueError(f"{source} is a table already; give it to training as it is")
    if classes is not None and kind != "affectnet":
        raise ValueError(f"classes are to be chosen for affectnet only, not for {kind}")
    if classes not in (None, 7, 8):
        raise ValueError(f"AffectNet has 7 or 8 classes, not {classes}")
    if kind == "affectnet":
        found = list(affectnet.samples(sources, classes or 8))
    else:
        found = list(KINDS[kind](sources))
    names: set[str] = set()
    for sample in found:
        if sample.name in names:
            raise ValueError(
                f"two pictures are called {sample.name!r}; give one source at a time, or rename one"
            )
        names.add(sample.name)
    return found
