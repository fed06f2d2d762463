"""Embeddings of Parquet files as one file that is mapped into memory."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fever_extract._utils.files import replace_atomically
from fever_extract.tables.embeddings import Embeddings
from fever_extract.tables.shards import JOB_FOLDER

if TYPE_CHECKING:
    import numpy.typing as npt

_CACHED = re.compile(r"(\..+\.)?embeddings-[0-9a-f]{16}\.npy")


def mapped(path: Path, files: list[Path], embeddings: Embeddings) -> npt.NDArray[np.float32]:
    """Map a table's embeddings into memory: ``(n, d)`` float32.

    They are written once, as an ``.npy`` file, which is used again as long as the table's files
    stay the same and it is whole.

    Args:
        path: the table, a Parquet file or a folder of them.
        files: the Parquet files.
        embeddings: what they hold.

    Raises:
        OSError: if there is no room beside the table, or no right to write there.
    """
    state = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    digest = hashlib.sha256(repr(state).encode()).hexdigest()[:16]
    folder = path / JOB_FOLDER if path.is_dir() else path.parent
    stem = "" if path.is_dir() else f".{path.name}."
    cached = folder / f"{stem}embeddings-{digest}.npy"
    shape = embeddings.count, embeddings.width
    if (loaded := _opened(cached, shape)) is None:
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            if old.name.startswith(f"{stem}embeddings-") and _CACHED.fullmatch(old.name):
                old.unlink(missing_ok=True)  # another reader may be here, too
        with replace_atomically(cached, inside=True) as temporary:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
            embeddings.fill(array)
            array.flush()
            del array  # Windows renames no file that is mapped
        loaded = _opened(cached, shape)
    if loaded is None:
        raise OSError(f"{cached} was written and can't be read back")
    return loaded


def _opened(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """Map a file of embeddings into memory; None if it does not hold those."""
    try:
        loaded: npt.NDArray[np.float32] = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return loaded if loaded.shape == shape and loaded.dtype == np.float32 else None
