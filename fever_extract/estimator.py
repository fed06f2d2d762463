"""`FeverTransformer`: images to embeddings as a step of a scikit-learn pipeline."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fever_extract._utils.extras import install

try:
    import joblib
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_memory
except ImportError as error:
    raise ImportError(f"FeverTransformer needs scikit-learn: {install('sklearn')}") from error

from fever_extract import images
from fever_extract._cache import cached_records
from fever_extract._utils import hints
from fever_extract.extractor import Extractor
from fever_extract.images import ImageLike
from fever_extract.models.config import WeightsError
from fever_extract.options import Options
from fever_extract.records import stack_embeddings

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch


class FeverTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embed images in a scikit-learn pipeline: one row per image.

    ``make_pipeline(FeverTransformer(), StandardScaler(), LogisticRegression())`` is a
    classifier of photographs. Nothing is learned from X: `fit` only finds the weights.

    Args:
        weights, revision, device: as in `fever_extract.Extractor`.
        batch_size, select, detect_size, min_face_size, min_confidence, aligned, fallback,
            any_orientation, normalize, dtype, on_error, show_progress: as in
            `fever_extract.Options`. With ``on_error="nan"`` an image without a face is a row
            of NaN, which most classifiers refuse.
        memory: None, or a folder or `joblib.Memory` that keeps what was extracted: by
            content, weights and options, an image at a time, so that a grid search extracts
            each image once, and again only if it changes.

    X is a list, an array or a data frame's column of images; an image is a path, the bytes
    of an image file, a PIL image or an ``(h, w, 3)`` uint8 RGB array. A data frame of one
    column and an ``(n, h, w, 3)`` uint8 array will do too.

    A pickle holds the parameters and no weights: they are found again, where ``weights``
    says, when the copy is used.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        select: str = "largest",
        detect_size: int | None = None,
        min_face_size: float | None = None,
        min_confidence: float = 0.9,
        aligned: bool = False,
        fallback: str | None = None,
        any_orientation: bool = False,
        normalize: bool = False,
        dtype: str = "float32",
        on_error: str = "nan",
        show_progress: bool | None = None,
        memory: str | os.PathLike[str] | joblib.Memory | None = None,
    ) -> None:
        self.weights = weights
        self.revision = revision
        self.device = device
        self.batch_size = batch_size
        self.select = select
        self.detect_size = detect_size
        self.min_face_size = min_face_size
        self.min_confidence = min_confidence
        self.aligned = aligned
        self.fallback = fallback
        self.any_orientation = any_orientation
        self.normalize = normalize
        self.dtype = dtype
        self.on_error = on_error
        self.show_progress = show_progress
        self.memory = memory

    def fit(self, X: Iterable[ImageLike], y: object = None) -> FeverTransformer:
        """Check the parameters and the type of X, and load the weights.

        Args:
            X: images; none of them is opened.
            y: not used.

        Raises:
            fever_extract.WeightsError: if the weights can't be found or used.
            TypeError, ValueError: if X can't be images, or a parameter is out of range.
        """
        self._options()
        _as_list(X)
        self._fitted = None
        self._load()
        return self

    def transform(self, X: Iterable[ImageLike]) -> npt.NDArray[np.float32]:
        """Embed images; row *i* is image *i*.

        Args:
            X: images.

        Returns:
            ``(n, d)`` float32, or what `set_output` asked for. An image without an embedding is
            a row of NaN; one warning counts them.

        Raises:
            fever_extract.ExtractionError: for the first image without an embedding, if
                ``on_error="raise"``.
            fever_extract.WeightsError, TypeError, ValueError: as in `fit`.
        """
        options, listed, extractor = self._options(), _as_list(X), self._load()
        if self.memory is None:
            return extractor.extract(listed, **dataclasses.asdict(options))
        memory = self.memory
        if isinstance(memory, os.PathLike):
            memory = os.fspath(memory)
        records = cached_records(listed, extractor, options, check_memory(memory))
        # Between here and the user are `stack_embeddings`, this and set_output's wrapper.
        return stack_embeddings(records, extractor.embedding_dim, self.on_error, stacklevel=4)

    def get_feature_names_out(self, input_features: object = None) -> npt.NDArray[np.object_]:
        """Name the columns ``embedding_0`` and so on, as in a csv table.

        Args:
            input_features: not used; X has no features with names.
        """
        names = [f"embedding_{index}" for index in range(self._load().embedding_dim)]
        return np.array(names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        """Return True: there is nothing to learn."""
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = dict(super().__getstate__())
        loaded = state.pop("_loaded", None)
        if loaded is not None:
            (weights, revision, _), extractor = loaded
            state["_fitted"] = (weights, revision, _identity(extractor))
        return state

    def _options(self) -> Options:
        # Not `prior`: embeddings don't depend on it.
        names = (field.name for field in dataclasses.fields(Options) if field.name != "prior")
        return Options(**{name: getattr(self, name) for name in names})

    def _load(self) -> Extractor:
        """Make the extractor, once per weights and device."""
        source = (self.weights, self.revision, self.device)
        if getattr(self, "_loaded", (None, None))[0] != source:
            extractor = Extractor(self.weights, revision=self.revision, device=self.device)
            fitted = getattr(self, "_fitted", None)
            now = (self.weights, self.revision, _identity(extractor))
            if fitted is not None and fitted[:2] == now[:2] and fitted != now:
                raise WeightsError(
                    f"the weights {extractor.source!r} are no longer those with which this was "
                    "fitted and pickled: fit it again, or use the weights of that time (another "
                    "version of fever-extract, or revision=)"
                )
            self._loaded = (source, extractor)
        return self._loaded[1]


def _identity(extractor: Extractor) -> str:
    """Hash the weights and their config: SHA-256, in hexadecimal."""
    return f"{extractor.sha256} {extractor.config.sha256}"


def _as_list(X: Any) -> list[ImageLike]:
    """Convert X to a list of images.

    Raises:
        TypeError, ValueError: with what to pass instead.
    """
    expected = "X must be a list, an array or a data frame's column of images"
    if isinstance(X, (str, bytes, os.PathLike, Image.Image)):
        raise TypeError(f"{expected}; for one image pass it in a list")
    if isinstance(X, Iterator):
        raise TypeError(f"{expected}, and not an iterator, which is empty once read: list(X)")
    if hasattr(X, "columns") and not hasattr(X, "column_names"):  # pyarrow's are not names
        if len(X.columns) != 1:
            raise ValueError(
                f"{expected}; the data frame has the columns {', '.join(map(str, X.columns))}: "
                "pass the one that holds the images"
            )
        X = X[X.columns[0]]
    elif not isinstance(X, np.ndarray):
        hints.check_collection(X)
    if isinstance(X, np.ndarray):
        is_column = X.dtype.kind in "OUT" and X.ndim in (1, 2) and X.size == len(X)
        if not is_column and X.ndim != 4:
            raise ValueError(f"{expected}; got an array of shape {X.shape}, dtype {X.dtype}")
        X = X.reshape(-1) if is_column else X
    return list(images.checked(X))
