"""The folder job: list, extract batch by batch, write, sum up."""

from __future__ import annotations

import importlib.util
import itertools
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from fever_extract.crops import check_folder, save_crops
from fever_extract.images import EXTENSIONS, list_images
from fever_extract.options import Options
from fever_extract.records import Frame, Record, Status, Summary
from fever_extract.tables import Columns, check_output, open_table, printable

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor
    from fever_extract.pipeline import Pipeline

CLIP_EXTENSIONS = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
"""What counts as a clip in a folder, in any case of letters."""

_INSTALL = "pip install 'fever-extract[video]'"
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
    # How many frames a clip has shows when it is decoded.
    total = None if any(map(is_clip, paths)) else len(paths)
    hidden = None if options.show_progress is None else not options.show_progress
    with (
        open_table(output, metadata(extractor, options, all_faces)) as table,
        tqdm(total=total, unit="image", disable=hidden) as bar,
    ):
        waiting = []
        for path, record in _records(pipeline, root, paths, options, all_faces):
            if crops is not None and record.faces and not isinstance(record, Frame):
                save_crops(crops, root, path, record, extractor.config.preprocessing)
            waiting.append((path, record))
            statuses[record.status] += 1
            faces += len(record.faces)
            if record.status is not Status.OK:
                message = printable(record.error or "")
                if isinstance(record, Frame) and record.status.was_searched:
                    message = f"at {record.time:.2f} s: {message}"
                failures.append((printable(path), record.status, message))
            if len(waiting) >= _ROWS_AT_ONCE:
                table.write(Columns.of(waiting, extractor.embedding_dim, classes))
                waiting.clear()
            bar.update()
        if waiting:
            table.write(Columns.of(waiting, extractor.embedding_dim, classes))
    return Summary(
        output=output,
        images=statuses.total(),
        faces=faces,
        statuses=dict(statuses),
        failures=tuple(failures),
        seconds=time.monotonic() - start,
    )


def _records(
    pipeline: Pipeline, root: Path, paths: Iterable[str], options: Options, all_faces: bool
) -> Iterator[tuple[str, Record]]:
    """A record for each photograph and each frame of a clip, in the order of the paths."""
    for are_clips, group in itertools.groupby(paths, is_clip):
        if are_clips:
            from fever_extract import video

            for path in group:
                for frame in video.extract(pipeline, root / path, options, all_faces=all_faces):
                    yield path, frame
            continue
        photographs = list(group)
        records = pipeline.stream((root / path for path in photographs), options, all_faces)
        yield from zip(photographs, records)


def is_clip(path: str | os.PathLike[str]) -> bool:
    """Whether a file counts as a clip, by its extension."""
    return os.path.splitext(path)[1].lower() in CLIP_EXTENSIONS


def find_inputs(folder: str | os.PathLike[str]) -> tuple[Path, list[str]]:
    """The root and the paths below it of a folder's photographs and clips, or of one file.

    Without PyAV, a folder's clips are passed over with a warning.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ImportError: if it is one clip, and PyAV is missing.
        ValueError: if there is no image in it.
    """
    root = Path(folder)
    reads_clips = importlib.util.find_spec("av") is not None
    if root.is_file():
        if is_clip(root) and not reads_clips:
            raise ImportError(f"{root} is a clip, which needs PyAV: {_INSTALL}")
        return root.parent, [root.name]
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist; give a folder of images, or one image")
    paths = list(list_images(root, EXTENSIONS | CLIP_EXTENSIONS))
    if not reads_clips:
        listed, paths = paths, [path for path in paths if not is_clip(path)]
        if clips := len(listed) - len(paths):
            warnings.warn(f"passed over {clips} clips, which need PyAV: {_INSTALL}", stacklevel=3)
    if not paths:
        raise ValueError(
            f"no images in {root} (looked in all folders below it for .jpg, .png, .webp, .bmp, "
            ".tiff and the like, and for clips)"
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
        "options": {**options.settings(), "all_faces": all_faces},
    }
