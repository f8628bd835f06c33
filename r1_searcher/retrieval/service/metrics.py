"""Counters of one server in Prometheus' text form (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Metrics:
    """Counters of one server."""

    def __init__(self, *, kind: str, fingerprint: str, corpus: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "retriever_requests", "Requests by path and HTTP status", ["path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "retriever_request_seconds", "Whole requests", ["path"], buckets=_SECONDS, registry=registry
        )
        self._queries = Counter("retriever_queries", "Queries searched", registry=registry)
        self.failed = Counter("retriever_failed_queries", "Queries whose search failed", registry=registry)
        self._batch_queries = Histogram("retriever_batch_queries", "Queries a batch", buckets=_SIZES, registry=registry)
        self._batch_seconds = Histogram(
            "retriever_batch_seconds", "Searches of a batch", buckets=_SECONDS, registry=registry
        )
        self.waiting = Gauge("retriever_waiting_queries", "Queries that wait", registry=registry)
        labels = {"kind": kind, "fingerprint": fingerprint, "corpus": corpus}
        Gauge("retriever_info", "What is served", list(labels), registry=registry).labels(**labels).set(1)

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def note_batch(self, queries: int, seconds: float) -> None:
        """Count a searched batch."""
        self._queries.inc(queries)
        self._batch_queries.observe(queries)
        self._batch_seconds.observe(seconds)

    def text(self) -> bytes:
        """Return all counters as text."""
        return generate_latest(self._registry)
