"""Write a bundle: all that a photograph needs to become an embedding, without torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fever_extract._utils.names import printable
from fever_extract.alignment import SUPERSAMPLE
from fever_extract.bundle import conformance
from fever_extract.bundle.files import BUNDLE_VERSION, MANIFEST
from fever_extract.bundle.inlining import inline
from fever_extract.bundle.precision import PRECISIONS, reduced
from fever_extract.bundle.runtime import ONNX_RUNTIME
from fever_extract.detection import onnx as detection
from fever_extract.detection import parameters
from fever_extract.models import onnx as models
from fever_extract.models.checkpoint import CONFIG, Checkpoint

PYTHON = "fever_onnx.py"
JAVASCRIPT = ("fever.js", "fever.source.js", "fever.d.ts")
"""What pages load; what it is made of, to be read; and its types."""

_TEXTS = ("README.md", "LICENSES.md")


def write(
    checkpoint: Checkpoint,
    folder: str | os.PathLike[str],
    precisions: Sequence[str] = PRECISIONS,
) -> dict[str, int]:
    """Write a bundle, all of it or nothing.

    Args:
        checkpoint: the weights, from `fever_extract.hub.load`.
        folder: made by this; may exist if it is empty.
        precisions: of the embedding network's weights, those of
            `fever_extract.bundle.precision.PRECISIONS` that the bundle shall have.

    Returns:
        The files' names and their sizes in bytes.

    Raises:
        ImportError: if the extra ``onnx`` is not installed.
        ValueError: if the network can't be exported, or a precision is not known.
        OSError: if the folder is not empty, or can't be written to.
    """
    models.check_packages()
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown or not precisions:
        raise ValueError(f"precisions are {', '.join(PRECISIONS)}, not {', '.join(unknown)}")
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is no empty folder; name a new one")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder}: the folder {folder.parent} does not exist")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".bundle-") as temporary:
        inside = Path(temporary) / folder.name
        inside.mkdir()
        sizes = _fill(inside, checkpoint, precisions)
        if folder.exists():
            folder.rmdir()
        shutil.move(inside, folder)
    return sizes


def programs() -> dict[str, str]:
    """The texts of a bundle's programs, as this version of the package writes them, by name."""
    folder = resources.files("fever_extract.bundle")
    texts = {name: (folder / name).read_text(encoding="utf-8") for name in JAVASCRIPT}
    return {PYTHON: inline("fever_extract.bundle.runtime"), **texts}


def _fill(folder: Path, checkpoint: Checkpoint, precisions: Sequence[str]) -> dict[str, int]:
    (folder / CONFIG).write_text(checkpoint.config.to_json(), encoding="utf-8")
    for name in detection.NETWORKS:
        (folder / f"{name}.onnx").write_bytes(detection.to_onnx(name).SerializeToString())
    model, _ = models.to_onnx(checkpoint)
    embedders = {}
    for precision in precisions:
        suffix = "" if precision == "float32" else f"_{precision}"
        embedders[precision] = f"embedder{suffix}.onnx"
        data = reduced(model, precision).SerializeToString()
        (folder / embedders[precision]).write_bytes(data)
    for name, text in programs().items():
        (folder / name).write_text(text, encoding="utf-8")
    for name in _TEXTS:
        text = (resources.files("fever_extract.bundle") / f"bundle_{name}").read_text("utf-8")
        for field, value in _facts(checkpoint).items():
            text = text.replace(f"{{{field}}}", value)
        (folder / name).write_text(text, encoding="utf-8")
    conformance.write(folder / conformance.FOLDER, checkpoint)
    files = _describe(folder)
    manifest = {
        "bundle_version": BUNDLE_VERSION,
        "name": checkpoint.config.name,
        "made_by": f"fever-extract {version('fever-extract')}",
        "weights_sha256": checkpoint.sha256,
        "onnxruntime": ONNX_RUNTIME,
        "embedders": embedders,
        # For programs in other languages than Python: what the package does by number.
        "detector": _numbers(),
        "files": files,
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return {name: about["bytes"] for name, about in files.items()}


def _facts(checkpoint: Checkpoint) -> dict[str, str]:
    config = checkpoint.config
    return {
        "name": printable(config.name),
        "dim": str(config.embedding_dim),
        "license": printable(config.license),
        "description": str(config.metadata.get("description", "Not recorded.")).strip(),
        "version": version("fever-extract"),
        "onnxruntime": ONNX_RUNTIME,
    }


def _numbers() -> dict[str, float]:
    numbers = {
        name.lower(): value
        for name, value in vars(parameters).items()
        if name.isupper() and isinstance(value, int | float)
    }
    return {**numbers, "supersample": SUPERSAMPLE}


def _describe(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
        }
        for path in paths
    }
