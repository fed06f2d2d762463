"""`Extractor`, the public API; it hands work on to the pipeline, jobs, hub and video."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Union, overload

import numpy as np

from fever_extract import images
from fever_extract._utils import hints
from fever_extract.hub import download as hub
from fever_extract.images import ImageLike
from fever_extract.jobs.sources import Sources
from fever_extract.models import checkpoint
from fever_extract.models.config import Config
from fever_extract.options import OptionArguments, Options
from fever_extract.records import (
    ExtractionError,
    Face,
    Frame,
    Record,
    Summary,
    stack_embeddings,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from typing_extensions import Unpack

    from fever_extract.jobs.job import EngineLike
    from fever_extract.models.checkpoint import Checkpoint
    from fever_extract.models.network import FeverNet
    from fever_extract.pipeline import Pipeline
    from fever_extract.video.course import Course
    from fever_extract.video.decoding import ClipLike

Faces = Union["npt.NDArray[Any]", Sequence[Any], None]
"""Boxes or landmarks, an entry an image; see `Extractor.extract_records`."""


class Extractor:
    """Find faces in images and embed their expressions.

    Args:
        weights: the embedded default if left out; else a local folder, or a Hugging Face
            Hub repository ``org/name`` or ``org/name@revision``.
        revision, cache_dir, token, local_files_only: Hub settings; see
            `fever_extract.hub.HubOptions`.
        device: torch device; by default CUDA where there is one, else the CPU.
        options: any of `fever_extract.Options`, as defaults for every call.

    Raises:
        fever_extract.WeightsError: if the weights can't be found or used.
        ValueError: if an option is out of range or the device does not exist.

    An image is a path, the bytes of an image file, a PIL image, or a ``(h, w, 3)`` uint8 RGB
    array. EXIF orientation is applied.

    Threads can share an Extractor, and a forked child can use it on the CPU, with one thread.
    It can be pickled and copied: the embedded weights travel by their SHA-256, others with all
    their bytes, so that the receiver needs neither files nor a network.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        device: str | torch.device | None = None,
        **options: Unpack[OptionArguments],
    ) -> None:
        self._options = Options().replace(options)
        self._device = device
        self._checkpoint = hub.load(
            weights, hub.HubOptions(revision, cache_dir, token, local_files_only)
        )
        self.config.check_prior(self._options.prior)
        # torch takes seconds to import: pay for it when an Extractor is made, not before.
        from fever_extract.pipeline import Pipeline

        self._pipeline = Pipeline(self._checkpoint, device)

    def __getstate__(self) -> dict[str, object]:
        """Pickle weights, device and options; the networks are rebuilt where they arrive."""
        state = self.__dict__.copy()
        del state["_pipeline"]
        return {**state, "_checkpoint": hub.Portable.of(self._checkpoint)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._checkpoint, self._pipeline = _rebuild(state["_checkpoint"], state["_device"])

    @property
    def embedding_dim(self) -> int:
        """Length of an embedding."""
        return self.config.embedding_dim

    @property
    def config(self) -> Config:
        """The configuration of the weights in use."""
        return self._checkpoint.config

    @property
    def device(self) -> torch.device:
        """The torch device that the networks run on."""
        return self._pipeline.device

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights' file, in hexadecimal: the identity of the embeddings."""
        return self._checkpoint.sha256

    @property
    def options(self) -> Options:
        """The options of every call that doesn't say otherwise."""
        return self._options

    @property
    def source(self) -> str:
        """Where the weights came from: ``embedded``, a folder, or a Hub repository."""
        return self._checkpoint.source

    def __repr__(self) -> str:
        return (
            f"Extractor({self.config.name!r}, source={self.source!r}, "
            f"embedding_dim={self.embedding_dim}, device={str(self.device)!r})"
        )

    def network(self) -> FeverNet:
        """Return a copy of the network as a torch module, to build on or to train.

        It takes aligned crops ``(n, 3, s, s)``, 0 to 255, with the ``s`` of
        ``config.preprocessing.size``, and gives a `fever_extract.models.network.Output`; it is
        in evaluation mode, in float32, on this extractor's device, and has its own weights.
        """
        return self._pipeline.embedder.network()

    @overload
    def embed(self, crops: torch.Tensor, *, normalize: bool | None = None) -> torch.Tensor: ...

    @overload
    def embed(
        self, crops: npt.NDArray[Any], *, normalize: bool | None = None
    ) -> npt.NDArray[np.float32]: ...

    def embed(
        self, crops: torch.Tensor | npt.NDArray[Any], *, normalize: bool | None = None
    ) -> torch.Tensor | npt.NDArray[np.float32]:
        """Embed faces that are already cut out and aligned.

        Args:
            crops: ``(n, 3, s, s)`` or ``(n, s, s, 3)``, RGB (or one channel, grey), uint8 or
                floating point, 0 to 255, aligned as ``config.preprocessing`` says; they are
                resampled if their size is not its ``size``.
            normalize: scale each embedding to length 1; None uses this extractor's setting.

        Returns:
            ``(n, d)`` float32: an array for an array; for a tensor, a tensor on its device, through
            which gradients flow if they flow through the crops.

        Raises:
            TypeError, ValueError: if ``crops`` has another shape, dtype or range.
        """
        from fever_extract.models.crops import as_crops

        chosen = self._options
        if normalize is not None:
            chosen = chosen.replace({"normalize": normalize})
        prepared = as_crops(crops, self.config.preprocessing.size)
        if not isinstance(crops, np.ndarray):
            return self._pipeline.embedder.embed_tensor(prepared, normalize=chosen.normalize)
        embeddings = np.zeros((len(prepared), self.embedding_dim), np.float32)
        if len(prepared):
            outputs = self._pipeline.embedder.embed([prepared], chosen)
            embeddings[:] = [output.embedding for output in outputs]
        return embeddings

    def extract(
        self,
        inputs: ImageLike | Iterable[ImageLike],
        *,
        boxes: Faces = None,
        landmarks: Faces = None,
        **options: Unpack[OptionArguments],
    ) -> npt.NDArray[np.float32]:
        """Embed images: one row per image, row *i* for input *i*, always.

        Args:
            inputs: one image, or many. A generator is consumed a few batches ahead, so that its
                images are never all in memory.
            boxes, landmarks: faces that are known already, instead of detection; see
                `extract_records`.
            options: any of `fever_extract.Options`, for this call.

        Returns:
            ``(n, d)`` float32, or ``(d,)`` for one image. An input without an embedding
            is a row of NaN; one warning counts them.

        Raises:
            ExtractionError: for the first input without an embedding, if ``on_error="raise"``.
            TypeError, ValueError: if an input can't be an image, or an option is out of
                range.
        """
        chosen = self._chosen(options)
        hints.check_collection(inputs)
        records = self._stream(inputs, chosen, boxes=boxes, landmarks=landmarks)
        single = images.is_single(inputs)
        return stack_embeddings(records, self.embedding_dim, chosen.on_error, single=single)

    def extract_records(
        self,
        inputs: ImageLike | Iterable[ImageLike],
        *,
        all_faces: bool = False,
        boxes: Faces = None,
        landmarks: Faces = None,
        **options: Unpack[OptionArguments],
    ) -> list[Record]:
        """Extract a record per image: its status, and its faces or the reason there are none.

        Args:
            inputs: one image, or many.
            all_faces: keep every face of an image, in the order of ``select``.
            boxes: known faces, instead of detection: for each image x1, y1, x2, y2 in pixels of
                the upright picture, ``(4,)``; several, ``(k, 4)``; or None. MTCNN's last network
                finds the landmarks in them, and `Face.score` is its confidence. A box should
                reach about from the brows to the chin.
            landmarks: known faces by their five points (`Face.landmarks`), for each image
                ``(5, 2)`` or ``(10,)``; several, ``(k, 5, 2)``; or None. MTCNN is not run at all.
            options: any of `fever_extract.Options`, for this call. With boxes or landmarks, those
                of detection have no effect, and with ``all_faces`` faces keep the given order.

        Returns:
            One record per image, in the order of the input. A given face outside the picture has
            no embedding: the record's status says so, or its ``error`` if other faces have one.

        Raises:
            TypeError, ValueError: as in `extract`, or if boxes or landmarks don't fit the images;
                never for a damaged or missing file.
        """
        hints.check_collection(inputs)
        chosen = self._chosen(options)
        return list(self._stream(inputs, chosen, all_faces, boxes=boxes, landmarks=landmarks))

    def extract_faces(self, image: ImageLike, **options: Unpack[OptionArguments]) -> list[Face]:
        """Extract every face of one image, in the order of ``select``; empty if there are none.

        Args:
            image: one image.
            options: any of `fever_extract.Options`, for this call.

        Raises:
            ExtractionError: if the image can't be read.
            TypeError, ValueError: as in `extract`.
        """
        hints.check_collection(image)
        if not images.is_single(image):
            raise TypeError("extract_faces takes one image; extract_records(all_faces=True), many")
        (record,) = self.extract_records(image, all_faces=True, **options)
        if not record.status.was_searched:
            raise ExtractionError(record.status, str(record.error))
        return list(record.faces)

    def extract_next(
        self, frame: ImageLike, before: Record | None, **options: Unpack[OptionArguments]
    ) -> Record:
        """Extract every face of a frame, following those of the frame before: for live pictures.

        Faces are detected if one can't be followed, or there was none: what is lost is never
        made up, but a face that comes to others is not looked for. So give None now and then.

        Args:
            frame: one image.
            before: what this gave for the frame before; None to detect faces.
            options: any of `fever_extract.Options`, for this call.

        Raises:
            ExtractionError: if the image can't be read.
            TypeError, ValueError: as in `extract`, or for options with which faces can't be
                followed.
        """
        from fever_extract._utils.threads import one_thread
        from fever_extract.video.stretch import check_sampling

        chosen = self._chosen(options)
        check_sampling(None, None, None, detect_every=2, options=chosen)
        with one_thread():
            known = () if before is None else (before,)
            (record,) = self._pipeline.follow([[images.read(frame)]], chosen, known)
        return record

    def extract_video(
        self,
        clip: ClipLike,
        *,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        detect_every: int = 1,
        all_faces: bool = True,
        **options: Unpack[OptionArguments],
    ) -> Iterator[Frame]:
        """Extract the faces of a clip, frame by frame as it is decoded; needs PyAV.

        Each face has an id, `Face.track`, that it keeps from frame to frame; see
        `fever_extract.video.tracking`. Nothing is smoothed. Only a few frames are in memory at
        a time.

        Args:
            clip: a path, a URL, an open binary file, or a container from ``av.open``.
            fps: frames per second to take, each the nearest in time; None for every frame.
            start, end: take frames from ``start`` up to, but not at, ``end``; in seconds.
            detect_every: detect faces in every so many frames only, counted anew each second, and
                follow them between, which is faster; docs/video.md says what it costs. A face
                that comes to others is seen one frame less than that later, at most.
            all_faces: keep every face of a frame, in the order of ``select``.
            options: any of `fever_extract.Options`, for this call.

        Yields:
            One `Frame` per frame taken, in order. If the clip, or part of it, can't be read, the
            last frame says so: its status is not ``ok``.

        Raises:
            ImportError: at once, if PyAV is missing.
            TypeError, ValueError: at once, if ``clip`` can't be a clip, or an option is out
                of range.
        """
        from fever_extract.video import frames

        chosen = self._chosen(options)
        _check_clip(clip, fps, start, end, detect_every=detect_every, options=chosen)
        return frames.extract(
            self._pipeline,
            clip,
            chosen,
            all_faces=all_faces,
            fps=fps,
            start=start,
            end=end,
            detect_every=detect_every,
        )

    def extract_course(
        self,
        clip: ClipLike,
        *,
        step: float = 1.0,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        detect_every: int = 1,
        annotate: str | os.PathLike[str] | None = None,
        keep_frames: bool = True,
        **options: Unpack[OptionArguments],
    ) -> Course:
        """Extract how the faces of a clip change over time; needs PyAV.

        Args:
            clip, fps, start, end, detect_every: as in `extract_video`. Blinks are short: they need
                every frame.
            step: length in seconds of the steps over which means are taken.
            annotate: an ``.mp4``, ``.mov`` or ``.mkv`` file to write, on the way: the clip with
                boxes, ids, expressions and a band at its foot that shows the last ten seconds.
            keep_frames: keep what was measured in each frame, which smoothing, events and
                synchrony need: 240 bytes a face, 43 MB for a face of two hours. Without, only the
                means are kept, and memory grows with the steps only.
            options: any of `fever_extract.Options`, for this call.

        Returns:
            The course. What could not be read is in its ``problems``.

        Raises:
            ImportError: at once, if PyAV is missing.
            TypeError, ValueError, OSError: at once, if ``clip`` can't be a clip, an argument is
                out of range, or the annotated clip can't be written.
        """
        from fever_extract.video import annotation

        chosen = self._chosen(options)
        _check_clip(clip, fps, start, end, detect_every=detect_every, options=chosen)
        return annotation.course(
            self._pipeline,
            clip,
            chosen,
            step=step,
            annotate=annotate,
            keep_frames=keep_frames,
            about={"weights": self.config.name, "weights_sha256": self.sha256},
            fps=fps,
            start=start,
            end=end,
            detect_every=detect_every,
        )

    def extract_folder(
        self,
        folder: Sources,
        output: str | os.PathLike[str],
        *,
        all_faces: bool = False,
        embedding: bool = True,
        save_crops: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        engine: EngineLike = "local",
        workers: int | None = None,
        fps: float | None = None,
        start: float | None = None,
        end: float | None = None,
        detect_every: int = 1,
        no_clips: bool = False,
        only_clips: bool = False,
        retry_failed: bool = False,
        **options: Unpack[OptionArguments],
    ) -> Summary:
        """Extract a folder, and all folders below it, to a table: a row per image or per face.

        An image is a photograph or a frame of a clip; without PyAV, a folder's clips are
        passed over with a warning.

        Args:
            folder: a folder, a photograph, a clip, or any other source (or several): see
                `fever_extract.jobs.sources.find`.
            output: a ``.parquet``, ``.npz`` or ``.csv`` file, replaced when complete; or, for many
                photographs, a folder of Parquet shards (an existing folder, a name that ends in a
                slash or has no extension), where a stopped job resumes: see docs/scale.md.
            all_faces: a row per face rather than per image.
            embedding: include the embeddings; the table is small without them.
            save_crops: a folder for the aligned faces of photographs as JPEGs of 224x224 pixels,
                named by `fever_extract.jobs.crops.crop_path`; for one table, not for shards.
            overwrite: start a folder of shards afresh instead of resuming; a single table is
                always replaced.
            engine: where the workers that fill shards run: ``"local"``, on this machine;
                ``"ray"``, on a cluster; or an engine with settings, as from
                `fever_extract.jobs.ray.on_ray`.
            workers: processes that extract photographs; by default one per core, or per GPU, but
                of fewer than 500 photographs to one table none: they take a second or two to
                start. With 1, one table is extracted in this process. See docs/scale.md.
            fps: of clips, the frames nearest to this many times a second; None for every frame.
            start, end: of clips, from ``start`` to before ``end``, in seconds.
            detect_every: of clips, as in `extract_video`.
            no_clips, only_clips: take photographs only, or clips only.
            retry_failed: retry what could not be read or crashed, in a folder of shards that is
                resumed.
            options: any of `fever_extract.Options`, for this call.

        Raises:
            OSError, ValueError, ImportError: before any work begins, if a source or the
                output's folder does not exist, there is no image, the output's extension
                is not known, or the package that writes it is missing; if the output or the
                engine can't do what an argument asks for; if a folder of shards was made with
                other weights or settings; and later, if the disk is full.
        """
        from fever_extract.jobs.job import Job
        from fever_extract.jobs.run import run

        job = Job(
            folder,
            output,
            options=self._chosen(options),
            all_faces=all_faces,
            embedding=embedding,
            device=None if self._device is None else str(self._device),
            engine=engine,
            workers=workers,
            overwrite=overwrite,
            save_crops=save_crops,
            fps=fps,
            start=start,
            end=end,
            detect_every=detect_every,
            no_clips=no_clips,
            only_clips=only_clips,
            retry_failed=retry_failed,
        )
        return run(job, self._checkpoint, self._pipeline)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the weights and a model card to a folder that `Extractor` can load.

        Args:
            folder: created if it does not exist.
        """
        from fever_extract.hub.card import write_card, write_processor

        checkpoint.save(folder, self.config, self._checkpoint.data)
        write_card(folder, self.config)
        write_processor(folder, self.config)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        revision: str | None = None,
        private: bool | None = None,
        create_pr: bool = False,
        token: str | bool | None = None,
        bundle: bool | None = None,
    ) -> str:
        """Publish the weights and a model card on the Hub; return the URL of the commit.

        Args:
            repo_id: ``org/name`` on the Hugging Face Hub; created if it does not exist.
            revision, private, create_pr, token: as in `fever_extract.hub.publish.publish`.
            bundle: also publish a bundle, in ``onnx/``, for use without torch
                (docs/everywhere.md). By default if the extra ``onnx`` is installed; otherwise a
                warning says that it was left out.

        Raises:
            fever_extract.WeightsError: if the Hub refuses or can't be reached.
            ImportError: with ``bundle=True``, if the extra ``onnx`` is not installed.
        """
        from fever_extract.hub.publish import publish
        from fever_extract.models.onnx import check_packages

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            if bundle is None:
                try:
                    check_packages()
                    bundle = True
                except ImportError as error:
                    message = f"published without a bundle for use without torch: {error}"
                    warnings.warn(message, stacklevel=2)
            if bundle:
                from fever_extract.bundle import writing

                writing.write(self._checkpoint, os.path.join(folder, checkpoint.BUNDLE))
            return publish(
                folder,
                repo_id,
                revision=revision,
                private=private,
                create_pr=create_pr,
                token=token,
            )

    def _chosen(self, changes: OptionArguments) -> Options:
        """Merge the options of one call with the extractor's."""
        options = self._options.replace(changes)
        self.config.check_prior(options.prior)
        return options

    def _stream(
        self,
        inputs: ImageLike | Iterable[ImageLike],
        options: Options,
        all_faces: bool = False,
        *,
        boxes: Faces = None,
        landmarks: Faces = None,
    ) -> Iterator[Record]:
        """Yield a record per image, with a progress bar."""
        given: Iterable[ImageLike] = [inputs] if images.is_single(inputs) else inputs  # type: ignore[assignment]
        known = boxes is not None or landmarks is not None
        if known:
            if options.aligned or options.fallback:
                raise ValueError("boxes and landmarks don't go with aligned or fallback")
            given = list(given)
        total = len(given) if isinstance(given, Sized) else None
        work: Iterable[Any] = images.checked(given)
        if known:
            from fever_extract.detection.given import pair

            work = pair(list(work), images.is_single(inputs), boxes, landmarks)
        records = self._pipeline.stream(work, options, all_faces)
        # Even a hidden bar starts a thread and a lock: skip it for a single image.
        shown = total not in (0, 1) if options.show_progress is None else options.show_progress
        if not shown:
            yield from records
            return
        from fever_extract._utils import progress

        with progress.bar(show=options.show_progress, total=total, unit="image") as bar:
            for record in records:
                yield record
                bar.update()


def _check_clip(
    clip: ClipLike,
    fps: float | None,
    start: float | None,
    end: float | None,
    *,
    detect_every: int,
    options: Options,
) -> None:
    from fever_extract.video import decoding
    from fever_extract.video.stretch import check_sampling

    decoding.check(clip)
    check_sampling(fps, start, end, detect_every=detect_every, options=options)


@lru_cache(maxsize=2)  # `pool.map(extractor.extract, ...)` pickles the extractor for each task
def _rebuild(
    weights: hub.Portable, device: str | torch.device | None
) -> tuple[Checkpoint, Pipeline]:
    """Rebuild an `Extractor`'s checkpoint and pipeline from its pickle."""
    from fever_extract.pipeline import Pipeline

    unpacked = weights.unpack()
    return unpacked, Pipeline(unpacked, device)
