"""Answer many questions at once with one policy: each by ``Asker`` in a thread of its own, all on one engine."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from r1_searcher import params
from r1_searcher.asking.asker import Asked, Asker, OnSpan
from r1_searcher.asking.citations import Search
from r1_searcher.serving.lanes import Lane, Lanes
from r1_searcher.serving.shared_retriever import SharedRetriever
from r1_searcher.transcripts.grammar import Mode
from r1_searcher.types.protocols import Engine, Retriever


@dataclass(frozen=True)
class AnswerRequest:
    """One question and how to answer it.

    Attributes:
        temperature: 0 decodes greedily; None: as the server was started.
        top_p: None: ``rollout.top_p``.
        seed: of the samples; None: a random one.
        max_tokens: policy tokens, all turns together; None: only ``rollout``'s limits.
        k, max_searches: as ``rollout``'s; None: those. A request may only lower them.
        by_token: ``on_span`` is told token by token and not turn by turn.
    """

    question: str
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    k: int | None = None
    max_searches: int | None = None
    mode: Mode = "search"
    by_token: bool = False


class Answerer:
    """A policy and a retriever that answer from many threads. ``lanes``: the shared engine."""

    def __init__(self, engine: Engine, retriever: Retriever, rollout: params.Rollout, *, greedy: bool = True) -> None:
        self.retriever = SharedRetriever(retriever)
        self.rollout, self._greedy = rollout, greedy
        self.lanes = Lanes(_continuous(engine))

    @classmethod
    def of(cls, asker: Asker) -> Answerer:
        """Return one with an asker's policy, retriever and settings; its engine is not used otherwise any more."""
        return cls(asker.engine, asker.retriever, asker.rollout, greedy=asker.greedy)

    def job(self, wanted: AnswerRequest) -> AnswerJob:
        """Return the question as something that can be run and cancelled."""
        return AnswerJob(self, wanted, self.lanes.lane(max_tokens=wanted.max_tokens, by_token=wanted.by_token))

    def asker(self, wanted: AnswerRequest, engine: Engine) -> Asker:
        """Return what answers it."""
        greedy = self._greedy if wanted.temperature is None else wanted.temperature == 0
        changes: dict[str, Any] = {
            "temperature": wanted.temperature or self.rollout.temperature,
            "top_p": self.rollout.top_p if wanted.top_p is None else wanted.top_p,
            "k": min(self.rollout.k, wanted.k or self.rollout.k),
            "max_searches": min(self.rollout.max_searches, wanted.max_searches or self.rollout.max_searches),
        }
        seed = secrets.randbits(32) if wanted.seed is None else wanted.seed % 2**63
        return Asker(engine, self.retriever, self.rollout.model_copy(update=changes), seed, greedy, wanted.mode)

    def close(self) -> None:
        """End the engine's thread."""
        self.lanes.close()


@dataclass
class AnswerJob:
    """A question that is answered once, by ``run`` in a thread."""

    answerer: Answerer
    wanted: AnswerRequest
    lane: Lane

    def run(self, on_span: OnSpan | None = None, on_search: Callable[[Search], None] | None = None) -> Asked:
        """Answer it. Raises ``PipelineError`` as ``Asker.ask``, and ``Cancelled``."""
        try:
            return self.answerer.asker(self.wanted, self.lane).ask(self.wanted.question, on_span, on_search)
        finally:
            self.lane.close()

    def cancel(self) -> None:
        """End it from another thread."""
        self.lane.cancel()


def _continuous(engine: Engine) -> Engine:
    """Return the engine with requests that come and go, if it is one that can be made so."""
    if engine.name != "transformers":
        return engine
    from r1_searcher.rollout.engine import TransformersEngine
    from r1_searcher.serving.continuous import ContinuousEngine

    return ContinuousEngine.of(engine) if type(engine) is TransformersEngine else engine
