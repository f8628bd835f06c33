"""Counters of one serving policy in Prometheus' text form."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from r1_searcher.asking.asker import Asked

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class PolicyMetrics:
    """Counters of one server."""

    def __init__(self, *, model: str, policy: str, retriever: str) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "policy_requests", "Requests by path and HTTP status", ["path", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "policy_request_seconds", "Whole requests", ["path"], buckets=_SECONDS, registry=registry
        )
        self._first = Histogram(
            "policy_first_token_seconds", "From a question to its first text", buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter("policy_tokens", "Tokens that the policy wrote", registry=registry)
        self._searches = Counter("policy_searches", "Searches of finished answers", registry=registry)
        self.cancelled = Counter("policy_cancelled", "Questions whose client left", registry=registry)
        self.running = Gauge("policy_running", "Questions that are being answered", registry=registry)
        self.waiting = Gauge("policy_waiting", "Questions that wait", registry=registry)
        labels = {"model": model, "policy": policy, "retriever": retriever}
        Gauge("policy_info", "What is served", list(labels), registry=registry).labels(**labels).set(1)

    def note_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request."""
        self._requests.labels(path, str(status)).inc()
        self._request_seconds.labels(path).observe(seconds)

    def note_answer(self, asked: Asked) -> None:
        """Count a finished answer."""
        self._first.observe(asked.first_token_seconds)
        self._tokens.inc(len(asked.rollouts["policy_logprobs"][0]))
        self._searches.inc(len(asked.searches))

    def text(self) -> bytes:
        """Return all counters as text."""
        return generate_latest(self._registry)
