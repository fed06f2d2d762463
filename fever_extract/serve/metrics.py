"""Prometheus metrics of the service, in a registry of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fever_extract.records import Record

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_GONE = 499  # the client left before its answer; as nginx counts it


class Metrics:
    """Counters of requests and images, histograms of latency and batch size.

    Args:
        paths: of the service; requests for others are counted together.

    Attributes:
        batches: observes the size of each batch.
        queue: shows how many images wait.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = frozenset(paths)
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "fever_requests",
            "Answers by path and status",
            ["path", "code"],
            registry=self._registry,
        )
        self._images = Counter(
            "fever_images", "Images by what became of them", ["status"], registry=self._registry
        )
        self._seconds = Histogram(
            "fever_request_seconds",
            "Time from a request's head to the end of its answer",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "fever_batch_images", "Images of a batch", buckets=_SIZES, registry=self._registry
        )
        self.queue = Gauge("fever_queue_images", "Images that wait", registry=self._registry)

    def count(self, records: Sequence[Record]) -> None:
        """Count images by their status."""
        for record in records:
            self._images.labels(record.status.value).inc()

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Count an app's requests."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            path = scope["path"] if scope["path"] in self._paths else "other"
            began, code = time.perf_counter(), _GONE

            async def noted(message: Message) -> None:
                nonlocal code
                if message["type"] == "http.response.start":
                    code = message["status"]
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                self._requests.labels(path, code).inc()
                self._seconds.labels(path).observe(time.perf_counter() - began)

        return counted
