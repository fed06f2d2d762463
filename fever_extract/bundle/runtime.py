"""Photographs to facial-expression embeddings on NumPy, Pillow and ONNX Runtime.

    from fever_onnx import Extractor

    extractor = Extractor("BUNDLE")
    X = extractor.extract(["a.jpg", "b.jpg"])  # (2, d) float32; row i is input i
    faces = extractor.extract_faces("group.jpg")  # every face: box, score, landmarks, embedding

or, as a program, with a line of JSON for each photograph:

    python fever_onnx.py a.jpg b.jpg
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from fever_extract._utils import hints
from fever_extract.alignment import sampling_matrices
from fever_extract.bundle.detector import Detector
from fever_extract.bundle.files import BundleError, Files
from fever_extract.bundle.sampling import cut_out
from fever_extract.detection.outcomes import failed, no_face, too_small
from fever_extract.detection.parameters import Detections, smallest_face, whole_picture
from fever_extract.images import ImageLike, checked, is_single, read
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Face, Record, Status, stack_embeddings

if TYPE_CHECKING:
    import numpy.typing as npt

ONNX_RUNTIME = "1.18"
"""The oldest that reads what a bundle holds."""
OPTIONS = "select min_face_size min_confidence aligned fallback normalize on_error".split()
"""What may be chosen of `Options`; the others are the package's."""

_FACES = 16  # that are embedded at a time


