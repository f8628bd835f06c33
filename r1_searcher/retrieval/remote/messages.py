r"""HTTP messages of the retrieval service: requests, responses, limits. Pure functions and models; sends nothing.

- ``POST /search``, for our own client: ``{queries, k, fingerprint}`` → ``{fingerprint, result, errors}``, one entry per
  query.
- The same search in the forms of other projects, each with the source it is written from: see ``forms``, which reads
  what is written here. R1-Searcher's and Search-R1's clients cut a line's number off, and take the first line of
  ``contents`` for the title (evaluation/eval_search_loacl.py; search_r1/llm_agent/generation.py). Fields of later
  clients (``prev_reasonings``, ``sources``) are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from r1_searcher.types.protocols import Passage, RetrieverError

DEFAULT_K = 3  # the default of Search-R1's and R1-Searcher's servers
Found = list[Passage] | RetrieverError


class Limits(BaseModel):
    """The limits of one request."""

    max_queries: int = 4096  # Search-R1 sends the queries of a whole batch of trajectories at once
    max_k: int = 100
    max_characters: int = 10_000  # of a query
    max_bytes: int = 8_000_000  # of a request
    max_passages: int = 40_960  # per response: queries × k

    @classmethod
    def for_queries(cls, max_queries: int) -> Limits:
        """Return the limits of requests of so many queries: bytes and passages grow with them, never below the
        defaults."""
        usual = cls()
        if max_queries <= usual.max_queries:
            return cls(max_queries=max_queries)
        return cls(
            max_queries=max_queries,
            max_bytes=usual.max_bytes * max_queries // usual.max_queries,
            max_passages=usual.max_passages * max_queries // usual.max_queries,
        )

    def fault(self, queries: Sequence[str], k: int) -> str | None:
        """Return what is wrong with a request in one line, or None."""
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
    """``GET /health``: what is served, and how many queries wait."""

    status: str
    kind: str
    fingerprint: str
    corpus: str
    description: str
    waiting: int  # queries
    limits: Limits


class SearchRequest(BaseModel):
    """Request of our own client. ``fingerprint``: the retriever that it expects; empty: any."""

    queries: list[str]
    k: int
    fingerprint: str = ""


class SearchResponse(BaseModel):
    """One entry per query: passages ``[passage_id, title, text, score]``, or null with a reason in ``errors``."""

    fingerprint: str
    result: list[list[tuple[str, str, str, float]] | None]
    errors: list[str | None]


class RetrieveRequest(BaseModel):
    """Search-R1's request; without ``topk``, or with 0, the server's default applies."""

    queries: list[str]
    topk: int | None = None
    return_scores: bool = False


class QueriesRequest(BaseModel):
    """R1-Searcher's request."""

    queries: list[str]
    k: int = DEFAULT_K


class QueryRequest(BaseModel):
    """ReSearch's request for one query."""

    query: str
    top_n: int = 10
    return_score: bool = False


class BatchQueryRequest(BaseModel):
    """ReSearch's request for several."""

    query: list[str]
    top_n: int = 10
    return_score: bool = False


def search_response(fingerprint: str, found: Sequence[Found]) -> dict[str, Any]:
    """Return the body of ``SearchResponse``. Scores survive JSON bit for bit."""
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
    """Return the results of a response, one entry per query."""
    return [
        RetrieverError(error or "no result and no error")
        if rows is None
        else [Passage(passage_id, title, text, score) for passage_id, title, text, score in rows]
        for rows, error in zip(response.result, response.errors, strict=True)
    ]


def retrieve_response(found: Sequence[Sequence[Passage]], *, scores: bool) -> dict[str, Any]:
    """Return Search-R1's response."""

    def entry(passage: Passage) -> dict[str, Any]:
        return {"document": _document(passage), "score": passage.score} if scores else _document(passage)

    return {"result": [[entry(passage) for passage in passages] for passages in found]}


def batch_query_response(found: Sequence[Sequence[Passage]], *, scores: bool) -> list[Any]:
    """Return ReSearch's response to several queries; that to one is the first element of each list."""
    documents = [[_document(passage) for passage in passages] for passages in found]
    return [documents, [[passage.score for passage in passages] for passages in found]] if scores else documents


def _document(passage: Passage) -> dict[str, str]:
    # Clients read the first line as the title, so a title must be one line.
    return {"id": passage.passage_id, "contents": f'"{one_line(passage.title)}"\n{passage.text}'}


def queries_response(queries: Sequence[str], found: Sequence[Sequence[Passage]]) -> dict[str, Any]:
    """Return R1-Searcher's response. The number before a line is its rank, which clients cut off."""
    lines = [
        [f"{rank}\t{one_line(passage.title)}   {one_line(passage.text)}" for rank, passage in enumerate(passages, 1)]
        for passages in found
    ]
    return {"queries": list(queries), "answers": lines}


def one_line(text: str) -> str:
    """Replace line ends and tabs by spaces."""
    return " ".join(text.split())
