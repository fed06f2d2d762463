"""One table from a folder (or any other sources): list, extract batch by batch, write, sum up."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from fever_extract.inputs import Input, Sources, describe_nothing, find
from fever_extract.names import to_text
from fever_extract.options import Options
from fever_extract.records import Record, Status, Summary
from fever_extract.tables import Columns, check_output, open_table, printable

if TYPE_CHECKING:
    from fever_extract.checkpoint import Checkpoint
    from fever_extract.extractor import Extractor
    from fever_extract.pipeline import Pipeline

_ROWS_AT_ONCE = 2048  # a row group that Parquet readers like, at 2 MB of vectors


def run(
    extractor: Extractor,
    pipeline: Pipeline,
    sources: Sources,
    output: str | os.PathLike[str],
    *,
    all_faces: bool,
    options: Options,
) -> Summary:
    """See `Extractor.extract_folder`; ``pipeline`` is the extractor's."""
    start = time.monotonic()
    output = Path(output)
    check_output(output)
    inputs = list(find(sources))
    if not inputs:
        raise describe_nothing(sources)
    statuses: Counter[Status] = Counter()
    failures: list[tuple[str, Status, str]] = []
    faces = 0
    hidden = None if options.show_progress is None else not options.show_progress
    with (
        open_table(output, metadata(extractor, options, all_faces)) as table,
        tqdm(total=len(inputs), unit="image", disable=hidden) as bar,
    ):
        waiting = []
        for first in range(0, len(inputs), options.batch_size):
            batch = inputs[first : first + options.batch_size]
            for one, record in zip(batch, process(pipeline, batch, options, all_faces)):
                waiting.append((one.name, record))
                statuses[record.status] += 1
                faces += len(record.faces)
                if record.status is not Status.OK:
                    failures.append(
                        (to_text(one.name), record.status, printable(record.error or ""))
                    )
            if len(waiting) >= _ROWS_AT_ONCE:
                table.write(Columns.of(waiting, extractor.embedding_dim))
                waiting.clear()
            bar.update(len(batch))
        if waiting:
            table.write(Columns.of(waiting, extractor.embedding_dim))
    return Summary(
        output=output,
        images=len(inputs),
        faces=faces,
        statuses=dict(statuses),
        failures=tuple(failures),
        seconds=time.monotonic() - start,
    )


def process(
    pipeline: Pipeline, inputs: Sequence[Input], options: Options, all_faces: bool
) -> list[Record]:
    """A record an input, in order; one that can't be read is told of like any other."""
    loaded: list[str | bytes] = []
    failed: dict[int, Record] = {}
    for index, one in enumerate(inputs):
        try:
            loaded.append(one.load())
        except Exception as error:  # a remote file system may raise anything
            reason = f"{one.path} can't be read: {error or type(error).__name__}"
            failed[index] = Record(Status.NOT_FOUND, reason)
    records = iter(pipeline.process(loaded, options, all_faces))
    return [failed[index] if index in failed else next(records) for index in range(len(inputs))]


def metadata(
    weights: Extractor | Checkpoint, options: Options, all_faces: bool
) -> dict[str, object]:
    """What made a table: all that a vector depends on."""
    return {
        "version": version("fever-extract"),
        "weights": weights.config.name,
        "weights_source": weights.source,
        "weights_sha256": weights.sha256,
        "config_sha256": hashlib.sha256(weights.config.to_json().encode()).hexdigest(),
        "embedding_dim": weights.config.embedding_dim,
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
