"""`Extractor`: detect, align, embed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fever_extract import hub, images
from fever_extract.config import Config
from fever_extract.images import ImageLike
from fever_extract.options import SMALLEST_FACE, OptionArguments, Options
from fever_extract.records import (
    ExtractionError,
    Face,
    Record,
    Status,
    Summary,
    count_statuses,
    describe,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from typing_extensions import Unpack

    from fever_extract.detection import Detections


class Extractor:
    """Facial-expression vectors from images.

    Args:
        weights: the embedded default if left out; else a local folder, or a Hugging Face
            Hub repository ``org/name`` or ``org/name@revision``.
        revision: branch, tag or commit of a Hub repository.
        device: torch device; by default CUDA where there is one, else the CPU.
        options: any of `fever_extract.Options`, as defaults for every call.

    Raises:
        fever_extract.WeightsError: if the weights can't be found or used.
        ValueError: if an option is out of range or the device does not exist.

    An image is a path, the bytes of an image file, a PIL image, or a ``(h, w, 3)`` uint8
    RGB array. A path's, bytes' or PIL image's EXIF orientation is applied.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        self._options = Options().replace(options)
        checkpoint = hub.load(weights, revision)
        # torch takes seconds to import: pay when an Extractor is made, not before.
        from fever_extract.detection import Detector
        from fever_extract.network import build, pick_device

        self._device = pick_device(device)
        self._network = build(checkpoint.config, checkpoint.state_dict).to(self._device)
        self._detector = Detector(self._device)
        self._config = checkpoint.config
        self._sha256 = checkpoint.sha256
        self._source = checkpoint.source

    @property
    def embedding_dim(self) -> int:
        """Length of a vector."""
        return self.config.embedding_dim

    @property
    def config(self) -> Config:
        """The configuration of the weights in use."""
        return self._config

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self._device

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights' file in hexadecimal: which weights made a vector."""
        return self._sha256

    @property
    def source(self) -> str:
        """Where the weights came from: ``embedded``, a folder, or a Hub repository."""
        return self._source

    def __repr__(self) -> str:
        return (
            f"Extractor({self.config.name!r}, source={self._source!r}, "
            f"embedding_dim={self.embedding_dim}, device={str(self._device)!r})"
        )

    def extract(
        self, inputs: ImageLike | Iterable[ImageLike], **options: Unpack[OptionArguments]
    ) -> npt.NDArray[np.float32]:
        """One vector an image; row *i* is input *i*, always.

        Args:
            inputs: one image, or any number of them.
            options: any of `fever_extract.Options`, for this call.

        Returns:
            ``(n, d)`` float32, or ``(d,)`` for one image. An input without a vector is a
            row of NaN; one warning counts them.

        Raises:
            ExtractionError: for the first input without a vector, if ``on_error="raise"``.
            TypeError, ValueError: if something given can't be an image, or an option is
                out of range.
        """
        chosen = self._options.replace(options)
        single = images.is_single(inputs)
        vectors, failed = [], []
        for index, record in enumerate(self._stream(inputs, chosen)):
            if record.face is not None:
                vectors.append(record.face.vector)
                continue
            if chosen.on_error == "raise":
                where = "" if single else f"image {index}: "
                raise ExtractionError(record.status, f"{where}{record.error}")
            vectors.append(np.full(self.embedding_dim, np.nan, np.float32))
            failed.append(record)
        if failed:
            warnings.warn(
                f"{len(failed)} of {len(vectors)} images have no vector and are rows of NaN "
                f"({describe(count_statuses(failed))}); extract_records gives the reasons",
                stacklevel=2,
            )
        if single:
            return vectors[0]
        return np.stack(vectors) if vectors else np.zeros((0, self.embedding_dim), np.float32)

    def extract_records(
        self,
        inputs: ImageLike | Iterable[ImageLike],
        *,
        all_faces: bool = False,
        **options: Unpack[OptionArguments],
    ) -> list[Record]:
        """What became of each image: its status, why there is no face, or the face.

        Args:
            inputs: one image, or any number of them.
            all_faces: keep every face of an image, in the order of ``select``.
            options: any of `fever_extract.Options`, for this call.

        Returns:
            One record an image, in the order of the input.

        Raises:
            TypeError, ValueError: as in `extract`; never for a damaged or missing file.
        """
        return list(self._stream(inputs, self._options.replace(options), all_faces))

    def extract_faces(self, image: ImageLike, **options: Unpack[OptionArguments]) -> list[Face]:
        """Every face of one image, in the order of ``select``; empty if there is none.

        Args:
            image: one image.
            options: any of `fever_extract.Options`, for this call.

        Raises:
            ExtractionError: if the image can't be read.
            TypeError, ValueError: as in `extract`.
        """
        if not images.is_single(image):
            raise TypeError("extract_faces takes one image; extract_records(all_faces=True), many")
        (record,) = self.extract_records(image, all_faces=True, **options)
        if record.status not in (Status.OK, Status.NO_FACE, Status.TOO_SMALL):
            raise ExtractionError(record.status, str(record.error))
        return list(record.faces)

    def extract_folder(
        self,
        folder: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        all_faces: bool = False,
        **options: Unpack[OptionArguments],
    ) -> Summary:
        """Write a table with a row per image (or per face) of a folder and all below it.

        Args:
            folder: the folder, or one image file.
            output: a ``.parquet``, ``.npz`` or ``.csv`` file; replaced when it is whole.
            all_faces: a row per face rather than per image.
            options: any of `fever_extract.Options`, for this call.

        Raises:
            OSError, ValueError, ImportError: before any work begins, if the folder or the
                output's folder does not exist, there is no image, the output's extension
                is not known, or the package that writes it is missing.
        """
        from fever_extract.folder import run

        return run(self, folder, output, all_faces, self._options.replace(options))

    def _stream(
        self,
        inputs: ImageLike | Iterable[ImageLike],
        options: Options,
        all_faces: bool = False,
    ) -> Iterator[Record]:
        """A record an image, batch by batch, with a progress bar."""
        from tqdm import tqdm

        listed: list[ImageLike] = [inputs] if images.is_single(inputs) else list(inputs)  # type: ignore[arg-type]
        for image in listed:
            images.check(image)
        # To tqdm, disable=None means: only on a terminal.
        shown = options.show_progress
        hidden = (None if len(listed) > 1 else True) if shown is None else not shown
        with tqdm(total=len(listed), unit="image", disable=hidden) as bar:
            for start in range(0, len(listed), options.batch_size):
                batch = listed[start : start + options.batch_size]
                yield from self.process(batch, options, all_faces)
                bar.update(len(batch))

    def process(
        self, batch: Iterable[ImageLike], options: Options, all_faces: bool = False
    ) -> list[Record]:
        """Records of images that are held in memory together."""
        found = [self._find(image, options, all_faces) for image in batch]
        outputs = self._embed([item.crops for item in found if isinstance(item, _Found)], options)
        return [
            Record(
                Status.OK,
                faces=tuple(
                    self._face(item, index, *next(outputs)) for index in range(len(item.crops))
                ),
            )
            if isinstance(item, _Found)
            else Record(item.status, str(item))
            for item in found
        ]

    def _find(
        self, image: ImageLike, options: Options, all_faces: bool
    ) -> _Found | ExtractionError:
        """Read one image and cut its faces out."""
        try:
            pixels = images.read(image)
        except ExtractionError as error:
            return error
        if options.aligned:
            return self._whole(pixels)
        try:
            found = self._detect(pixels, options, all_faces)
        except ExtractionError as error:
            may_fall_back = error.status in (Status.NO_FACE, Status.TOO_SMALL)
            return self._whole(pixels) if options.fallback and may_fall_back else error
        return found

    def _detect(self, pixels: npt.NDArray[np.uint8], options: Options, all_faces: bool) -> _Found:
        from fever_extract import alignment
        from fever_extract.detection import smallest_face

        height, width = pixels.shape[:2]
        smallest = smallest_face(height, width, options.min_face_size)
        if min(height, width) < smallest:
            raise ExtractionError(
                Status.TOO_SMALL,
                f"the picture is {width}x{height} pixels; faces under {smallest:.0f} pixels are "
                "not looked for (min_face_size)",
            )
        try:
            faces = self._detector.detect(pixels, smallest, options.min_confidence)
        except Exception as error:
            # Out of memory, say: one image's trouble, not the run's.
            raise ExtractionError(Status.DETECT_ERROR, f"detection failed: {error}") from error
        if not len(faces):
            raise ExtractionError(
                Status.NO_FACE,
                f"no face of {smallest:.0f} pixels or more found with a confidence of "
                f"{options.min_confidence} or more",
            )
        faces = faces.take(faces.order(options.select, width, height))
        if not all_faces:
            faces = faces.take(np.arange(1))
        crops = alignment.align(pixels, faces.landmarks, self.config.preprocessing)
        return _Found(faces, crops, detected=True)

    def _whole(self, pixels: npt.NDArray[np.uint8]) -> _Found | ExtractionError:
        """The whole picture as a face, where the user said that it is one."""
        from fever_extract import alignment
        from fever_extract.detection import Detections

        height, width = pixels.shape[:2]
        if min(height, width) < SMALLEST_FACE:
            return ExtractionError(
                Status.TOO_SMALL,
                f"the picture is {width}x{height} pixels; a face needs {SMALLEST_FACE}",
            )
        face = Detections(
            boxes=np.array([[0, 0, width, height]], np.float32),
            scores=np.full(1, np.nan, np.float32),
            landmarks=np.full((1, 5, 2), np.nan, np.float32),
        )
        return _Found(face, alignment.whole(pixels, self.config.preprocessing), detected=False)

    def _embed(
        self, crops: list[torch.Tensor], options: Options
    ) -> Iterator[tuple[npt.NDArray[np.float32], dict[str, list[float]]]]:
        """Each crop's vector and head outputs, in order."""
        import torch

        for chunk in torch.split(torch.cat(crops), options.batch_size) if crops else ():
            with torch.inference_mode():
                output = self._network(chunk.to(self._device))
                vectors, heads = output.embedding, dict(output.heads)
                if "expression" in heads:
                    heads["expression"] = heads["expression"].softmax(dim=1)
                if options.normalize:
                    vectors = torch.nn.functional.normalize(vectors)
            rows = {name: values.tolist() for name, values in heads.items()}
            for index, vector in enumerate(vectors.cpu().numpy()):
                yield vector.copy(), {name: values[index] for name, values in rows.items()}

    def _face(
        self,
        found: _Found,
        index: int,
        vector: npt.NDArray[np.float32],
        heads: dict[str, list[float]],
    ) -> Face:
        valence, arousal = heads.get("valence_arousal", (None, None))
        return Face(
            box=found.faces.boxes[index],
            score=float(found.faces.scores[index]),
            landmarks=found.faces.landmarks[index],
            vector=vector,
            expressions=dict(zip(self.config.expressions, heads.get("expression", ()))),
            blendshapes=dict(zip(self.config.blendshapes, heads.get("blendshapes", ()))),
            valence=valence,
            arousal=arousal,
            detected=found.detected,
        )


@dataclass(frozen=True)
class _Found:
    """The faces of one image before they are embedded."""

    faces: Detections
    crops: torch.Tensor
    detected: bool
