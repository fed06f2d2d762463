"""Photographs to facial-expression vectors on NumPy, Pillow and ONNX Runtime.

    from fever_onnx import Extractor

    extractor = Extractor("BUNDLE")
    X = extractor.extract(["a.jpg", "b.jpg"])  # (2, d) float32; row i is input i
    faces = extractor.extract_faces("group.jpg")  # every face: box, score, landmarks, vector

or, as a program, with a line of JSON for each photograph:

    python fever_onnx.py a.jpg b.jpg
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from PIL import Image

from fever_extract.alignment import SUPERSAMPLE, sampling_matrices, surroundings
from fever_extract.detection.parameters import (
    CELL,
    LEVEL_OVERLAP,
    O_SIZE,
    OVERLAP,
    R_SIZE,
    SCALE_STEP,
    SETTLE,
    SLACK,
    STILL,
    STRIDE,
    THRESHOLD,
    Detections,
    smallest_face,
    whole_picture,
)
from fever_extract.detection.suppression import suppress
from fever_extract.images import ImageLike, check, is_single, read
from fever_extract.options import Options
from fever_extract.records import ExtractionError, Face, Record, Status, stack_embeddings

if TYPE_CHECKING:
    import os

    import numpy.typing as npt

BUNDLE_VERSION = 1
MANIFEST = "bundle.json"
ONNX_RUNTIME = "1.18"
"""The oldest that reads what a bundle holds."""
OPTIONS = "select min_face_size min_confidence aligned fallback normalize on_error".split()
"""What may be chosen of `Options`; the others are the package's."""

_FACES = 16  # that are embedded at a time


class BundleError(ValueError):
    """A bundle that can't be used; the message says what to do next."""


class Extractor:
    """Facial-expression vectors from images.

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
        files = Files(Path(__file__).parent if folder is None else Path(folder))
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
        self._detector = _Detector(
            *(_session(files.read(f"{name}.onnx"), threads) for name in ("pnet", "rnet", "onet"))
        )

    @property
    def embedding_dim(self) -> int:
        """Length of a vector."""
        return int(self.config["embedding_dim"])

    def extract(
        self, inputs: ImageLike | Iterable[ImageLike], **options: Any
    ) -> npt.NDArray[np.float32]:
        """One vector an image; row *i* is input *i*, always.

        Args:
            inputs: one image, or any number of them: paths, files' bytes, PIL images, or
                ``(h, w, 3)`` uint8 RGB arrays.
            options: those of `OPTIONS`, for this call.

        Returns:
            ``(n, d)`` float32, or ``(d,)`` for one image. An input without a vector is a row of
            NaN; one warning counts them.

        Raises:
            ExtractionError: for the first input without a vector, if ``on_error="raise"``.
            TypeError, ValueError: if something given can't be an image, or an option is not known
                or out of range.
        """
        chosen = _chosen(self._options, options)
        records = self._stream(inputs, chosen, False)
        if not is_single(inputs):
            return stack_embeddings(records, self.embedding_dim, chosen.on_error)
        (record,) = records
        if record.face is None and chosen.on_error == "raise":
            raise ExtractionError(record.status, str(record.error))
        row: npt.NDArray[np.float32] = stack_embeddings(
            [record], self.embedding_dim, chosen.on_error
        )[0]
        return row

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
        if record.status not in (Status.OK, Status.NO_FACE, Status.TOO_SMALL):
            raise ExtractionError(record.status, str(record.error))
        return list(record.faces)

    def _stream(
        self, inputs: ImageLike | Iterable[ImageLike], options: Options, all_faces: bool
    ) -> Iterator[Record]:
        listed: list[ImageLike] = [inputs] if is_single(inputs) else list(inputs)  # type: ignore[arg-type]
        for index, image in enumerate(listed):
            try:
                check(image)
            except (TypeError, ValueError) as error:
                raise type(error)(f"image {index}: {error}" if len(listed) > 1 else error) from None
        for image in listed:
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
            raise ExtractionError(
                Status.TOO_SMALL,
                f"the picture is {width}x{height} pixels; faces under {smallest:.0f} pixels are "
                "not looked for (min_face_size)",
            )
        try:
            faces = self._detector.detect(pixels, smallest, options.min_confidence)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ExtractionError(Status.DETECT_ERROR, f"detection failed: {reason}") from error
        if not len(faces):
            if options.fallback:
                return self._whole(pixels)
            raise ExtractionError(
                Status.NO_FACE,
                f"no face of {smallest:.0f} pixels or more found with a confidence of "
                f"{options.min_confidence} or more",
            )
        order = faces.order(options.select, width, height)
        faces = faces.take(order if all_faces else order[:1])
        matrices = sampling_matrices(faces.landmarks, self._preprocessing)
        return faces, np.stack([self._crop(pixels, matrix) for matrix in matrices]), True

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
            crop = self._crop(pixels, np.array([[width / size, 0, 0], [0, height / size, 0]]))
        return face, crop[None], False

    def _crop(
        self, pixels: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float32]:
        """One crop ``(3, s, s)``, by its map to the image's pixels; the edge is repeated."""
        size = self._preprocessing.size
        (left, top, right, bottom), reduced, matrix = surroundings(matrix, size, *pixels.shape[:2])
        region = _resize(pixels[top:bottom, left:right], *reduced)
        count = size * SUPERSAMPLE
        steps = (np.arange(count) + 0.5) / SUPERSAMPLE
        columns, rows = np.meshgrid(steps, steps)
        x, y = (row[0] * columns + row[1] * rows + row[2] - 0.5 for row in matrix)
        left_, right_, across = _neighbours(x, region.shape[1])
        upper, lower, down = _neighbours(y, region.shape[0])
        above = _mix(region[upper, left_], region[upper, right_], across)
        below = _mix(region[lower, left_], region[lower, right_], across)
        samples = (above + down[..., None] * (below - above)).reshape(
            size, SUPERSAMPLE, size, SUPERSAMPLE, 3
        )
        return np.ascontiguousarray(samples.mean(axis=(1, 3)).transpose(2, 0, 1), np.float32)

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
        vectors = heads["embedding"]
        if options.normalize:
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
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
                embedding=vectors[index].copy(),
                expressions=dict(zip(self.config["expressions"], head.get("expression", ()))),
                blendshapes=dict(zip(self.config["blendshapes"], head.get("blendshapes", ()))),
                valence=valence,
                arousal=arousal,
                detected=detected,
            )


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


