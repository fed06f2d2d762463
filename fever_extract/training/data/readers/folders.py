"""Images in folders: one folder per expression, or unlabelled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fever_extract._utils.names import to_text
from fever_extract.folders import list_images
from fever_extract.models.config import EXPRESSIONS, FOLDER_NAMES
from fever_extract.training.data.readers.sample import SPLITS, TRAIN, VALID, Sample

_SPLITS = {**{name: name for name in SPLITS}, "val": VALID, "validation": VALID}


def sorted_into_classes(sources: Sequence[Path]) -> Iterator[Sample]:
    """Photographs in class folders, which may lie in folders ``train``, ``valid`` and ``test``.

    Without those, all are to train on.

    Args:
        sources: folders of class folders, or of the splits' folders.

    Raises:
        ValueError: if a folder's name is no expression, or no picture is found.
    """
    empty = True
    for source in sources:
        folders = _folders(source)
        divided = [folder for folder in folders if folder.name.lower() in _SPLITS]
        parts = [(_SPLITS[folder.name.lower()], folder) for folder in divided] or [(TRAIN, source)]
        for split, part in parts:
            for folder in _folders(part):
                expression = EXPRESSIONS.index(_expression(folder))
                for sample in _pictures(folder, source, split, expression):
                    empty = False
                    yield sample
    if empty:
        raise ValueError(
            f"{' and '.join(map(str, sources))}: no pictures in class folders; sort them into "
            f"folders named {', '.join(EXPRESSIONS)}"
        )


def unsorted(sources: Sequence[Path]) -> Iterator[Sample]:
    """Photographs in folders and all folders below, without labels; all are to train on.

    Raises:
        ValueError: if there is none.
    """
    empty = True
    for source in sources:
        for sample in _pictures(source, source, TRAIN, None):
            empty = False
            yield sample
    if empty:
        raise ValueError(f"{' and '.join(map(str, sources))}: no pictures here or below")


def _pictures(folder: Path, source: Path, split: str, expression: int | None) -> Iterator[Sample]:
    for name in list_images(folder):
        path = folder / name
        yield Sample(
            name=to_text(path.relative_to(source).as_posix()),
            split=split,
            picture=str(path),
            expression=expression,
        )


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder; give one with class folders in it")
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _expression(folder: Path) -> str:
    try:
        return FOLDER_NAMES[folder.name.lower()]
    except KeyError:
        raise ValueError(
            f"{folder}: its name is none of the expressions ({', '.join(sorted(FOLDER_NAMES))}). "
            "Rename or remove it; for other classes there is "
            "`python -m fever_extract.training adapt`"
        ) from None
