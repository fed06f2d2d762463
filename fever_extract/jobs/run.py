"""Entry point of every job: check the arguments, choose table or shards, run.

`Extractor.extract_folder` and the command both end here. What an output or an engine can't do
is refused by name before any work begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fever_extract.jobs import machine, sharded, table
from fever_extract.jobs.engine import EngineMaker, local
from fever_extract.jobs.job import Job
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.records import Summary
from fever_extract.tables.writing import is_shard_folder

if TYPE_CHECKING:
    from fever_extract.pipeline import Pipeline


def run(job: Job, checkpoint: Checkpoint, pipeline: Pipeline | None = None) -> Summary:
    """Extract the faces of many images.

    Args:
        job: what, how, and to where.
        checkpoint: the weights.
        pipeline: of the checkpoint, if there is one already; for one table.

    Raises:
        OSError, ValueError, ImportError: see `Extractor.extract_folder`.
    """
    job.check()
    checkpoint.config.check_prior(job.options.prior)
    if is_shard_folder(job.output):
        return sharded.run(job, checkpoint, _engine(job))
    return table.run(job, checkpoint, pipeline)


def _engine(job: Job) -> EngineMaker:
    if not isinstance(job.engine, str):
        return job.engine
    if job.engine == "ray":
        from fever_extract.jobs.ray import on_ray

        gpus = 1 if job.device is not None and job.device.startswith("cuda") else 0
        return on_ray(job.address, concurrency=job.workers, num_gpus=gpus)
    if job.device is not None:
        machine.devices_of(job.device)  # refused before anything is overwritten
    return local(job.workers)
