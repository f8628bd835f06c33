"""``retriever``: what searches, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from r1_searcher.extensions import Point
from r1_searcher.params.base import Count, Section
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import RETRIEVERS


class Searches(Section):
    """Recorded searches: (retriever, query, k) → passages, in one file of ``folder``.

    ``record`` keeps every search and makes none twice; ``replay`` serves from the file alone, and a search
    that is not there stops the run; ``live`` does neither. ``auto``: record where the same search can give
    something else tomorrow (online), else live.
    """

    mode: Literal["auto", "live", "record", "replay"]
    folder: str  # empty: searches/ in the store


class Online(Section):
    """A web search engine's API, and the pages that it names. Keys come from the environment alone."""

    engine: Literal["serper", "tavily", "brave", "searxng"]
    url: str  # of the API; empty: the engine's own. SearXNG is self-hosted: http://localhost:8080/search
    key_variable: str  # environment variable with the key; empty: the engine's usual one
    language: str  # of the results, e.g. en
    pages: bool  # read the pages; false: the engine's snippets are the passages
    passage_words: Count  # a page is cut into passages of so many words
    max_page_bytes: Count  # of a page, decoded; what follows is not read
    allow_private_addresses: bool  # also read pages inside this machine's own networks
    user_agent: str  # who asks for pages; put an address here under which you can be reached
    timeout: Annotated[float, Field(gt=0)]  # seconds for an engine to answer, and for a page in all, redirects included
    attempts: Count  # of one search, the first included
    backoff: Annotated[float, Field(gt=0)]  # seconds before the second attempt, doubled for each after it, with jitter
    max_wait: Annotated[float, Field(ge=0)]  # longest wait in seconds, also where the engine asks for more
    calls_a_second: Annotated[float, Field(gt=0)]
    concurrency: Count  # calls, and pages, at a time
    max_calls: Count  # of a run (a profile with a seed), retries included; then it stops
    price_a_call: Annotated[float, Field(ge=0)]  # in the currency of max_cost
    max_cost: Annotated[float, Field(ge=0)]  # of a run


class DenseSearch(Section):
    """How a dense index is searched. The flat one is exact."""

    device: Literal["auto", "cpu", "cuda"]  # of embedding the queries
    ef_search: Count  # hnsw: candidates that are kept while the graph is walked
    probes: Count  # ivfpq: lists that are looked into


class Hybrid(Section):
    """Reciprocal rank fusion of BM25 and dense."""

    rrf_k: Count  # a passage gets 1 / (rrf_k + rank) of each
    depth: Count  # ranks of each that take part


class Rerank(Section):
    """A cross-encoder over what the retriever finds, whatever its kind. No ``model``: none."""

    model: str  # a sentence-transformers CrossEncoder folder or hub name, e.g. BAAI/bge-reranker-base
    depth: Count  # passages of a query that are reranked
    max_tokens: Count  # of query and passage together
    batch: Count
    device: Literal["auto", "cpu", "cuda"]


class Service(Section):
    """A retrieval service (``python -m stages.index serve``), where the index lives elsewhere."""

    url: str
    fingerprint: str  # the retriever that it must serve; empty: whichever it serves when a run begins
    timeout: Annotated[float, Field(gt=0)]  # seconds for an answer
    wait: Annotated[float, Field(ge=0)]  # seconds for which one that does not answer is asked again


class RetrieverParams(Extensible):
    """Which retriever searches, in training and evaluation alike."""

    points: ClassVar[Mapping[str, Point]] = {"kind": RETRIEVERS}
    section: ClassVar[str] = "retriever"

    kind: str  # a file of r1_searcher/retrieval/kinds, or a name of the user's own
    threads: Count = 1  # bm25: queries of a call that are searched at once
    dense: DenseSearch
    hybrid: Hybrid
    rerank: Rerank
    searches: Searches
    online: Online
    service: Service
