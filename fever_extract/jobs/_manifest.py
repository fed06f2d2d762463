"""What ties the shards of a job together, and who may work on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fever_extract._files import replace_atomically
from fever_extract.tables.shards import JOB_FOLDER, shards_in

_NAME = "manifest.json"
_IRRELEVANT = ("weights_source",)  # the same weights may lie elsewhere now


def prepare(output: Path, made_by: Mapping[str, object], *, overwrite: bool) -> Path:
    """See whether a job may go on in a folder.

    Args:
        output: the folder.
        made_by: all that a vector depends on, as `fever_extract.jobs.table.metadata` gives it.
        overwrite: begin anew, whatever was there.

    Returns:
        The folder inside it for what is not part of the table.

    Raises:
        ValueError: if there are shards of other weights or settings, naming which.
    """
    job = output / JOB_FOLDER
    if overwrite:
        # The manifest goes last: until then the shards are known to be ours.
        for shard in shards_in(output) if (job / _NAME).exists() else ():
            shard.unlink()
        shutil.rmtree(job, ignore_errors=True)
    manifest = _read(job / _NAME)
    strangers = sorted(output.glob("*.parquet"))
    if manifest is None and strangers:
        raise ValueError(
            f"output {output} holds {strangers[0].name}, which is of no job of this package; give "
            "another folder"
        )
    if manifest is not None:
        differing = _differences(manifest.get("made_by", {}), made_by)
        if differing:
            raise ValueError(
                f"output {output} was made otherwise: {'; '.join(differing)}. Give another folder, "
                "the same settings, or --overwrite (overwrite=True) to begin anew"
            )
    job.mkdir(parents=True, exist_ok=True)
    for torn in output.glob(".*.tmp"):
        torn.unlink()
    return job


def write(job: Path, made_by: Mapping[str, object], **fields: object) -> None:
    """Say what the shards are of."""
    content = {"format": 1, "made_by": made_by, **fields}
    with replace_atomically(job / _NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make the folder of a job and keep other runs out; the lock goes with the process.

    Raises:
        OSError: if another run has it, or there is no place for it.
        ValueError: if it is a file.
    """
    import fcntl

    if not output.parent.is_dir():
        raise FileNotFoundError(f"output {output}: the folder {output.parent} does not exist")
    if output.exists() and not output.is_dir():
        raise ValueError(f"output {output} is a file; give a folder")
    output.mkdir(exist_ok=True)
    with open(output / ".lock", "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"another run is at work on {output}; wait for it or stop it") from None
        yield


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it or use --overwrite") from None
    return found


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    found = []
    for key in sorted({*old, *new} - set(_IRRELEVANT)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after)
        elif before != after:
            found.append(f"{key} was {before}, is {after}")
    return found
