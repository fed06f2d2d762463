"""Deprecated name of `fever_extract.jobs.ray`, kept for one more release."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from fever_extract import hub
from fever_extract.jobs.engine import EngineMaker
from fever_extract.jobs.job import Job
from fever_extract.jobs.ray import on_ray
from fever_extract.jobs.run import run
from fever_extract.jobs.sources import Sources
from fever_extract.options import OptionArguments, Options
from fever_extract.records import Summary

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["extract_folder", "on_ray"]

warnings.warn(
    "fever_extract.distributed is now fever_extract.jobs.ray, and its extract_folder is "
    "Extractor.extract_folder(..., engine=on_ray(...)); the old names will be removed in the next "
    "release",
    DeprecationWarning,
    stacklevel=2,
)


def extract_folder(
    sources: Sources,
    output: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    all_faces: bool = False,
    overwrite: bool = False,
    engine: EngineMaker | None = None,
    **options: Unpack[OptionArguments],
) -> Summary:
    """See `Extractor.extract_folder`, which takes an engine."""
    job = Job(
        sources,
        output,
        Options(**options),
        all_faces=all_faces,
        overwrite=overwrite,
        engine=engine or "ray",
    )
    return run(job, hub.load(weights, hub.HubOptions(revision=revision)))
