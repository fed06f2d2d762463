"""Extract a clip to its course, and write it with what was found drawn on it, in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fever_extract._utils import progress
from fever_extract.options import Options
from fever_extract.records import Frame
from fever_extract.video import frames
from fever_extract.video.course import Course
from fever_extract.video.decoding import ClipLike
from fever_extract.video.drawing import Annotator
from fever_extract.video.writing import ClipWriter

if TYPE_CHECKING:
    from fever_extract.pipeline import Pipeline


def course(
    pipeline: Pipeline,
    clip: ClipLike,
    options: Options,
    *,
    step: float,
    annotate: str | os.PathLike[str] | None,
    keep_frames: bool,
    about: Mapping[str, Any],
    fps: float | None,
    start: float | None,
    end: float | None,
    detect_every: int,
) -> Course:
    """See `Extractor.extract_course`."""
    name = os.fspath(clip) if isinstance(clip, (str, os.PathLike)) else ""
    pairs = frames.with_pixels(
        pipeline,
        clip,
        options,
        all_faces=True,
        fps=fps,
        start=start,
        end=end,
        detect_every=detect_every,
    )
    writing = nullcontext() if annotate is None else ClipWriter(annotate, clip)
    shown = progress.bar(show=options.show_progress, total=None, unit="frame")
    with writing as writer, shown as bar:

        def drawn() -> Iterator[Frame]:
            annotator = Annotator()
            for pixels, frame in pairs:
                if writer is not None and pixels is not None:
                    picture = annotator.draw(pixels, frame.faces, frame.time)
                    writer.write(picture, frame.time)
                bar.update()
                yield frame

        return Course.of_frames(
            drawn(),
            step=step,
            clip=name if "://" in name else Path(name).name,
            keep_frames=keep_frames,
            about=about,
        )
