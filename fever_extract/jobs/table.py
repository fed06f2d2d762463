"""One table from a folder (or any other sources): list, extract, write, sum up."""

from __future__ import annotations

import hashlib
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

from fever_extract.images import EXTENSIONS
from fever_extract.jobs.crops import check_folder, save_crops
from fever_extract.jobs.sources import Input, Sources, as_list, describe_nothing, find
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Frame, Record, Status, Summary
from fever_extract.tables.names import printable, to_text
from fever_extract.tables.schema import Columns, Widths, metadata_of
from fever_extract.tables.writing import check_output, open_table

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor
    from fever_extract.models.checkpoint import Checkpoint
    from fever_extract.pipeline import Pipeline

CLIP_EXTENSIONS = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
"""What counts as a clip in a folder, in any case of letters."""

_INSTALL = "pip install 'fever-extract[video]'"
_ROWS_AT_ONCE = 512  # small things that lie between large ones keep memory from being given back


def run(
    extractor: Extractor,
    pipeline: Pipeline,
    sources: Sources,
    output: str | os.PathLike[str],
    *,
    all_faces: bool,
    options: Options,
    crops_folder: str | os.PathLike[str] | None = None,
    embedding: bool = True,
) -> Summary:
    """See `Extractor.extract_folder`; ``pipeline`` is the extractor's."""
    start = time.monotonic()
    output = Path(output)
    check_output(output)
    crops = None if crops_folder is None else check_folder(crops_folder, as_list(sources))
    inputs = _readable(find(sources, EXTENSIONS | CLIP_EXTENSIONS))
    if not inputs:
        raise describe_nothing(sources)
    statuses: Counter[Status] = Counter()
    failures: list[tuple[str, Status, str]] = []
    faces = 0
    widths = Widths.of(extractor.config, embedding)
    # How many frames a clip has shows when it is decoded.
    total = None if any(map(is_clip, inputs)) else len(inputs)
    hidden = None if options.show_progress is None else not options.show_progress
    with (
        open_table(output, metadata(extractor, options, all_faces, embedding)) as table,
        tqdm(total=total, unit="image", disable=hidden) as bar,
    ):
        waiting = []
        for one, record in _records(pipeline, inputs, options, all_faces):
            if crops is not None and record.faces and not isinstance(record, Frame):
                save_crops(crops, one, record, extractor.config.preprocessing)
            waiting.append((one.name, record))
            statuses[record.status] += 1
            faces += len(record.faces)
            if record.status is not Status.OK:
                message = printable(record.error or "")
                if isinstance(record, Frame) and record.status.was_searched:
                    message = f"at {record.time:.2f} s: {message}"
                failures.append((to_text(one.name), record.status, message))
            if len(waiting) >= _ROWS_AT_ONCE:
                table.write(Columns.of(waiting, widths))
                waiting.clear()
            bar.update()
        if waiting:
            table.write(Columns.of(waiting, widths))
    return Summary(
        output=output,
        images=sum(statuses.values()),
        faces=faces,
        statuses=dict(statuses),
        failures=tuple(failures),
        seconds=time.monotonic() - start,
    )


def load(one: Input) -> str | bytes | ExtractionError:
    """What the pipeline takes of an input: a path, bytes, or why there are none."""
    try:
        return one.load()
    except Exception as error:  # a remote file system may raise anything
        reason = f"{one.path} can't be read: {error or type(error).__name__}"
        return ExtractionError(Status.NOT_FOUND, reason)


def is_clip(one: Input) -> bool:
    """Whether an input counts as a clip, by its extension; in an archive nothing does."""
    return one.offset < 0 and os.path.splitext(one.path)[1].lower() in CLIP_EXTENSIONS


def without_clips(found: Iterable[Input], why: str) -> Iterator[Input]:
    """Photographs only; at the end a warning counts the clips that were passed over."""
    clips = 0
    for one in found:
        if is_clip(one):
            clips += 1
        else:
            yield one
    if clips:
        warnings.warn(f"passed over {clips} clips, {why}", stacklevel=2)


def metadata(
    weights: Extractor | Checkpoint, options: Options, all_faces: bool, embedding: bool = True
) -> dict[str, object]:
    """What made a table: all that a vector depends on."""
    return {
        "version": version("fever-extract"),
        "weights": weights.config.name,
        "weights_source": weights.source,
        "weights_sha256": weights.sha256,
        "config_sha256": hashlib.sha256(weights.config.to_json().encode()).hexdigest(),
        **metadata_of(weights.config),
        "options": {**options.settings(), "all_faces": all_faces, "embedding": embedding},
    }


def _readable(found: Iterable[Input]) -> list[Input]:
    """The inputs; without PyAV, clips are passed over with a warning.

    Raises:
        ImportError: if there are clips only, and PyAV is missing.
    """
    inputs = list(found)
    if importlib.util.find_spec("av") is not None:
        return inputs
    if inputs and all(map(is_clip, inputs)):
        raise ImportError(f"{inputs[0].name} is a clip, which needs PyAV: {_INSTALL}")
    return list(without_clips(inputs, f"which need PyAV: {_INSTALL}"))


def _records(
    pipeline: Pipeline, inputs: Iterable[Input], options: Options, all_faces: bool
) -> Iterator[tuple[Input, Record]]:
    """A record for each photograph and each frame of a clip, in the order of the inputs."""
    for are_clips, group in itertools.groupby(inputs, is_clip):
        if are_clips:
            from fever_extract.video import frames as video

            for one in group:
                for frame in video.extract(pipeline, one.path, options, all_faces=all_faces):
                    yield one, frame
            continue
        photographs = list(group)
        records = pipeline.stream(map(load, photographs), options, all_faces)
        yield from zip(photographs, records)
