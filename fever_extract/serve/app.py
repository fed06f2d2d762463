"""The service as an ASGI app."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi_offline import FastAPIOffline
from PIL import Image
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from fever_extract._utils.extras import install
from fever_extract.records import Record
from fever_extract.serve import answers
from fever_extract.serve.batching import Batcher, QueueFullError
from fever_extract.serve.limits import BodyLimits
from fever_extract.serve.metrics import CONTENT_TYPE, Metrics
from fever_extract.serve.requests import BODY, read_images
from fever_extract.serve.settings import Settings
from fever_extract.tables.schema import Widths, describe

if TYPE_CHECKING:
    from fever_extract.extractor import Extractor

_logger = logging.getLogger(__name__)
_PATHS = ("/extract", "/health", "/ready", "/metrics", "/info")
_GONE = 499


def create_app(extractor: Extractor, settings: Settings | None = None) -> FastAPI:
    """Make the service's app, for `fever_extract.serve.server.run` or any ASGI server.

    Args:
        extractor: its options are those of every request.
        settings: limits; that of an image's pixels is Pillow's, ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    limits = settings or Settings()
    metrics = Metrics(_PATHS)

    def extract(images: list[bytes], all_faces: bool) -> list[Record]:
        return extractor.extract_records(images, all_faces=all_faces, show_progress=False)

    batcher = Batcher(
        extract,
        max_batch=limits.max_batch,
        max_wait=limits.max_wait,
        max_queue=limits.max_queue,
        observe=metrics.batches.observe,
    )
    metrics.queue.set_function(lambda: batcher.waiting)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(batcher.close)

    app = FastAPIOffline(
        title="fever-extract",
        version=version("fever-extract"),
        description="Facial-expression embeddings: images in, a record an image out, in order.",
        redoc_url=None,
        lifespan=lifespan,
        middleware=[Middleware(metrics.middleware), Middleware(BodyLimits, settings=limits)],
    )
    _add_extract(app, extractor, limits, batcher, metrics)
    _add_state(app, extractor, limits, batcher, metrics)
    return app


def _add_extract(
    app: FastAPI, extractor: Extractor, limits: Settings, batcher: Batcher, metrics: Metrics
) -> None:
    weights = {"name": extractor.config.name, "sha256": extractor.sha256}

    @app.post(
        "/extract",
        openapi_extra={"requestBody": BODY},
        responses={
            200: {
                "description": "a record per image, in the order of the request",
                "content": {"application/json": {}, answers.ARROW: {}},
            },
            **{
                code: {"description": text}
                for code, text in {
                    400: "no images in the request",
                    406: "Arrow is asked for, and the service has no pyarrow",
                    408: "the request did not end in time",
                    413: "too many bytes or images",
                    415: "neither a form, nor JSON, nor an image",
                    503: "too much is waiting; Retry-After says for how long",
                }.items()
            },
        },
        response_class=Response,
    )
    async def extract(
        request: Request,
        all_faces: bool = Query(False, description="every face of an image, not only the first"),
        embedding: bool = Query(True, description="with the embeddings"),
    ) -> Response:
        """Extract the faces of images."""
        as_arrow = answers.ARROW in request.headers.get("accept", "")
        if as_arrow and find_spec("pyarrow") is None:
            raise HTTPException(406, f"Arrow needs pyarrow in the service: {install('parquet')}")
        batcher.check_room()  # before a body is read in vain
        images = await read_images(request, limits.max_images)
        names = [name for name, _ in images]
        records = await _records(request, batcher, [image for _, image in images], all_faces)
        if records is None:
            return Response(status_code=_GONE)
        metrics.count(records)
        if not as_arrow:
            body = answers.to_json(names, records, embedding=embedding, weights=weights)
            return Response(body, media_type="application/json")
        stream = answers.to_stream(
            names,
            records,
            widths=Widths.of(extractor.config, embedding),
            metadata=_metadata(extractor, all_faces=all_faces, embedding=embedding),
        )
        return Response(stream, media_type=answers.ARROW)

    @app.exception_handler(QueueFullError)
    async def refuse(_: Request, error: QueueFullError) -> Response:
        headers = {"Retry-After": str(error.retry_after)}
        return JSONResponse({"detail": str(error)}, 503, headers)

    @app.exception_handler(ClientDisconnect)
    async def forget(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)


def _metadata(extractor: Extractor, *, all_faces: bool, embedding: bool) -> dict[str, object]:
    metadata = describe(extractor, extractor.options, all_faces=all_faces, embedding=embedding)
    del metadata["weights_source"]  # where they lie is nobody else's business
    return metadata


async def _records(
    request: Request, batcher: Batcher, images: list[bytes], all_faces: bool
) -> list[Record] | None:
    """Wait for a request's records; None, and no work for it, if its client leaves before.

    Raises:
        HTTPException: 500, if the extraction failed as a whole.
    """
    futures = batcher.submit(images, all_faces)
    answer = asyncio.gather(*map(asyncio.wrap_future, futures))
    gone = asyncio.ensure_future(_until_gone(request))
    both: set[asyncio.Future[Any]] = {answer, gone}
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return list(answer.result()) if answer.done() else None
    except Exception as error:
        _logger.exception("extraction failed")
        reason = (str(error).splitlines() or [""])[0]
        raise HTTPException(500, f"extraction failed: {type(error).__name__}: {reason}") from None
    finally:
        for future in both:
            future.cancel()
        await asyncio.gather(*both, return_exceptions=True)  # or asyncio complains of them


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add_state(
    app: FastAPI, extractor: Extractor, limits: Settings, batcher: Batcher, metrics: Metrics
) -> None:
    config = extractor.config
    information: dict[str, Any] = {
        "version": version("fever-extract"),
        "weights": config.name,
        "weights_sha256": extractor.sha256,
        "license": config.license,
        "embedding_dim": extractor.embedding_dim,
        "expressions": list(config.expressions),
        "blendshapes": list(config.blendshapes),
        "valence_arousal": bool(config.valence_arousal),
        "device": str(extractor.device),
        "options": extractor.options.settings(),
        "limits": {**vars(limits), "max_pixels": Image.MAX_IMAGE_PIXELS},
    }

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "alive"}

    @app.get("/ready", responses={503: {"description": "the queue is full, or work has ended"}})
    async def ready() -> dict[str, object]:
        """Whether a request would be taken."""
        batcher.check_room()
        if not batcher.alive:
            raise HTTPException(503, "the service is ending")
        return {"status": "ready", "queue": batcher.waiting}

    @app.get("/metrics", response_class=Response)
    async def measure() -> Response:
        """Counters and histograms in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """Which weights are in use, what they tell apart, and the limits of a request."""
        return information
