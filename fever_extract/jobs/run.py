"""The one door to a job: from any sources to a table, or to a folder of shards.

`Extractor.extract_folder` and the command both end here. What an output or an engine can't do
is refused by name before any work begins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fever_extract.jobs import crops, machine, sharded, table
from fever_extract.jobs.engine import EngineMaker, local
from fever_extract.jobs.sources import Sources, as_list, check
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.options import Options
from fever_extract.records import Summary
from fever_extract.tables.parquet import check_parquet
from fever_extract.tables.writing import check_output, is_shard_folder

if TYPE_CHECKING:
    from fever_extract.pipeline import Pipeline

EngineLike = Literal["local", "ray"] | EngineMaker
"""An engine by its name, or with settings: `fever_extract.jobs.ray.on_ray`, for one."""


def run(
    sources: Sources,
    output: str | os.PathLike[str],
    *,
    checkpoint: Checkpoint,
    options: Options,
    all_faces: bool = False,
    embedding: bool = True,
    device: str | None = None,
    engine: EngineLike = "local",
    address: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    save_crops: str | os.PathLike[str] | None = None,
    pipeline: Pipeline | None = None,
) -> Summary:
    """Extract the faces of many images.

    Args:
        sources: see `fever_extract.jobs.sources.find`.
        output: a ``.parquet``, ``.npz`` or ``.csv`` file; or a folder, for shards.
        checkpoint: the weights.
        options: for all images.
        all_faces: a row per face rather than per image.
        embedding: with the vectors.
        device: torch device; None for CUDA where there is one, else the CPU.
        engine: fills shards: processes of this machine (``"local"``), Ray (``"ray"``), or one
            with settings.
        address: of a Ray cluster, as in `fever_extract.jobs.ray.on_ray`.
        workers: processes that fill shards; by default one per core, or per GPU. One table is
            written by one.
        overwrite: begin a folder of shards anew rather than go on; one table always is.
        save_crops: a folder for the aligned faces; for one table.
        pipeline: of the checkpoint, if there is one already; for one table.

    Raises:
        OSError, ValueError, ImportError: see `Extractor.extract_folder`.
    """
    refuse(
        sources,
        output,
        engine=engine,
        address=address,
        workers=workers,
        save_crops=save_crops,
    )
    checkpoint.config.check_prior(options.prior)
    if not is_shard_folder(output):
        return table.run(
            sources,
            output,
            checkpoint=checkpoint,
            options=options,
            all_faces=all_faces,
            embedding=embedding,
            device=device,
            pipeline=pipeline,
            save_crops=save_crops,
        )
    return sharded.run(
        sources,
        output,
        checkpoint=checkpoint,
        options=options,
        all_faces=all_faces,
        embedding=embedding,
        device=device,
        overwrite=overwrite,
        engine=_engine(engine, address, workers, device),
    )


def refuse(
    sources: Sources,
    output: str | os.PathLike[str],
    *,
    engine: EngineLike = "local",
    address: str | None = None,
    workers: int | None = None,
    save_crops: str | os.PathLike[str] | None = None,
) -> None:
    """Refuse what `run` can't do, without weights and at once.

    Raises:
        OSError, ValueError, ImportError: saying what to do instead.
    """
    if isinstance(engine, str) and engine not in ("local", "ray"):
        raise ValueError(f"engine must be 'local', 'ray' or an engine, not {engine!r}")
    if address is not None and engine != "ray":
        raise ValueError("address is a Ray cluster's: it needs the engine 'ray'")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, not {workers}")
    if workers is not None and not isinstance(engine, str):
        raise ValueError(
            "workers is for an engine by name; give this one its number where it is made"
        )
    if is_shard_folder(output):
        if os.name == "nt":
            raise OSError("a folder as output needs Linux or macOS; give a .parquet file")
        check_parquet("or give a .npz or .csv file as output")
        if save_crops is not None:
            raise ValueError(
                "save_crops is for one table: give a .parquet, .npz or .csv file as output, "
                f"not the folder {os.fspath(output)}"
            )
    else:
        check_output(Path(output))
        folder = "give a folder as output, for shards"
        if engine != "local":
            raise ValueError(f"engine is for shards, and output {output} is one file; {folder}")
        if workers not in (None, 1):
            raise ValueError(
                f"workers={workers} is for shards, and output {output} is one file, which one "
                f"process writes; {folder}"
            )
        if save_crops is not None:
            crops.check_folder(save_crops, as_list(sources))
    for source in as_list(sources):
        check(source)


def _engine(
    engine: EngineLike, address: str | None, workers: int | None, device: str | None
) -> EngineMaker:
    if not isinstance(engine, str):
        return engine
    if engine == "ray":
        from fever_extract.jobs.ray import on_ray

        gpus = 1 if device is not None and device.startswith("cuda") else 0
        return on_ray(address, concurrency=workers, num_gpus=gpus)
    if device is not None:
        machine.devices_of(device)  # refused before anything is overwritten
    return local(workers)
