"""A checkpoint on disk: ``config.json`` beside ``model.safetensors``, and nothing else.

Only JSON and safetensors are read; docs/format.md describes both files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fever_extract._files import replace_atomically
from fever_extract.models.config import Config, ConfigError, WeightsError

if TYPE_CHECKING:
    import torch

CONFIG = "config.json"
MODEL = "model.safetensors"
CARD = "README.md"
PROCESSOR = "preprocessor_config.json"
BUNDLE = "onnx"
"""The folder beside the weights that holds their bundle, where there is one."""

# One entry only: safetensors writes several in random order, and the bytes are an identity.
_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class Checkpoint:
    """Weights that were read.

    Attributes:
        config: its ``config.json``.
        sha256: of ``model.safetensors``, in hexadecimal: the identity of the vectors.
        source: where it came from, in words.
        data: the bytes of ``model.safetensors``, to be saved and published as they are.
    """

    config: Config
    sha256: str
    source: str
    data: bytes = field(repr=False)

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Its tensors, in the dtypes of the file (float16 in ours)."""
        from safetensors.torch import load as from_bytes

        tensors: dict[str, torch.Tensor] = from_bytes(self.data)
        return tensors


def save(
    folder: str | os.PathLike[str],
    config: Config,
    weights: Mapping[str, torch.Tensor] | bytes,
) -> None:
    """Write weights as a folder that `load` (and the Hub) takes.

    Args:
        folder: made if it does not exist.
        config: of the weights.
        weights: tensors, stored in their dtypes; or the bytes of a safetensors file.

    Raises:
        WeightsError: if a tensor has values that are not finite.
    """
    folder = Path(folder)
    data = weights if isinstance(weights, bytes) else _to_bytes(weights)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((MODEL, data), (CONFIG, config.to_json().encode())):
        with replace_atomically(folder / name) as temporary:
            temporary.write_bytes(content)


def _to_bytes(state_dict: Mapping[str, torch.Tensor]) -> bytes:
    import torch
    from safetensors.torch import save as serialize

    tensors = {name: tensor.cpu().contiguous() for name, tensor in state_dict.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(f"the weights have values that are not finite, in {name!r}")
    data: bytes = serialize(tensors, metadata=_METADATA)
    return data


def read(folder: Path, name: str) -> Checkpoint:
    """Read a folder of weights and check all of it.

    Args:
        folder: where the two files are.
        name: what to call it, in errors and as `Checkpoint.source`.

    Raises:
        WeightsError: if a file is missing, damaged or of another kind.
    """
    for file in (CONFIG, MODEL):
        if not (folder / file).is_file():
            raise WeightsError(
                f"{name} has no {file}: weights are a {CONFIG} beside a {MODEL}; pickled files "
                "(.bin, .pt, .pth) are never read"
            )
    text, data = (_read_whole(folder / file, name) for file in (CONFIG, MODEL))
    return parse(text, data, name)


def parse(text: str | bytes, data: bytes, name: str) -> Checkpoint:
    """Weights from the content of the two files.

    Args:
        text, data: of ``config.json`` and ``model.safetensors``.
        name: what to call it, in errors and as `Checkpoint.source`.

    Raises:
        WeightsError: if one of them is damaged or of another kind.
    """
    from safetensors import SafetensorError, deserialize

    try:
        config = Config.from_json(text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {CONFIG}: {error}") from None
    try:
        # A check that needs no torch, which takes seconds to import.
        deserialize(data)  # type: ignore[no-untyped-call]
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{name}: {MODEL} is not a whole safetensors file: {error}") from None
    return Checkpoint(config, hashlib.sha256(data).hexdigest(), name, data)


def _read_whole(path: Path, name: str) -> bytes:
    """A file's content; in the Hub's cache, only if it is what its name there says.

    The cache calls a file by its SHA-256 (large files) or its git blob id, but the client
    compares no more than sizes. A damaged file is removed, so that the next try loads it anew.
    """
    data = path.read_bytes()
    blob = path.resolve()
    if not path.is_symlink() or blob.parent.name != "blobs":
        return data
    digests = {
        64: lambda: hashlib.sha256(data),
        40: lambda: hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False),
    }
    digest = digests.get(len(blob.name))
    if digest is not None and digest().hexdigest() != blob.name:
        for damaged in (path, blob):
            damaged.unlink(missing_ok=True)
        raise WeightsError(
            f"{name}: {path.name} is damaged (its hash is not the one that the Hub gave); it was "
            "removed from the cache: try again"
        )
    return data
