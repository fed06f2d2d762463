"""Read and write checkpoints: ``config.json`` beside ``model.safetensors``.

Only JSON and safetensors are read; docs/format.md describes both files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fever_extract._utils.files import replace_atomically
from fever_extract.models.config import Config, ConfigError, WeightsError

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

CONFIG = "config.json"
MODEL = "model.safetensors"
CARD = "README.md"
PROCESSOR = "preprocessor_config.json"
BUNDLE = "onnx"
"""The folder beside the weights that holds their bundle, where there is one."""

_DTYPES = {"F16": np.float16, "BF16": np.uint16, "F32": np.float32, "I64": np.int64}
_INFINITE_BF16 = 0x7F80  # its exponent's bits: all are set in what is not finite
# Of tens of thousands of tensors; the library itself would parse 100 MB of JSON.
_LARGEST_HEADER = 4 << 20

# One entry only: safetensors writes several in random order, and the bytes are an identity.
_METADATA = {"format": "pt"}


@dataclass(frozen=True)
class Checkpoint:
    """Weights and their config, as read from disk.

    Attributes:
        config: its ``config.json``.
        sha256: of ``model.safetensors``, in hexadecimal: the identity of the embeddings.
        source: where it came from, in words.
        data: the bytes of ``model.safetensors``, to be saved and published as they are.
    """

    config: Config
    sha256: str
    source: str
    data: bytes = field(repr=False)

    @property
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Tensors in the dtypes of the file (float16 in ours)."""
        from safetensors.torch import load as from_bytes

        tensors: dict[str, torch.Tensor] = from_bytes(self.data)
        return tensors


class Weights(Protocol):
    """Anything that identifies weights: a `Checkpoint` or an `Extractor`."""

    @property
    def config(self) -> Config: ...
    @property
    def sha256(self) -> str: ...
    @property
    def source(self) -> str: ...


def provenance(weights: Weights, settings: Mapping[str, object]) -> dict[str, object]:
    """Describe what embeddings depend on: version of this package, weights, settings.

    Args:
        weights: in use.
        settings: as `fever_extract.Options.settings` gives them, and what else there is.

    Returns:
        What JSON takes. All but ``weights_source`` decides about the embeddings.
    """
    return {
        "version": version("fever-extract"),
        "weights": weights.config.name,
        "weights_source": weights.source,
        "weights_sha256": weights.sha256,
        "config_sha256": weights.config.sha256,
        "embedding_dim": weights.config.embedding_dim,
        "expressions": list(weights.config.expressions),
        "options": dict(settings),
    }


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
        WeightsError: if it is not a safetensors file, or a tensor can't be used; see `parse`.
    """
    folder = Path(folder)
    data = weights if isinstance(weights, bytes) else _to_bytes(weights)
    _check_tensors(data, str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((MODEL, data), (CONFIG, config.to_json().encode())):
        with replace_atomically(folder / name) as temporary:
            temporary.write_bytes(content)


def _to_bytes(state_dict: Mapping[str, torch.Tensor]) -> bytes:
    from safetensors.torch import save as serialize

    tensors = {name: tensor.cpu().contiguous() for name, tensor in state_dict.items()}
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
    """Make a checkpoint from the content of its two files.

    Args:
        text, data: of ``config.json`` and ``model.safetensors``.
        name: what to call it, in errors and as `Checkpoint.source`.

    Raises:
        WeightsError: if one of them is damaged or of another kind, or a tensor is of another
            dtype than float16, bfloat16, float32 (or int64, for counts), or has values that are
            not finite, or variances below 0; names the first.
    """
    try:
        config = Config.from_json(text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {CONFIG}: {error}") from None
    _check_tensors(data, f"{name}: {MODEL}")
    return Checkpoint(config, hashlib.sha256(data).hexdigest(), name, data)


def _check_tensors(data: bytes, where: str) -> None:
    """Refuse what can't be used, without torch, which takes seconds to import; see `parse`."""
    from safetensors import SafetensorError, deserialize

    length = int.from_bytes(data[:8], "little")
    if length > len(data):
        raise WeightsError(f"{where} is not a whole safetensors file: its header is cut off")
    if length > _LARGEST_HEADER:
        raise WeightsError(
            f"{where} has a header of {length:,} bytes; that of a network has at most "
            f"{_LARGEST_HEADER:,}"
        )
    try:
        # The library knows more dtypes, and names none that it does not know.
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__" and entry["dtype"] not in _DTYPES:
                raise WeightsError(
                    f"{where}: tensor {name!r} is of dtype {entry['dtype']}; save it as float32 or "
                    "float16"
                )
        tensors = deserialize(data)  # type: ignore[no-untyped-call]
    except WeightsError:
        raise
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise WeightsError(f"{where} is not a whole safetensors file: {e}") from None
    for name, entry in tensors:
        values = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        if fault := _fault(name, entry["dtype"], values):
            raise WeightsError(f"{where}: tensor {name!r} has {fault}; the weights can't be used")


def _fault(name: str, dtype: str, values: npt.NDArray[Any]) -> str | None:
    """Say what is wrong with a tensor's values, if anything."""
    if dtype == "BF16":
        finite, negative = (values & _INFINITE_BF16) != _INFINITE_BF16, values > 0x8000
    else:
        finite, negative = np.isfinite(values), values < 0
    if not finite.all():
        return "values that are not finite"
    if name.endswith("running_var") and negative.any():
        return "variances below 0"
    return None


def _read_whole(path: Path, name: str) -> bytes:
    """Read a file; in the Hub's cache, check it against the hash in its name.

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
