"""Clips among a job's inputs: recognise them, or pass them over with a warning."""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator

from fever_extract._utils.extras import install
from fever_extract.jobs.sources import Input

CLIP_EXTENSIONS = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)
"""What counts as a clip in a folder, in any case of letters."""


def is_clip(item: Input) -> bool:
    """Tell whether an input is a clip, by its extension; members of archives never are."""
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


def readable(items: Iterable[Input]) -> list[Input]:
    """List the inputs; without PyAV, clips are passed over with a warning.

    Raises:
        ImportError: if there are clips only, and PyAV is missing.
    """
    inputs = list(items)
    if importlib.util.find_spec("av") is not None:
        return inputs
    if inputs and all(map(is_clip, inputs)):
        raise ImportError(f"{inputs[0].name} is a clip, which needs PyAV: {install('video')}")
    return list(without_clips(inputs, f"which need PyAV: {install('video')}"))
