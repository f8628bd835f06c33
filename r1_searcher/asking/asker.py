"""A policy and a retriever that answer one question after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.asking.citations import Citation, Search, citations
from r1_searcher.asking.spans import Kind, SpanSplitter
from r1_searcher.asking.watched import WatchedEngine, WatchedRetriever
from r1_searcher.errors import PipelineError
from r1_searcher.questions.files import without_control
from r1_searcher.rollout import roll_out
from r1_searcher.transcripts.grammar import Mode
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Engine, Retriever

OnSpan = Callable[[Kind, str], None]  # a piece of the transcript as it comes, without tags


class QuestionTooLong(PipelineError):
    """A question whose prompt leaves no room for an answer. Its words are those that OpenAI's clients look for."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"the question is too long and leaves no room: this model's maximum context length is {most} tokens",
            fix="ask a shorter one, or raise rollout.max_total_tokens if the model allows more",
        )


@dataclass(frozen=True)
class Asked:
    """One question and what came of it.

    Attributes:
        answer: None if the policy gave none.
        searches: in their order, with the passages that were found.
        citations: the passages that contain the answer.
        rollouts: one row of schema ROLLOUTS, as training writes it.
        first_token_seconds, seconds: from the question to the first text and to the end.
    """

    question: str
    answer: str | None
    searches: tuple[Search, ...]
    citations: tuple[Citation, ...]
    rollouts: pa.Table
    first_token_seconds: float
    seconds: float

    @property
    def finish_reason(self) -> str:
        """How the trajectory ended."""
        return str(self.rollouts["finish_reason"][0].as_py())

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values, with the transcript."""
        row = self.rollouts.to_pylist()[0]
        return {
            "question": self.question,
            "answer": self.answer,
            "finish_reason": self.finish_reason,
            "citations": [
                {
                    "search": one.search,
                    "rank": one.rank,
                    "passage_id": one.passage.passage_id,
                    "title": one.passage.title,
                }
                for one in self.citations
            ],
            "searches": [
                {
                    "query": search.query,
                    "error": search.error,
                    "passages": [
                        {"passage_id": one.passage_id, "title": one.title, "text": one.text, "score": one.score}
                        for one in search.passages
                    ],
                }
                for search in self.searches
            ],
            "transcript": row["text"],
            "policy_tokens": len(row["policy_logprobs"]),
            "first_token_seconds": self.first_token_seconds,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Asker:
    """What answers: an engine with the policy, a retriever, the section ``rollout`` of the parameters.

    ``greedy``: else sampled at ``rollout.temperature``, each question with ``seed``.
    """

    engine: Engine
    retriever: Retriever
    rollout: params.Rollout
    seed: int = 0
    greedy: bool = True
    mode: Mode = "search"

    def ask(
        self, question: str, on_span: OnSpan | None = None, on_search: Callable[[Search], None] | None = None
    ) -> Asked:
        """Answer one question, exactly as in a rollout; ``on_span`` is told the transcript as it is written, and
        ``on_search`` each search when it is done.

        Raises ``QuestionTooLong`` for one that leaves no room in ``rollout.max_total_tokens``.
        """
        began = time.perf_counter()
        first: list[float] = []
        spans = SpanSplitter("answer" if self.mode in ("no_search", "plain_rag") else "thought")

        def on_text(text: str) -> None:
            first.append(time.perf_counter() - began)
            for kind, piece in spans.feed(text):
                if on_span is not None:
                    on_span(kind, piece)

        engine, retriever = WatchedEngine(self.engine, on_text), WatchedRetriever(self.retriever, on_search)
        try:
            rollouts, _ = roll_out(
                engine,
                retriever,
                _one_question(question),
                self.rollout,
                samples=1,
                seed=self.seed,
                greedy=self.greedy,
                mode=self.mode,
            )
        except PipelineError as error:
            if error.where == "rollout.max_total_tokens":
                raise QuestionTooLong(self.rollout.max_total_tokens) from None
            raise
        finally:
            engine.close()
        if on_span is not None:
            for kind, piece in spans.end():
                on_span(kind, piece)
        answer = rollouts["answer"][0].as_py()
        searches = tuple(retriever.searches)
        seconds = time.perf_counter() - began
        found = tuple(citations(answer, searches))
        return Asked(question, answer, searches, found, rollouts, first[0] if first else seconds, seconds)


def _one_question(question: str) -> pa.Table:
    """Return it as a table of questions, neutralised as those of files are; its gold answer is unknown."""
    row: dict[str, Any] = dict.fromkeys(schemas.QUESTIONS.names)
    row |= {"question_id": "asked", "question": question, "answers": [], "dataset": "asked", "supporting_titles": []}
    return without_control(pa.Table.from_pylist([row], schema=schemas.QUESTIONS))[0]
