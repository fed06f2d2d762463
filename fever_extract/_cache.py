"""On-disk cache of records (joblib): no image is extracted twice.

A record is found by all that it depends on, and by no name: the content of the image, the
weights and their config, the options that change an embedding, and the version of this package.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fever_extract import images
from fever_extract._utils import progress
from fever_extract.images import ImageLike
from fever_extract.models.checkpoint import provenance
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Record

if TYPE_CHECKING:
    import joblib

    from fever_extract.extractor import Extractor


def cached_records(
    inputs: Sequence[ImageLike], extractor: Extractor, options: Options, memory: joblib.Memory
) -> Iterator[Record]:
    """Yield a record per image, in order, with embeddings but no expressions or blendshapes.

    Those that ``memory`` does not hold are extracted first, and stored as soon as their batch
    is done, so that a stopped run loses little.
    """
    stored = memory.cache(_record, ignore=["record"])
    made_by = provenance(extractor, options.settings())
    del made_by["weights_source"]  # the same weights may be elsewhere
    seed = json.dumps(made_by, sort_keys=True).encode()
    # Images with the same content share a key; one that can't be read has none.
    keys = [_key(image, seed) or index for index, image in enumerate(inputs)]
    known: dict[str | int, Record] = {}
    missing: dict[str | int, ImageLike] = {}
    for key, image in zip(keys, inputs):
        try:
            known[key] = stored(key, None)
        except KeyError:
            missing[key] = image
    waiting = list(missing.items())
    shown = options.show_progress
    shown = shown if waiting else False
    changes = {**dataclasses.asdict(options), "show_progress": False}
    with progress.bar(show=shown, total=len(waiting), unit="image") as bar:
        for start in range(0, len(waiting), options.batch_size):
            batch = waiting[start : start + options.batch_size]
            records = extractor.extract_records([image for _, image in batch], **changes)
            for (key, _), record in zip(batch, map(_lean, records)):
                known[key] = record
                # Other failures may pass: a decoder is installed, memory is freed.
                if isinstance(key, str) and record.status.was_searched:
                    stored(key, record)
            bar.update(len(batch))
    for key in keys:
        yield known[key]


def _lean(record: Record) -> Record:
    """Drop the heads' outputs, most of a record's size and not used here."""
    faces = (dataclasses.replace(face, expressions={}, blendshapes={}) for face in record.faces)
    return dataclasses.replace(record, faces=tuple(faces))


def _record(key: str | int, record: Record | None) -> Record:
    """Return the record; joblib caches it by ``key`` alone and calls this on a cache miss."""
    if record is None:
        raise KeyError(key)
    return record


def _key(image: ImageLike, seed: bytes) -> str | None:
    """Hash an image's content after ``seed``: SHA-256 in hexadecimal, None if it can't be read."""
    digest = hashlib.sha256(seed)
    if isinstance(image, (Image.Image, np.ndarray)):
        try:
            pixels = images.read(image)
        except ExtractionError:
            return None
        digest.update(f"pixels {pixels.shape}".encode())
        digest.update(pixels.data)
        return digest.hexdigest()
    try:
        content = image if isinstance(image, bytes) else Path(os.fspath(image)).read_bytes()
    except (OSError, ValueError):
        return None
    digest.update(b"file")
    digest.update(content)
    return digest.hexdigest()
