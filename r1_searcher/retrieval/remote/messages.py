"""What is said over HTTP: requests, responses, limits. Pure functions and models; nothing is sent from here.

Three forms of the same search:

- ``POST /search``, our own client's: ``{queries, k, fingerprint}`` → ``{fingerprint, result, errors}``,
  an entry a query.
- ``POST /retrieve``, Search-R1's: ``{queries, topk, return_scores}`` → ``{result: [[{document, score}]]}``, without
  scores ``[[document]]``; a document is ``{id, contents}`` with contents ``"title"\\ntext``. Written from its client
  (github.com/PeterGriffinJin/Search-R1, search_r1/llm_agent/generation.py, ``_batch_search`` and
  ``_passages2string``, which takes the first line for the title; search_r1/search/retrieval_request.py).
- ``POST /queries``, R1-Searcher's: ``{queries, k}`` → ``{queries, answers: [[line]]}``, lines as in its
  passage files: number, tab, title, three spaces, text. Its clients cut the leading number off and show the rest
  (github.com/RUCAIBox/R1-Searcher, evaluation/eval_search_loacl.py). Fields that later clients
  add (``prev_reasonings``, ``sources``) are passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from r1_searcher.types.protocols import Passage, RetrieverError

DEFAULT_K = 3  # both projects' servers' own
Found = list[Passage] | RetrieverError


class Limits(BaseModel):
    """What one request may ask."""

    max_queries: int = 4096  # Search-R1 sends the queries of a whole batch of trajectories at once
    max_k: int = 100
    max_characters: int = 10_000  # of a query
    max_bytes: int = 8_000_000  # of a request
    max_passages: int = 40_960  # of an answer: queries × k

    def fault(self, queries: Sequence[str], k: int) -> str | None:
        """What is wrong with a request, in one line; None: nothing."""
        if not 1 <= k <= self.max_k:
            return f"k must be 1 to {self.max_k}, got {k}"
        if len(queries) > self.max_queries:
            return f"at most {self.max_queries} queries a request, got {len(queries)}"
        if len(queries) * k > self.max_passages:
            return f"at most {self.max_passages} passages an answer, and {len(queries)} queries × k {k} are more"
        longest = max(map(len, queries), default=0)
        if longest > self.max_characters:
            return f"a query has at most {self.max_characters} characters, got {longest}"
        return None


class Health(BaseModel):
    """``GET /health``: what is served, and how much waits."""

    status: str
    kind: str
    fingerprint: str
    corpus: str
    description: str
    waiting: int  # queries
    limits: Limits


class SearchRequest(BaseModel):
    """Our own client's. ``fingerprint``: the retriever that it means; empty: whichever is served."""

    queries: list[str]
    k: int
    fingerprint: str = ""


class SearchResponse(BaseModel):
    """An entry a query: of a passage ``[passage_id, title, text, score]``; null where ``errors`` says why."""

    fingerprint: str
    result: list[list[tuple[str, str, str, float]] | None]
    errors: list[str | None]


class RetrieveRequest(BaseModel):
    """Search-R1's; no ``topk``, or 0: the server's default."""

    queries: list[str]
    topk: int | None = None
    return_scores: bool = False


class QueriesRequest(BaseModel):
    """R1-Searcher's."""

    queries: list[str]
    k: int = DEFAULT_K


def search_response(fingerprint: str, found: Sequence[Found]) -> dict[str, Any]:
    """The body of ``SearchResponse``. Scores survive the way through JSON bit for bit."""
    return {
        "fingerprint": fingerprint,
        "result": [
            None
            if isinstance(entry, RetrieverError)
            else [(passage.passage_id, passage.title, passage.text, passage.score) for passage in entry]
            for entry in found
        ],
        "errors": [str(entry) if isinstance(entry, RetrieverError) else None for entry in found],
    }


def read_search_response(response: SearchResponse) -> list[Found]:
    """What was found, an entry a query."""
    return [
        RetrieverError(error or "no result and no error")
        if rows is None
        else [Passage(passage_id, title, text, score) for passage_id, title, text, score in rows]
        for rows, error in zip(response.result, response.errors, strict=True)
    ]


def retrieve_response(found: Sequence[Sequence[Passage]], *, scores: bool) -> dict[str, Any]:
    """Search-R1's answer."""

    def entry(passage: Passage) -> dict[str, Any]:
        # The first line is read as the title, so a title is one line.
        contents = f'"{one_line(passage.title)}"\n{passage.text}'
        document = {"id": passage.passage_id, "contents": contents}
        return {"document": document, "score": passage.score} if scores else document

    return {"result": [[entry(passage) for passage in passages] for passages in found]}


def queries_response(queries: Sequence[str], found: Sequence[Sequence[Passage]]) -> dict[str, Any]:
    """R1-Searcher's answer. The number before a line is its rank: the clients only cut it off."""
    lines = [
        [f"{rank}\t{one_line(passage.title)}   {one_line(passage.text)}" for rank, passage in enumerate(passages, 1)]
        for passages in found
    ]
    return {"queries": list(queries), "answers": lines}


def one_line(text: str) -> str:
    """Without line ends and tabs."""
    return " ".join(text.split())
