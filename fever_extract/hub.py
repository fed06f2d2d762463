"""Finding, reading and writing weights: ``config.json`` beside ``model.safetensors``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from fever_extract.config import Config, ConfigError, WeightsError
from fever_extract.files import replace_atomically

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
MODEL = "model.safetensors"
EMBEDDED = "embedded"
"""What the weights inside the package are called where a source is shown."""

# One entry only: safetensors writes several in random order, and the bytes are an identity.
_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class Checkpoint:
    """Weights that were read.

    Attributes:
        config: its ``config.json``.
        state_dict: its tensors, float32, as `fever_extract.network.FeverNet` takes them.
        sha256: of ``model.safetensors``, in hexadecimal: the identity of the vectors.
        source: where it came from, in words.
    """

    config: Config
    state_dict: dict[str, torch.Tensor]
    sha256: str
    source: str


def load(source: str | os.PathLike[str] | None = None, revision: str | None = None) -> Checkpoint:
    """Find and read weights.

    Looked for in this order: nothing given, the embedded default; a folder that exists;
    a Hugging Face Hub repository ``org/name`` or ``org/name@revision``.

    Args:
        source: see above.
        revision: branch, tag or commit of a Hub repository.

    Raises:
        WeightsError: if nothing is found there, or what is there can't be used.
    """
    with _locate(source, revision) as (folder, name):
        return _read(folder, name)


def save(
    folder: str | os.PathLike[str], config: Config, state_dict: Mapping[str, torch.Tensor]
) -> None:
    """Write weights as a folder that `load` (and the Hub) takes; tensors become float16.

    Batch-norm statistics and everything else that is floating point are halved in
    size so; `load` brings them back to float32.
    """
    import torch
    from safetensors.torch import save as to_bytes

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in state_dict.items()
    }
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise WeightsError("the weights have values that are not finite in float16")
    for name, data in (
        (CONFIG, config.to_json().encode()),
        (MODEL, to_bytes(tensors, metadata=_METADATA)),
    ):
        with replace_atomically(folder / name) as temporary:
            temporary.write_bytes(data)


@contextmanager
def _locate(
    source: str | os.PathLike[str] | None, revision: str | None
) -> Iterator[tuple[Path, str]]:
    """The folder with the two files, and what to call it."""
    if source is None:
        if revision is not None:
            raise WeightsError("revision= names a version on the Hub; give org/name with it")
        with resources.as_file(resources.files("fever_extract.weights")) as folder:
            yield folder, EMBEDDED
        return
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise WeightsError(
                f"{folder} is a local folder, which has no revisions; leave revision= out"
            )
        yield folder, str(folder)
        return
    yield _download(str(source), revision), str(source)


def _download(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    repo_id, _, tagged = name.partition("@")
    if tagged and revision and tagged != revision:
        raise WeightsError(f"{name!r} and revision={revision!r} name two revisions; give one")
    tried = f"{name!r} is no folder here"
    if repo_id.count("/") != 1 or repo_id.startswith((".", "/", "~")):
        raise WeightsError(f"{tried}, and no Hub repository, which is called org/name")
    try:
        return Path(
            snapshot_download(
                repo_id, revision=revision or tagged or None, allow_patterns=[CONFIG, MODEL]
            )
        )
    except HFValidationError as error:
        raise WeightsError(f"{tried}, and no valid name on the Hub: {error}") from None
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(f"{tried}, and could not be had from the Hub: {reason}") from error


def _read(folder: Path, name: str) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    for file in (CONFIG, MODEL):
        if not (folder / file).is_file():
            raise WeightsError(f"{name} has no {file}; weights are a {CONFIG} beside a {MODEL}")
    try:
        config = Config.from_json((folder / CONFIG).read_bytes())
    except ConfigError as error:
        raise ConfigError(f"{name}: {CONFIG}: {error}") from None
    data = (folder / MODEL).read_bytes()
    try:
        tensors = from_bytes(data)
    except (SafetensorError, json.JSONDecodeError) as error:
        raise WeightsError(f"{name}: {MODEL} is not a whole safetensors file: {error}") from None
    state_dict = {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in tensors.items()
    }
    return Checkpoint(config, state_dict, hashlib.sha256(data).hexdigest(), name)
