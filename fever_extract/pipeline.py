"""Images to records: decode, detect, align, embed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from fever_extract import alignment, images
from fever_extract._utils.device_thread import DeviceThread
from fever_extract._utils.threads import map_batches, prepare_for_forks
from fever_extract.detection import outcomes, turning
from fever_extract.detection.batched import BatchDetector
from fever_extract.detection.detector import Detector
from fever_extract.detection.following import is_lost
from fever_extract.detection.given import Given
from fever_extract.detection.parameters import Detections, smallest_face, whole_picture
from fever_extract.images import ImageLike
from fever_extract.models.checkpoint import Checkpoint
from fever_extract.models.embedder import Embedded, Embedder
from fever_extract.models.network import pick_device
from fever_extract.options import Options
from fever_extract.quality.crop import share_outside
from fever_extract.records import ExtractionError, Face, Record, Status

if TYPE_CHECKING:
    import numpy.typing as npt


Input = ImageLike | Given | ExtractionError
"""An image, an image with known faces, or the error in place of one."""

_AT_ONCE = 16  # images a thread takes at a time on the CPU: enough faces for a good batch
_PIXELS = 8_000_000  # of images that are searched together on the CPU: more won't be faster
_PIXELS_ON_GPU = 16_000_000  # the same there: about 1 GB of its memory


@dataclass(frozen=True)
class _Picture:
    """One decoded image, ``reduction`` times smaller than ``image`` per side.

    Faces are detected in it unless they were ``given``.
    """

    image: ImageLike
    pixels: npt.NDArray[np.uint8]
    reduction: int = 1
    smallest: float = 0
    given: Given | None = None


@dataclass(frozen=True)
class _Chosen:
    """The k faces of one image before they are cropped from ``pixels``."""

    faces: Detections
    pixels: npt.NDArray[np.uint8]
    reduction: int
    error: str | None


@dataclass(frozen=True)
class _Cropped:
    """The k faces of one image before they are embedded.

    ``crops`` is ``(k, 3, s, s)``, ``outside`` the share of each beyond the picture, ``(k,)``.
    """

    faces: Detections
    crops: torch.Tensor
    outside: npt.NDArray[np.float32]
    detected: bool
    error: str | None = None


class Pipeline:
    """Detector and embedding network, ready for images.

    Args:
        checkpoint: the weights of the embedding network.
        device: torch device; by default CUDA where there is one, else the CPU.
        batched: detect and crop in few calls for all images of a batch; by default on a GPU, the
            only place where that is faster.

    Raises:
        WeightsError: if the weights don't fit their config.
        ValueError: if the device can't be used.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str | torch.device | None,
        *,
        batched: bool | None = None,
    ) -> None:
        prepare_for_forks()
        self.device = pick_device(device)
        self.config = checkpoint.config
        self._batched = self.device.type == "cuda" if batched is None else batched
        self._device_thread = DeviceThread(own=self._batched)
        self.embedder = Embedder(
            checkpoint, self.device, self._device_thread, batched=self._batched
        )
        # Overlaps are computed in doubles, which devices other than CUDA's lack.
        plain = Detector("cpu")
        self._detector = BatchDetector(self.device) if self._batched else plain
        self._follower = plain  # a few small crops a frame: not worth a GPU's time to be asked

    def stream(
        self,
        inputs: Iterable[Input],
        options: Options,
        all_faces: bool = False,
    ) -> Iterator[Record]:
        """Yield a record per image, in order, using several threads.

        Each thread takes some images all the way from decoding to embeddings: the networks are too
        small to gain from more threads each, and decoders use one.

        Args:
            inputs, options, all_faces: as in `process`.
        """
        size = alone = options.batch_size
        if self.device.type == "cpu":
            size, alone = min(size, _AT_ONCE), 1
        return map_batches(
            lambda batch: self.process(batch, options, all_faces), inputs, size, alone
        )

    def process(
        self,
        batch: Iterable[Input],
        options: Options,
        all_faces: bool = False,
    ) -> list[Record]:
        """Process one batch: a record per image, in order. All its crops are in memory at once.

        Args:
            batch: images. What is wrong with one goes into its record; an error in place of an
                image becomes its record.
            options: how to process them.
            all_faces: keep every face of an image instead of the first.
        """
        return self._records(list(self._find(batch, options, all_faces)), options)

    def follow(
        self,
        sequences: Sequence[Sequence[npt.NDArray[np.uint8]]],
        options: Options,
        before: Sequence[Record] = (),
    ) -> list[Record]:
        """Process consecutive frames: detect faces in the first, and follow them from there.

        Faces are detected too in a frame into which one can't be followed, or before which there
        was none: see `fever_extract.detection.following`. So nothing that is lost is made up, but
        a face that comes to others is not seen before it is detected.

        Args:
            sequences: each of frames ``(h, w, 3)`` uint8 RGB of one size.
            options: how to process them; not ``aligned`` or ``any_orientation``.
            before: of the frame before each sequence, so that the first too is followed into.

        Returns:
            A record per frame with all its faces, sequence by sequence.
        """
        known = list(map(_known, before)) or [None] * len(sequences)
        items: list[list[_Cropped | Record]] = [[] for _ in sequences]
        for step in range(max(map(len, sequences), default=0)):
            # All sequences together: their faces are a batch.
            running = [n for n, frames in enumerate(sequences) if step < len(frames)]
            opened = [self._open_or_fail(sequences[n][step], options) for n in running]
            found = self._trace(opened, [known[n] for n in running], options)
            cropped = self._crop(opened, found, options, all_faces=True)
            for n, item in zip(running, cropped):
                items[n].append(item)
            for n, faces in zip(running, found):
                known[n] = faces if isinstance(faces, Detections) and len(faces) else None
        return self._records(list(chain.from_iterable(items)), options)

    def _records(self, items: list[_Cropped | Record], options: Options) -> list[Record]:
        """Embed all crops, and make them records."""
        crops = [item.crops for item in items if isinstance(item, _Cropped)]
        outputs = self.embedder.embed(crops, options)
        return [
            Record(Status.OK, item.error, tuple(self._faces(item, outputs)))
            if isinstance(item, _Cropped)
            else item
            for item in items
        ]

    def _find(
        self,
        batch: Iterable[Input],
        options: Options,
        all_faces: bool,
    ) -> Iterator[_Cropped | Record]:
        """Decode images and crop their faces, as many together as memory and caches allow."""
        limit = _PIXELS if self.device.type == "cpu" else _PIXELS_ON_GPU
        opened: list[_Picture | _Cropped | Record] = []
        pixels = 0
        for image in batch:
            item = self._open_or_fail(image, options)
            opened.append(item)
            pixels += item.pixels.size // 3 if isinstance(item, _Picture) else 0
            if pixels >= limit:
                yield from self._search(opened, options, all_faces)
                opened, pixels = [], 0
        yield from self._search(opened, options, all_faces)

    def _open_or_fail(self, image: Input, options: Options) -> _Picture | _Cropped | Record:
        try:
            return self._open(image, options)
        except ExtractionError as error:
            return _failed(error)

    def _open(self, image: Input, options: Options) -> _Picture | _Cropped:
        """Read one image."""
        if isinstance(image, ExtractionError):
            raise image
        if isinstance(image, Given):
            return _Picture(image.image, images.read(image.image), given=image)
        if options.aligned:
            return self._whole(images.read(image))
        pixels, reduction = images.read_reduced(image, options.detect_size)
        height, width = (side * reduction for side in pixels.shape[:2])
        smallest = options.min_face_size or smallest_face(height, width, options.detect_size)
        if min(height, width) >= smallest:
            return _Picture(image, pixels, reduction, smallest)
        if options.fallback:
            return self._whole(images.read(image) if reduction > 1 else pixels)
        raise outcomes.too_small(height, width, smallest)

    def _search(
        self,
        opened: list[_Picture | _Cropped | Record],
        options: Options,
        all_faces: bool,
    ) -> list[_Cropped | Record]:
        """Detect and crop the faces of decoded images; pass the other items on."""
        pictures = [item for item in opened if isinstance(item, _Picture)]
        answers = iter(self._detect(pictures, options))
        found = [next(answers) if isinstance(item, _Picture) else None for item in opened]
        return self._crop(opened, found, options, all_faces)

    def _crop(
        self,
        opened: Sequence[_Picture | _Cropped | Record],
        found: Sequence[Detections | Record | None],
        options: Options,
        all_faces: bool,
    ) -> list[_Cropped | Record]:
        """Crop the faces that were found in pictures; pass the other items on."""
        items = [
            self._choose(item, faces, options, all_faces)
            if isinstance(item, _Picture) and faces is not None
            else item
            for item, faces in zip(opened, found)
        ]
        chosen = [item for item in items if isinstance(item, _Chosen)]
        crops = iter(self._device_thread.run(lambda: self._cut_out(chosen)))
        return [
            next(crops) if isinstance(item, _Chosen) else item
            for item in items
            if not isinstance(item, _Picture)
        ]

    def _trace(
        self,
        opened: Sequence[_Picture | _Cropped | Record],
        known: Sequence[Detections | None],
        options: Options,
    ) -> list[Detections | Record | None]:
        """Follow known faces into pictures, or detect them; None for what is no picture."""
        found: list[Detections | Record | None] = [None] * len(opened)
        pictures = {n: item for n, item in enumerate(opened) if isinstance(item, _Picture)}
        before = {n: faces for n in pictures if (faces := known[n]) is not None}
        pixels = [pictures[n].pixels for n in before]
        followed = self._follower.follow(pixels, [*before.values()]) if before else []
        for (n, faces), now in zip(before.items(), followed):
            smallest = pictures[n].smallest / pictures[n].reduction
            if not is_lost(faces, now, smallest, options.min_confidence):
                found[n] = now
        lost = [n for n in pictures if found[n] is None]
        for n, answer in zip(lost, self._detect([pictures[n] for n in lost], options)):
            found[n] = answer
        return found

    def _detect(self, pictures: list[_Picture], options: Options) -> list[Detections | Record]:
        """Detect all faces of each image, in the pixels it was decoded to."""
        if not pictures:
            return []
        try:
            known = [one for one in pictures if one.given is not None]
            given = iter(self._device_thread.run(lambda: self._look_at(known)))
            new = [one for one in pictures if one.given is None]
            found = iter(self._device_thread.run(lambda: self._look_for(new, options)))
            return [next(found if one.given is None else given) for one in pictures]
        except Exception as error:
            # Out of memory, for example: the fault of one image, which must not cost the others.
            if len(pictures) > 1:
                return [self._detect([item], options)[0] for item in pictures]
            return [_failed(outcomes.failed(error))]

    def _look_for(self, pictures: list[_Picture], options: Options) -> list[Detections]:
        """Detect the faces of each picture, rotated too if asked for."""
        if not pictures:
            return []
        looks = turning.TURNS if options.any_orientation else 1
        found = self._detector.detect(
            [look for one in pictures for look in turning.turned(one.pixels, looks)],
            [one.smallest / one.reduction for one in pictures for _ in range(looks)],
            options.min_confidence,
        )
        if looks == 1:
            return found
        return [
            turning.merge(found[looks * index :][:looks], *one.pixels.shape[:2])
            for index, one in enumerate(pictures)
        ]

    def _look_at(self, pictures: list[_Picture]) -> list[Detections]:
        """Locate the given faces of each picture that lie inside it."""
        faces = []
        for one in pictures:
            assert one.given is not None
            problems = one.given.check(*one.pixels.shape[:2])
            faces.append(one.given.take([i for i, problem in enumerate(problems) if not problem]))
        unknown = {
            index: some.boxes
            for index, some in enumerate(faces)
            if some.landmarks is None and some.boxes is not None and len(some.boxes)
        }
        pixels = [pictures[index].pixels for index in unknown]
        located = iter(self._detector.locate(pixels, list(unknown.values())) if unknown else ())
        return [
            next(located) if index in unknown else some.detections()
            for index, some in enumerate(faces)
        ]

    def _choose(
        self,
        picture: _Picture,
        faces: Detections | Record,
        options: Options,
        all_faces: bool,
    ) -> _Chosen | _Cropped | Record:
        """Select faces among the detections, and the pixels that they are cropped from."""
        if isinstance(faces, Record):
            return faces
        try:
            return self._select(picture, faces, options, all_faces)
        except ExtractionError as error:
            return _failed(error)
        except Exception as error:
            return _not_cut_out(error)

    def _select(
        self, picture: _Picture, faces: Detections, options: Options, all_faces: bool
    ) -> _Chosen | _Cropped | Record:
        pixels, reduction = picture.pixels, picture.reduction
        error = None
        if picture.given is not None:
            status, error = picture.given.explain(*pixels.shape[:2])
            if not len(faces):
                return Record(status, error)
        if not len(faces):
            if options.fallback:
                return self._whole(images.read(picture.image) if reduction > 1 else pixels)
            return _failed(outcomes.no_face(picture.smallest, options.min_confidence))
        if not (picture.given is not None and all_faces):  # these keep the given order
            faces = faces.take(faces.order(options.select, *pixels.shape[1::-1]))
        faces = faces if all_faces else faces.take(np.arange(1))
        if reduction > 1 and alignment.magnifies(faces.landmarks, self.config.preprocessing):
            pixels = images.read(picture.image)
            faces, reduction = faces.scaled(reduction), 1
        return _Chosen(faces, pixels, reduction, error)

    def _cut_out(self, chosen: list[_Chosen]) -> list[_Cropped | Record]:
        """Crop the selected faces of several images."""
        preprocessing = self.config.preprocessing
        try:
            matrices = [
                alignment.sampling_matrices(item.faces.landmarks, preprocessing) for item in chosen
            ]
            crops: Sequence[torch.Tensor]
            if self._batched:
                pixels = [item.pixels for item in chosen for _ in range(len(item.faces))]
                maps = [matrix for some in matrices for matrix in some]
                crops = torch.split(
                    alignment.align_on(self.device, pixels, maps, preprocessing),
                    [len(item.faces) for item in chosen],
                )
            else:
                crops = [
                    alignment.align(item.pixels, item.faces.landmarks, preprocessing)
                    for item in chosen
                ]
        except Exception as error:
            if len(chosen) > 1:  # the fault of one, which must not cost the others
                return [self._cut_out([item])[0] for item in chosen]
            return [_not_cut_out(error)]
        return [
            _Cropped(
                item.faces.scaled(item.reduction),
                some,
                share_outside(maps, preprocessing.size, *item.pixels.shape[:2]),
                detected=True,
                error=item.error,
            )
            for item, some, maps in zip(chosen, crops, matrices)
        ]

    def _whole(self, pixels: npt.NDArray[np.uint8]) -> _Cropped:
        """Take the whole image as the face (options ``aligned`` and ``fallback``)."""
        face = whole_picture(*pixels.shape[:2])
        crops = alignment.whole(pixels, self.config.preprocessing)
        return _Cropped(face, crops, np.zeros(1, np.float32), detected=False)

    def _faces(
        self,
        cropped: _Cropped,
        outputs: Iterator[Embedded],
    ) -> Iterator[Face]:
        """Yield one image's faces, each with the next of the outputs."""
        for index in range(len(cropped.faces)):
            embedding, heads = next(outputs)
            valence, arousal = heads.get("valence_arousal", (None, None))
            sharpness, exposure = heads["crop"]
            yield Face(
                box=cropped.faces.boxes[index],
                score=float(cropped.faces.scores[index]),
                landmarks=cropped.faces.landmarks[index],
                embedding=embedding,
                expressions=dict(zip(self.config.expressions, heads.get("expression", ()))),
                blendshapes=dict(zip(self.config.blendshapes, heads.get("blendshapes", ()))),
                valence=valence,
                arousal=arousal,
                detected=cropped.detected,
                sharpness=sharpness,
                exposure=exposure,
                outside=float(cropped.outside[index]),
            )


def _known(record: Record) -> Detections | None:
    """The detected faces of a frame, to be followed; None if there are none."""
    faces = [face for face in record.faces if face.detected]
    if not faces:
        return None
    return Detections(
        np.stack([face.box for face in faces]),
        np.array([face.score for face in faces], np.float32),
        np.stack([face.landmarks for face in faces]),
    )


def _not_cut_out(error: Exception) -> Record:
    return Record(Status.DETECT_ERROR, f"its faces can't be cut out: {error}")


def _failed(error: ExtractionError) -> Record:
    """Convert an error to a record; keeping its traceback would keep the decoded image too."""
    return Record(error.status, str(error))
