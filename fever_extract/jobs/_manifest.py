"""Job manifest and lock file."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fever_extract._utils.files import exclusive, remove_dead, replace_atomically
from fever_extract.tables.shards import JOB_FOLDER, is_shard, shards_in

PREVIOUS = "previous"
"""The folder in a job's own for shards that are out of place."""

_NAME = "manifest.json"
_LOCK = "fever-extract.lock"  # also the mark of a folder that is ours
_IRRELEVANT = ("weights_source",)  # the same weights may lie elsewhere now


def prepare(output: Path, made_by: Mapping[str, object], *, overwrite: bool) -> Path:
    """Check that a job may use a folder, and clear it if it is to be overwritten.

    Args:
        output: the folder.
        made_by: all that rows depend on, as `fever_extract.tables.schema.describe` gives it.
        overwrite: begin anew: what a job of this package wrote there is removed, and nothing else.

    Returns:
        The folder inside it for what is not part of the table.

    Raises:
        ValueError: if there are shards of other weights or settings, naming which, or files that
            are of no job.
    """
    check(output, made_by, overwrite=overwrite)
    job = output / JOB_FOLDER
    if overwrite:
        # The manifest goes last: until then the shards are known to be ours.
        for shard in shards_in(output):
            shard.unlink()
        for name in ("inputs.arrow", "log.jsonl", "workers.log"):
            (job / name).unlink(missing_ok=True)
        clear_previous(job)
        (job / _NAME).unlink(missing_ok=True)
    for folder in (output, job):
        remove_dead(folder)
    return job


def check(output: Path, made_by: Mapping[str, object], *, overwrite: bool) -> None:
    """Refuse a folder that a job may not use; nothing is changed.

    Raises:
        ValueError: as `prepare`.
    """
    job = output / JOB_FOLDER
    if os.path.lexists(job) and not _is_ours(job):
        raise ValueError(
            f"output {output} holds {JOB_FOLDER}, which is of no job of this package; give another "
            "folder"
        )
    try:
        manifest = _read(job / _NAME)
    except ValueError:
        if not overwrite:
            raise
        manifest = {}
    strangers = sorted(output.glob("*.parquet")) if manifest is None else []
    if overwrite and not strangers:
        strangers = [shard for shard in shards_in(output) if not is_shard(shard)]
    if strangers:
        raise ValueError(
            f"output {output} holds {strangers[0].name}, which is of no job of this package; give "
            "another folder"
        )
    if manifest and not overwrite:
        differing = _differences(manifest.get("made_by", {}), made_by)
        if differing:
            raise ValueError(
                f"output {output} was made otherwise: {'; '.join(differing)}. Give another folder, "
                "the same settings, or --overwrite (overwrite=True) to begin anew"
            )


def clear_previous(job: Path) -> None:
    """Remove the shards that were set aside, and their folder if nothing else is in it."""
    previous = job / PREVIOUS
    for old in previous.glob("*.old"):
        old.unlink()
    with suppress(OSError):
        previous.rmdir()


def write(job: Path, made_by: Mapping[str, object], **fields: object) -> None:
    """Write the manifest: what the shards were made of."""
    content = {"format": 1, "made_by": made_by, **fields}
    with replace_atomically(job / _NAME, inside=True) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make a job's folder and lock it against other runs until the process ends.

    See `check` first: the folder inside is made this job's own.

    Raises:
        OSError: if another run has it, or there is no place for it.
        ValueError: if it is a file.
    """
    if not output.parent.is_dir():
        raise FileNotFoundError(f"output {output}: the folder {output.parent} does not exist")
    if output.exists() and not output.is_dir():
        raise ValueError(f"output {output} is a file; give a folder")
    (output / JOB_FOLDER).mkdir(parents=True, exist_ok=True)
    with exclusive(output, output / JOB_FOLDER / _LOCK):
        yield


def _is_ours(job: Path) -> bool:
    """Recognise a job's own folder: by its lock or manifest, or because it is empty."""
    try:
        mark = (job / _LOCK).lstat()
    except OSError:
        pass
    else:
        return stat.S_ISREG(mark.st_mode)
    with suppress(OSError, ValueError):
        manifest = _read(job / _NAME)
        return (manifest is None and not os.listdir(job)) or _is_manifest(manifest)
    return False


def _is_manifest(manifest: Any) -> bool:
    made_by = manifest.get("made_by") if isinstance(manifest, dict) else None
    return isinstance(made_by, dict) and "weights_sha256" in made_by


def _read(path: Path) -> dict[str, Any] | None:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it or use --overwrite") from None
    return manifest


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    differences = []
    for key in sorted({*old, *new} - set(_IRRELEVANT)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            differences += _differences(before, after)
        elif before != after:
            differences.append(f"{key} was {before}, is {after}")
    return differences