class Extractor:
    """Facial-expression embeddings from images.

    Args:
        folder: the bundle; by default where this file is.
        precision: of the embedding network's weights: ``float32``, ``float16`` or ``int8``, of
            which the bundle may not have all.
        threads: of ONNX Runtime; by default as many as there are cores.
        options: those of `OPTIONS`, as defaults for every call.

    Raises:
        BundleError: if a file is missing or changed, or the bundle can't be used by this program
            or this ONNX Runtime.
        TypeError, ValueError: if an option is not known or out of range.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        *,
        precision: str = "float32",
        threads: int | None = None,
        **options: Any,
    ) -> None:
        self._options = _chosen(Options(), options)
        folder = Path(__file__).parent if folder is None else Path(folder)
        self._arguments = folder.absolute(), {"precision": precision, "threads": threads, **options}
        files = Files(folder)
        embedders = files.manifest["embedders"]
        if precision not in embedders:
            raise BundleError(
                f"this bundle has no weights in {precision}, but in {', '.join(embedders)}; "
                f"export it again with --precision {precision}"
            )
        self.config: dict[str, Any] = json.loads(files.read("config.json"))
        crop = self.config["preprocessing"]
        self._preprocessing: Any = SimpleNamespace(size=crop["size"], template=crop["template"])
        self._embedder = _session(files.read(embedders[precision]), threads)
        self._detector = Detector(
            *(_session(files.read(f"{name}.onnx"), threads) for name in ("pnet", "rnet", "onet"))
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the folder: a session of ONNX Runtime can't be sent to another process."""
        folder, arguments = self._arguments
        return functools.partial(type(self), **arguments), (folder,)

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding."""
        return int(self.config["embedding_dim"])

    def extract(
        self, inputs: ImageLike | Iterable[ImageLike], **options: Any
    ) -> npt.NDArray[np.float32]:
        """One embedding per image; row *i* is input *i*, always.

        Args:
            inputs: one image, or any number of them: paths, files' bytes, PIL images, or
                ``(h, w, 3)`` uint8 RGB arrays.
            options: those of `OPTIONS`, for this call.

        Returns:
            ``(n, d)`` float32, or ``(d,)`` for one image. An input without an embedding is a row of
            NaN; one warning counts them.

        Raises:
            ExtractionError: for the first input without an embedding, if ``on_error="raise"``.
            TypeError, ValueError: if something given can't be an image, or an option is not known
                or out of range.
        """
        chosen = _chosen(self._options, options)
        records = self._stream(inputs, chosen, False)
        single = is_single(inputs)
        return stack_embeddings(records, self.embedding_dim, chosen.on_error, single=single)

    def extract_records(
        self, inputs: ImageLike | Iterable[ImageLike], *, all_faces: bool = False, **options: Any
    ) -> list[Record]:
        """What became of each image: its status, why there is no face, or the face.

        Args:
            inputs: as in `extract`.
            all_faces: keep every face of an image, in the order of ``select``.
            options: those of `OPTIONS`, for this call.
        """
        chosen = _chosen(self._options, options)
        return list(self._stream(inputs, chosen, all_faces))

    def extract_faces(self, image: ImageLike, **options: Any) -> list[Face]:
        """Every face of one image, in the order of ``select``; empty if there is none.

        Raises:
            ExtractionError: if the image can't be read.
        """
        if not is_single(image):
            raise TypeError("extract_faces takes one image; extract_records(all_faces=True), many")
        (record,) = self.extract_records([image], all_faces=True, **options)
        if not record.status.was_searched:
            raise ExtractionError(record.status, str(record.error))
        return list(record.faces)

    def _stream(
        self, inputs: ImageLike | Iterable[ImageLike], options: Options, all_faces: bool
    ) -> Iterator[Record]:
        hints.check_collection(inputs)
        given: Iterable[ImageLike] = [inputs] if is_single(inputs) else inputs  # type: ignore[assignment]
        for image in checked(given):
            try:
                found, crops, detected = self._find(image, options, all_faces)
            except ExtractionError as error:
                yield Record(error.status, str(error))
                continue
            yield Record(Status.OK, faces=tuple(self._embed(found, crops, detected, options)))

    def _find(
        self, image: ImageLike, options: Options, all_faces: bool
    ) -> tuple[Detections, npt.NDArray[np.float32], bool]:
        """The faces of an image, their crops ``(k, 3, s, s)``, and whether they were detected."""
        pixels = read(image)
        if options.aligned:
            return self._whole(pixels)
        height, width = pixels.shape[:2]
        smallest = options.min_face_size or smallest_face(height, width)
        if min(height, width) < smallest:
            if options.fallback:
                return self._whole(pixels)
            raise too_small(height, width, smallest)
        try:
            faces = self._detector.detect(pixels, smallest, options.min_confidence)
        except Exception as error:
            raise failed(error) from error
        if not len(faces):
            if options.fallback:
                return self._whole(pixels)
            raise no_face(smallest, options.min_confidence)
        order = faces.order(options.select, width, height)
        faces = faces.take(order if all_faces else order[:1])
        size = self._preprocessing.size
        matrices = sampling_matrices(faces.landmarks, self._preprocessing)
        return faces, np.stack([cut_out(pixels, matrix, size) for matrix in matrices]), True

    def _whole(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[Detections, npt.NDArray[np.float32], bool]:
        """The whole picture as a face, where the user said that it is one."""
        height, width = pixels.shape[:2]
        face = whole_picture(height, width)
        size = self._preprocessing.size
        if (height, width) == (size, size):
            crop = pixels.transpose(2, 0, 1).astype(np.float32)
        else:
            crop = cut_out(pixels, np.array([[width / size, 0, 0], [0, height / size, 0]]), size)
        return face, crop[None], False

    def _embed(
        self,
        found: Detections,
        crops: npt.NDArray[np.float32],
        detected: bool,
        options: Options,
    ) -> Iterator[Face]:
        names = [output.name for output in self._embedder.get_outputs()]
        parts = [
            self._embedder.run(None, {"crops": crops[start : start + _FACES]})
            for start in range(0, len(crops), _FACES)
        ]
        heads = dict(zip(names, map(np.concatenate, zip(*parts))))
        embeddings = heads["embedding"]
        if options.normalize:
            embeddings = embeddings / np.maximum(
                np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12
            )
        if "expression" in heads:
            logits = heads["expression"]
            odds = np.exp(logits - logits.max(axis=1, keepdims=True))
            heads["expression"] = odds / odds.sum(axis=1, keepdims=True)
        rows = {name: values.tolist() for name, values in heads.items()}
        for index in range(len(found)):
            head = {name: values[index] for name, values in rows.items()}
            valence, arousal = head.get("valence_arousal", (None, None))
            yield Face(
                box=found.boxes[index],
                score=float(found.scores[index]),
                landmarks=found.landmarks[index],
                embedding=embeddings[index].copy(),
                expressions=dict(zip(self.config["expressions"], head.get("expression", ()))),
                blendshapes=dict(zip(self.config["blendshapes"], head.get("blendshapes", ()))),
                valence=valence,
                arousal=arousal,
                detected=detected,
            )


def _chosen(options: Options, changes: dict[str, Any]) -> Options:
    unknown = sorted(set(changes) - set(OPTIONS))
    if unknown:
        raise TypeError(f"no option {', '.join(unknown)}; there are {', '.join(OPTIONS)}")
    return options.replace(changes)  # type: ignore[arg-type]


def _session(model: bytes, threads: int | None) -> onnxruntime.InferenceSession:
    version = onnxruntime.__version__
    have, needed = (tuple(map(int, text.split(".")[:2])) for text in (version, ONNX_RUNTIME))
    if have < needed:
        raise BundleError(
            f"ONNX Runtime {version} is too old, {ONNX_RUNTIME} is needed: "
            f"pip install -U 'onnxruntime>={ONNX_RUNTIME}'"
        )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    if threads:
        settings.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def main(arguments: Sequence[str]) -> int:
    """Print a line of JSON per photograph; 1 if one has no embedding, 2 for an unusable bundle."""
    try:
        extractor = Extractor()
    except BundleError as error:
        print(f"fever_onnx: {error}", file=sys.stderr)
        return 2
    failed = 0
    for path in arguments:
        (record,) = extractor.extract_records([path])
        line: dict[str, Any] = {"path": path, "status": str(record.status), "error": record.error}
        if record.face is None:
            failed = 1
        else:
            face = record.face
            line |= {"box": face.box.tolist(), "score": face.score, "expression": face.expression}
            line |= {"probability": face.probability, "embedding": face.embedding.tolist()}
        try:
            print(json.dumps(line), flush=True)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at exit
            if isinstance(error, BrokenPipeError):  # its reader has what it wants
                return failed
            print(f"fever_onnx: standard output can't be written to: {error}", file=sys.stderr)
            return 2
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
