"""``retriever``: what searches, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from r1_searcher.extensions import Point
from r1_searcher.names import name as checked_name
from r1_searcher.params.base import Count, Section
from r1_searcher.params.chosen import Extensible
from r1_searcher.points import RETRIEVERS


class Searches(Section):
    """Recorded searches: (retriever, query, k) → passages, in one file of ``folder``.

    ``record`` keeps every search and repeats none; ``replay`` serves from the file only, and a missing search stops the
    run; ``live`` does neither. ``auto``: record if the same search can give other results later (online), else live.
    """

    mode: Literal["auto", "live", "record", "replay"]
    folder: str  # empty: searches/ in the store


class Online(Section):
    """A web search engine's API, and the pages that it lists. Keys come only from the environment."""

    engine: Literal["serper", "tavily", "brave", "searxng"]
    url: str  # of the API; empty: the engine's own. SearXNG is self-hosted: http://localhost:8080/search
    key_variable: str  # environment variable with the key; empty: the engine's usual one
    language: str  # of the results, e.g. en
    pages: bool  # read the pages; false: the engine's snippets are the passages
    passage_words: Count  # words per passage of a page
    max_page_bytes: Count  # per page, decoded; the rest is not read
    allow_private_addresses: bool  # also read pages in this machine's own networks
    user_agent: str  # who requests pages; include an address at which you can be reached
    timeout: Annotated[float, Field(gt=0)]  # seconds for an engine's answer, and for a whole page including redirects
    attempts: Count  # per search, including the first
    backoff: Annotated[float, Field(gt=0)]  # seconds before the second attempt, doubled for each later one, with jitter
    max_wait: Annotated[float, Field(ge=0)]  # longest wait in seconds, even if the engine asks for more
    calls_a_second: Annotated[float, Field(gt=0)]
    concurrency: Count  # simultaneous calls and pages
    max_calls: Count  # per run (a profile with a seed), including retries; then it stops
    price_a_call: Annotated[float, Field(ge=0)]  # in the currency of max_cost
    max_cost: Annotated[float, Field(ge=0)]  # per run


class DenseSearch(Section):
    """How a dense index is searched. The flat one is exact."""

    device: Literal["auto", "cpu", "cuda"]  # for embedding the queries
    ef_search: Count  # hnsw, milvus: candidates kept while walking the graph
    probes: Count  # ivfpq: lists to search


class Hybrid(Section):
    """Reciprocal rank fusion of BM25 and dense."""

    rrf_k: Count  # a passage gets 1 / (rrf_k + rank) from each
    depth: Count  # ranks of each that take part


class Rerank(Section):
    """A cross-encoder over any retriever's results. Without ``model``: none."""

    model: str  # a sentence-transformers CrossEncoder folder or hub name, e.g. BAAI/bge-reranker-base
    depth: Count  # reranked passages per query
    max_tokens: Count  # of query and passage together
    batch: Count
    device: Literal["auto", "cpu", "cuda"]


class Service(Section):
    """A search server: this project's (``python -m stages.index serve``), or one of another project's form."""

    url: str
    # own: this project's; else r1_searcher/retrieval/remote/forms.py
    form: Literal["own", "search-r1", "r1-searcher", "flashrag", "flashrag-search"] = "own"
    name: str = ""  # of another project's server: stands for what it searches, which it does not say
    fingerprint: str  # of the retriever that it must serve; empty: the one it serves when a run begins
    key_variable: str = ""  # environment variable with the token that the server asks for; empty: none
    timeout: Annotated[float, Field(gt=0)]  # seconds for an answer
    wait: Annotated[float, Field(ge=0)]  # seconds for which an unresponsive server is retried

    @model_validator(mode="after")
    def _named(self) -> Service:
        if self.form == "own" and self.name:
            raise ValueError("name is for servers of another form: this project's own says what it serves")
        if self.form != "own" and not self.name:
            raise ValueError(
                f"name is missing: a server of the form {self.form} does not say what it searches, so give that a name "
                "and change it whenever the server searches something else"
            )
        if self.name:
            checked_name(self.name)
        if self.form != "own" and self.fingerprint:
            raise ValueError(f"fingerprint cannot be checked: a server of the form {self.form} states none")
        return self


class RetrieverParams(Extensible):
    """The retriever of training and evaluation."""

    points: ClassVar[Mapping[str, Point]] = {"kind": RETRIEVERS}
    section: ClassVar[str] = "retriever"

    kind: str  # a file of r1_searcher/retrieval/kinds, or a name of the user's own
    threads: Count = 1  # bm25: queries of a call that are searched in parallel
    dense: DenseSearch
    hybrid: Hybrid
    rerank: Rerank
    searches: Searches
    online: Online
    service: Service
