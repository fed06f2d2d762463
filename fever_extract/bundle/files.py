"""A bundle's files, each checked before it is used; a part of fever_onnx.py."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

BUNDLE_VERSION = 1
MANIFEST = "bundle.json"


class BundleError(ValueError):
    """A bundle that can't be used; the message says what to do next."""


class Files:
    """The files of a bundle, each checked before it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            text = (folder / MANIFEST).read_bytes()
        except OSError:
            raise BundleError(
                f"{folder} is no bundle: it has no {MANIFEST}. fever-extract export --bundle "
                "writes one"
            ) from None
        try:
            self.manifest: dict[str, Any] = json.loads(text)
            version = self.manifest["bundle_version"]
            self._sums = {name: about["sha256"] for name, about in self.manifest["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise BundleError(f"{folder / MANIFEST} is damaged: export the bundle again") from None
        if version != BUNDLE_VERSION:
            raise BundleError(
                f"{folder} is a bundle of version {version}, and this program reads version "
                f"{BUNDLE_VERSION}: use the fever_onnx.py in that folder"
            )

    @property
    def names(self) -> list[str]:
        """All of them but the manifest."""
        return list(self._sums)

    def read(self, name: str) -> bytes:
        """A file's content, if it is what the manifest says."""
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise BundleError(
                f"{self.folder / name} can't be read ({reason}): export the bundle again"
            ) from None
        if hashlib.sha256(data).hexdigest() != self._sums.get(name):
            raise BundleError(
                f"{self.folder / name} is not the file that the bundle was made with (its SHA-256 "
                "differs): copy or export the bundle again"
            )
        return data
