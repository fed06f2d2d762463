"""Clips among a job's inputs: which they are, and passing them over aloud."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator

from fever_extract.jobs.sources import Input

CLIP_EXTENSIONS = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
"""What counts as a clip in a folder, in any case of letters."""

_INSTALL = "pip install 'fever-extract[video]'"


def is_clip(item: Input) -> bool:
    """Say whether an input counts as a clip, by its extension; in an archive nothing does."""
    return item.offset < 0 and os.path.splitext(item.path)[1].lower() in CLIP_EXTENSIONS


def without_clips(inputs: Iterable[Input], why: str) -> Iterator[Input]:
    """Yield photographs only; at the end a warning counts the clips that were passed over."""
    names = []
    for item in inputs:
        if is_clip(item):
            names.append(item.name)
        else:
            yield item
    if names:
        warnings.warn(f"passed over {len(names)} clips, {why}; first {names[0]}", stacklevel=2)


def readable(found: Iterable[Input]) -> list[Input]:
    """List the inputs; without PyAV, clips are passed over with a warning.

    Raises:
        ImportError: if there are clips only, and PyAV is missing.
    """
    inputs = list(found)
    if importlib.util.find_spec("av") is not None:
        return inputs
    if inputs and all(map(is_clip, inputs)):
        raise ImportError(f"{inputs[0].name} is a clip, which needs PyAV: {_INSTALL}")
    return list(without_clips(inputs, f"which need PyAV: {_INSTALL}"))
