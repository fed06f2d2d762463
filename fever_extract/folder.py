"""The folder job: list, extract batch by batch, write, sum up."""

from __future__ import annotations

import os
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from fever_extract.crops import check_folder, save_crops
from fever_extract.images import list_images
from fever_extract.options import Options
from fever_extract.records import Status, Summary
from fever_extract.tables import Columns, check_output, open_table, printable

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor
    from fever_extract.pipeline import Pipeline

_ROWS_AT_ONCE = 2048  # a row group that Parquet readers like, at 2 MB of vectors


def run(
    extractor: Extractor,
    pipeline: Pipeline,
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    all_faces: bool,
    options: Options,
    crops_folder: str | os.PathLike[str] | None = None,
) -> Summary:
    """See `Extractor.extract_folder`; ``pipeline`` is the extractor's."""
    start = time.monotonic()
    output = Path(output)
    check_output(output)
    root, paths = find_inputs(folder)
    crops = None if crops_folder is None else check_folder(crops_folder, folder)
    statuses: Counter[Status] = Counter()
    failures: list[tuple[str, Status, str]] = []
    faces = 0
    classes = len(extractor.config.expressions)
    hidden = None if options.show_progress is None else not options.show_progress
    with (
        open_table(output, metadata(extractor, options, all_faces)) as table,
        tqdm(total=len(paths), unit="image", disable=hidden) as bar,
    ):
        waiting = []
        for first in range(0, len(paths), options.batch_size):
            batch = paths[first : first + options.batch_size]
            records = pipeline.process([root / path for path in batch], options, all_faces)
            for path, record in zip(batch, records):
                if crops is not None and record.faces:
                    save_crops(crops, root, path, record, extractor.config.preprocessing)
                waiting.append((path, record))
                statuses[record.status] += 1
                faces += len(record.faces)
                if record.status is not Status.OK:
                    failures.append((printable(path), record.status, printable(record.error or "")))
            if len(waiting) >= _ROWS_AT_ONCE:
                table.write(Columns.of(waiting, extractor.embedding_dim, classes))
                waiting.clear()
            bar.update(len(batch))
        if waiting:
            table.write(Columns.of(waiting, extractor.embedding_dim, classes))
    return Summary(
        output=output,
        images=len(paths),
        faces=faces,
        statuses=dict(statuses),
        failures=tuple(failures),
        seconds=time.monotonic() - start,
    )


def find_inputs(folder: str | os.PathLike[str]) -> tuple[Path, list[str]]:
    """The root and the paths below it of a folder's images, or of a single file.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if there is no image in it.
    """
    root = Path(folder)
    if root.is_file():
        return root.parent, [root.name]
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist; give a folder of images, or one image")
    paths = list(list_images(root))
    if not paths:
        raise ValueError(
            f"no images in {root} (looked in all folders below it for .jpg, .png, .webp, .bmp, "
            ".tiff and the like)"
        )
    return root, paths


def metadata(extractor: Extractor, options: Options, all_faces: bool) -> dict[str, object]:
    """What made a table: all that a vector depends on."""
    return {
        "version": version("fever-extract"),
        "weights": extractor.config.name,
        "weights_source": extractor.source,
        "weights_sha256": extractor.sha256,
        "embedding_dim": extractor.embedding_dim,
        "expressions": list(extractor.config.expressions),
        "options": {
            "select": options.select,
            "min_face_size": options.min_face_size,
            "min_confidence": options.min_confidence,
            "aligned": options.aligned,
            "fallback": options.fallback,
            "normalize": options.normalize,
            "all_faces": all_faces,
        },
    }
