"""`Job`: the description of one extraction job: its inputs, its settings and its output."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fever_extract._pillow import PillowSettings
from fever_extract.jobs import _child, crops
from fever_extract.jobs.engine import EngineMaker
from fever_extract.jobs.sources import (
    NoImagesError,
    PassedOver,
    Sources,
    as_list,
    check,
    describe_nothing,
)
from fever_extract.jobs.worker import Work
from fever_extract.options import Options
from fever_extract.records import Status
from fever_extract.tables.parquet import check_parquet
from fever_extract.tables.schema import describe
from fever_extract.tables.writing import check_output, is_shard_folder
from fever_extract.video.stretch import check_sampling

if TYPE_CHECKING:
    from fever_extract.models.checkpoint import Checkpoint

FAILED = (Status.DECODE_ERROR, Status.NOT_FOUND, Status.DETECT_ERROR, Status.CRASHED)
"""What may end otherwise at another time; whether there is a face does not."""

EngineLike = Literal["local", "ray"] | EngineMaker
"""An engine by its name, or with settings: `fever_extract.jobs.ray.on_ray`, for one."""


@dataclass(frozen=True)
class Job:
    """A job, but for the weights.

    Attributes:
        sources: see `fever_extract.jobs.sources.find`.
        output: a ``.parquet``, ``.npz`` or ``.csv`` file; or a folder, for shards.
        options: for all images.
        all_faces: a row per face rather than per image.
        embedding: with the embeddings.
        device: torch device; None for CUDA where there is one, else the CPU.
        engine: fills shards: processes of this machine (``"local"``), Ray (``"ray"``), or one
            with settings.
        address: of a Ray cluster, as in `fever_extract.jobs.ray.on_ray`.
        workers: processes that extract photographs; by default one per core, or per GPU. For one
            table only if there are many photographs; 1 extracts it in this process.
        overwrite: start a folder of shards afresh instead of resuming; a single table is always
            replaced.
        save_crops: a folder for the aligned faces; for one table.
        fps: of clips, the frames nearest to this many times a second; None for every frame.
        start, end: of clips, from ``start`` to before ``end``, in seconds.
        detect_every: of clips, detect faces in every so many frames, and follow them between.
        no_clips, only_clips: take photographs only, or clips only.
        retry_failed: of a folder of shards, do again what has one of the statuses `FAILED`.
    """

    sources: Sources
    output: str | os.PathLike[str]
    options: Options = field(default_factory=Options)
    all_faces: bool = False
    embedding: bool = True
    device: str | None = None
    engine: EngineLike = "local"
    address: str | None = None
    workers: int | None = None
    overwrite: bool = False
    save_crops: str | os.PathLike[str] | None = None
    fps: float | None = None
    start: float | None = None
    end: float | None = None
    detect_every: int = 1
    no_clips: bool = False
    only_clips: bool = False
    retry_failed: bool = False

    def check(self) -> None:
        """Refuse what can't be done, without weights and at once.

        Raises:
            OSError, ValueError, ImportError: saying what to do instead.
        """
        if isinstance(self.engine, str) and self.engine not in ("local", "ray"):
            raise ValueError(f"engine must be 'local', 'ray' or an engine, not {self.engine!r}")
        if self.address is not None and self.engine != "ray":
            raise ValueError("address is a Ray cluster's: it needs the engine 'ray'")
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, not {self.workers}")
        if self.workers is not None and not isinstance(self.engine, str):
            raise ValueError(
                "workers is for an engine by name; give this one its number where it is made"
            )
        check_sampling(
            self.fps,
            self.start,
            self.end,
            detect_every=self.detect_every,
            options=self.options,
        )
        if self.no_clips and (self.only_clips or self._sampling()):
            raise ValueError(
                "only_clips, fps, start, end and detect_every are for clips: leave out no_clips"
            )
        if self.retry_failed and self.overwrite:
            raise ValueError("overwrite does everything again: leave out retry_failed")
        first = Path(self.output).parts[:1]
        if first and re.fullmatch(r"\w[\w+]+:", first[0]):  # a path has one slash for two
            raise ValueError(
                f"output {self.output}: {first[0]}// addresses can't be written to; give a folder "
                "or file of this machine, and copy it"
            )
        if is_shard_folder(self.output):
            self._check_shards()
        else:
            self._check_table(f"output {self.output} is one file", "give a folder, for shards")
        for source in as_list(self.sources):
            check(source)

    def _check_shards(self) -> None:
        if os.name == "nt":
            raise OSError("a folder as output needs Linux or macOS; give a .parquet file")
        check_parquet(otherwise="or give a .npz or .csv file as output")
        if self.save_crops is not None:
            raise ValueError(
                "save_crops is for one table: give a .parquet, .npz or .csv file as output, "
                f"not the folder {os.fspath(self.output)}"
            )

    def _check_table(self, found: str, instead: str) -> None:
        check_output(Path(self.output))
        if self.engine != "local":
            raise ValueError(f"engine is for shards, and {found}; {instead}")
        if self.retry_failed:
            raise ValueError(
                f"retry_failed is for shards, and {found}, which is always made anew; {instead}"
            )
        if self.workers not in (None, 1) and not _child.can_start():
            raise OSError(f"workers={self.workers} needs Linux or macOS; leave it out")
        if self.save_crops is not None:
            crops.check_folder(self.save_crops, as_list(self.sources))

    def describe_nothing(self, passed_over: PassedOver) -> NoImagesError:
        """Make the error for sources that hold nothing to do."""
        what = "clips" if self.only_clips else "images"
        return describe_nothing(self.sources, passed_over, what)

    def work(self, checkpoint: Checkpoint, records: bool = False) -> Work:
        """Describe what a worker has to do; ``records`` as in `Work`."""
        return Work(
            checkpoint.config.to_json(),
            checkpoint.data,
            checkpoint.source,
            self.options,
            self.all_faces,
            PillowSettings.of_this_process(),
            self.device,
            embedding=self.embedding,
            fps=self.fps,
            start=self.start,
            detect_every=self.detect_every,
            records=records,
        )

    def made_by(self, checkpoint: Checkpoint) -> dict[str, object]:
        """Describe all that the rows depend on, as it is written beside them."""
        made_by = describe(
            checkpoint, self.options, all_faces=self.all_faces, embedding=self.embedding
        )
        return {**made_by, "options": {**made_by["options"], **self._sampling()}}

    def _sampling(self) -> dict[str, float]:
        """Return what was chosen of clips, by name."""
        every = self.detect_every if self.detect_every > 1 else None
        chosen = {"fps": self.fps, "start": self.start, "end": self.end, "detect_every": every}
        return {name: value for name, value in chosen.items() if value is not None}