class _Detector:
    """MTCNN (Zhang et al. 2016, arXiv 1604.02878), one image at a time.

    What is done, and in which order, is as in fever_extract.detection.detector, on NumPy.
    """

    def __init__(
        self,
        pnet: onnxruntime.InferenceSession,
        rnet: onnxruntime.InferenceSession,
        onet: onnxruntime.InferenceSession,
    ) -> None:
        self._pnet, self._rnet, self._onet = pnet, rnet, onet

    def detect(
        self, pixels: npt.NDArray[np.uint8], smallest: float, min_confidence: float
    ) -> Detections:
        """Find all faces of an image ``(h, w, 3)``."""
        pyramid = _Pyramid(pixels)
        boxes = self._propose(pyramid, CELL / smallest)
        boxes = self._refine(pyramid, boxes)
        boxes, scores, landmarks = self._output(pyramid, boxes, min_confidence)
        # The networks also find some faces that are smaller than they were asked for.
        areas = np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=1)
        keep = (scores >= min_confidence) & (areas >= np.float32(smallest**2))
        boxes, landmarks = self._settle(pyramid, boxes[keep], landmarks[keep])
        return Detections(boxes, scores[keep], landmarks)

    def _propose(self, pyramid: _Pyramid, scale: float) -> npt.NDArray[np.float32]:
        """P-Net over all scales: candidate squares ``(k, 4)``."""
        found = [(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)), np.zeros(0))]
        for number, level in enumerate(pyramid.levels(scale)):
            scores, offsets = self._pnet.run(None, {"image": level})
            rows, columns = (scores > THRESHOLD).nonzero()
            height, width = level.shape[:2]
            steps = np.array([pyramid.width / width, pyramid.height / height], np.float32)
            corners = STRIDE * np.stack([columns, rows], axis=1)
            boxes = np.concatenate([(corners + 1) * steps, (corners + CELL) * steps], axis=1)
            where = rows, columns
            found.append((boxes, scores[where], offsets[where], np.full(len(rows), number)))
        boxes, scores, offsets, levels = map(np.concatenate, zip(*found))
        boxes, offsets = boxes.astype(np.float32), offsets.astype(np.float32)
        keep = suppress(boxes, scores, LEVEL_OVERLAP, groups=levels)
        boxes, scores, offsets = boxes[keep], scores[keep], offsets[keep]
        keep = suppress(boxes, scores, OVERLAP)
        return _square(_move(boxes[keep], offsets[keep]))

    def _refine(self, pyramid: _Pyramid, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """R-Net: fewer, better squares."""
        kept, crops = pyramid.crop(boxes, R_SIZE)
        boxes = boxes[kept]
        if not len(boxes):
            return boxes
        scores, offsets = self._rnet.run(None, {"crops": crops})
        likely = scores > THRESHOLD
        boxes, offsets, scores = boxes[likely], offsets[likely], scores[likely]
        keep = suppress(boxes, scores, OVERLAP)
        return _square(_move(boxes[keep], offsets[keep]))

    def _output(
        self, pyramid: _Pyramid, boxes: npt.NDArray[np.float32], min_confidence: float
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """O-Net: boxes ``(k, 4)``, scores ``(k,)`` and landmarks ``(k, 5, 2)``."""
        kept, crops = pyramid.crop(boxes, O_SIZE)
        boxes = boxes[kept]
        if not len(boxes):
            return boxes, np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32)
        boxes, scores, landmarks = self._look(boxes, crops)
        likely = scores > min(THRESHOLD, min_confidence)
        boxes, scores, landmarks = boxes[likely], scores[likely], landmarks[likely]
        keep = suppress(boxes, scores, OVERLAP, over_smaller=True)
        return boxes[keep], scores[keep], landmarks[keep]

    def _look(
        self, boxes: npt.NDArray[np.float32], crops: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """O-Net on crops: moved boxes ``(k, 4)``, scores ``(k,)``, landmarks ``(k, 5, 2)``."""
        scores, offsets, points = self._onet.run(None, {"crops": crops})
        sides = boxes[:, None, 2:] - boxes[:, None, :2] + 1
        return _move(boxes, offsets), scores, boxes[:, None, :2] - 1 + points * sides

    def _settle(
        self,
        pyramid: _Pyramid,
        boxes: npt.NDArray[np.float32],
        landmarks: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Look again where the faces were found: boxes ``(k, 4)``, landmarks ``(k, 5, 2)``."""
        moving = np.arange(len(boxes))
        for _ in range(SETTLE):
            squares = _square(boxes[moving])
            # A face that the border cuts is stretched in its crop, and would wander off.
            inside = pyramid.contains(squares)
            moving, squares = moving[inside], squares[inside]
            kept, crops = pyramid.crop(squares, O_SIZE)
            moving, squares = moving[kept], squares[kept]
            if not len(moving):
                break
            moved, _, points = self._look(squares, crops)
            steps = np.linalg.norm(points - landmarks[moving], axis=2).max(axis=1)
            boxes[moving], landmarks[moving] = moved, points
            moving = moving[steps > STILL * (squares[:, 2] - squares[:, 0])]
        return boxes, landmarks


@dataclass
class _Pyramid:
    """One image, halved again and again, from which levels and crops are resampled.

    Boxes count pixels from 1 and include their last one, as MTCNN's always have.
    """

    pixels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        self.height, self.width = self.pixels.shape[:2]
        self._octaves = [self.pixels]

    def levels(self, scale: float) -> Iterator[npt.NDArray[np.uint8]]:
        """The whole image at ``scale`` and smaller, down to one cell of P-Net: ``(h, w, 3)``."""
        while min(self.height, self.width) * scale >= CELL:
            sides = self.height, self.width
            height, width = (2 * max(CELL // 2, round(side * scale / 2)) for side in sides)
            source = self._octave(max(0, math.floor(-math.log2(scale) + 1e-6)))
            yield _resize(source, height, width)
            scale *= SCALE_STEP

    def contains(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which boxes ``(k, 4)`` lie within the image, or nearly so: ``(k,)``."""
        slack = np.float32(SLACK) * (boxes[:, 2:] - boxes[:, :2])
        limits = np.array([self.width, self.height], np.float32)
        inside = (boxes[:, :2] >= -slack) & (boxes[:, 2:] <= limits + slack)
        within: npt.NDArray[np.bool_] = inside.all(axis=1)
        return within

    def crop(
        self, boxes: npt.NDArray[np.float32], size: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
        """Boxes ``(n, 4)`` resampled to ``(k, size, size, 3)``, and the indices of these k.

        What reaches over the image's border is cut off and the rest is stretched; a box without
        a pixel inside is left out.
        """
        limits = np.array([self.width, self.height] * 2, np.float32)
        edges = np.minimum(np.maximum(boxes - np.array([1, 1, 0, 0], np.float32), 0), limits)
        (kept,) = (edges[:, 2:] > edges[:, :2]).all(axis=1).nonzero()
        edges = edges[kept]
        octaves = np.floor(np.log2((edges[:, 2:] - edges[:, :2]).max(axis=1) / size))
        octaves = np.maximum(octaves, 0).astype(int)
        crops = np.empty((len(kept), size, size, 3), np.float32)
        for octave in np.unique(octaves):
            (some,) = (octaves == octave).nonzero()
            source = self._octave(octave)
            height, width = source.shape[:2]
            scaled = edges[some] * (np.array([width, height] * 2, np.float32) / limits)
            left, right, x = _neighbours(_ticks(scaled[:, 0::2], size), width)
            upper, lower, y = _neighbours(_ticks(scaled[:, 1::2], size), height)
            left, right = left[:, None, :], right[:, None, :]
            x = np.repeat(x[:, None, :], size, axis=1)
            above, below = (
                _mix(source[rows, left], source[rows, right], x)
                for rows in (upper[:, :, None], lower[:, :, None])
            )
            crops[some] = above + y[:, :, None, None] * (below - above)
        return kept, crops

    def _octave(self, index: int) -> npt.NDArray[np.uint8]:
        """The image halved ``index`` times, or as often as it can be."""
        while index >= len(self._octaves):
            last = self._octaves[-1]
            height, width = last.shape[:2]
            if min(height, width) < 2 * CELL:
                return last
            self._octaves.append(_resize(last, -(-height // 2), -(-width // 2)))
        return self._octaves[index]


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


def _resize(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Bilinear, and antialiased where it reduces."""
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _ticks(ends: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float32]:
    """Centres ``(k, count)`` of ``count`` equal parts of each stretch ``(k, 2)``."""
    steps = ((np.arange(count) + 0.5) / count).astype(np.float32)
    places: npt.NDArray[np.float32] = (
        ends[:, :1] + steps * (ends[:, 1:] - ends[:, :1]) - np.float32(0.5)
    )
    return places


def _neighbours(
    places: npt.NDArray[np.floating], limit: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """The pixels before and after each place, and how far it is from the first, 0 to 1.

    Beyond the outermost of ``limit`` pixels the nearest counts.
    """
    places = places.clip(0, limit - 1)
    before = np.floor(places)
    after = np.minimum(before + 1, limit - 1)
    return before.astype(int), after.astype(int), (places - before).astype(np.float32)


def _mix(
    first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], part: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Between two pixels, each with its channels."""
    start = first.astype(np.float32)
    return start + part[..., None] * (second - start)


def _move(
    boxes: npt.NDArray[np.float32], offsets: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Corners moved by a network's answer, which is in sides of the box."""
    return boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2)


def _square(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Boxes with their centre, and their longer side for both."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def main(arguments: Sequence[str]) -> int:
    """A line of JSON for each photograph; 1 if one has no vector, 2 if the bundle is unusable."""
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
            line |= {"probability": face.probability, "embedding": face.vector.tolist()}
        print(json.dumps(line))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
