"""The ``Retriever`` protocol over an index on a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.net.retries import TryAgain
from r1_searcher.retrieval import bm25, word_settings
from r1_searcher.retrieval.identity import PASSAGES_FILE
from r1_searcher.retrieval.opensearch.client import SECTION, Cluster, reason
from r1_searcher.retrieval.opensearch.index import check, load, search_identity
from r1_searcher.retrieval.opensearch.settings import OpenSearchSettings
from r1_searcher.retrieval.passage_file import PassageFile
from r1_searcher.retrieval.tokenizer import Tokenizer
from r1_searcher.types.protocols import Passage, RetrieverError, whole


def describe(settings: OpenSearchSettings, meta: dict[str, Any]) -> str:
    """Return the method and its settings, for people and protocol cards; without the address."""
    chosen = ", ".join(f"{key} {value}" for key, value in sorted(word_settings.shown(meta["settings"]).items()))
    return f"{settings.flavour}, {chosen}"


def load_cluster(settings: OpenSearchSettings, index: Path, corpus: Path) -> int:
    """Load the passages of ``corpus`` into the cluster; return their number. ``index``: the folder of its BM25
    index, whose settings hold. Raises ``PipelineError``."""
    meta = bm25.read_meta(index)
    bm25.check_corpus(meta, index, corpus)
    word_settings.check_form(meta, index)
    tokenizer = word_settings.index_tokenizer(meta["settings"], index)
    return load(Cluster(settings), settings, meta, tokenizer, corpus)


def open_cluster(settings: OpenSearchSettings, index: Path, corpus: Path | None) -> OpenSearchRetriever:
    """Open the index on the cluster that belongs to the folder ``index``. Raises ``PipelineError`` for an index that is
    missing, not wholly loaded, or of another corpus."""
    meta = bm25.read_meta(index)
    if corpus is not None:
        bm25.check_corpus(meta, index, corpus)
    word_settings.check_form(meta, index)
    tokenizer = word_settings.index_tokenizer(meta["settings"], index)
    cluster = Cluster(settings)
    check(cluster, settings, meta)
    passages = PassageFile(index / PASSAGES_FILE)
    return OpenSearchRetriever(cluster, settings, search_identity(meta, settings.flavour), tokenizer, passages)


class OpenSearchRetriever:
    """Searches the cluster; titles and texts come from the index folder."""

    fingerprint: str

    def __init__(
        self,
        cluster: Cluster,
        settings: OpenSearchSettings,
        fingerprint: str,
        tokenizer: Tokenizer,
        passages: PassageFile,
    ) -> None:
        self.fingerprint = fingerprint
        self._cluster, self._settings, self._passages = cluster, settings, passages
        self._tokenizer = tokenizer

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """See ``Windows``."""
        return self._passages.around(passage.passage_id, before, after)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the best ``k`` passages per query, equal scores in corpus order, as the local BM25 does."""
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        words = {query: " ".join(self._tokenizer(query)) for query in queries}
        known: dict[str, list[Passage] | RetrieverError] = {"": []}
        for part in self._parts(sorted({text for text in words.values() if text})):
            known.update(zip(part, self._found(part, k), strict=True))
        return whole([known[words[query]] for query in queries])

    def _parts(self, words: list[str]) -> Iterator[list[str]]:
        size = self._settings.queries_a_request
        yield from (words[first : first + size] for first in range(0, len(words), size))

    def _found(self, words: list[str], k: int) -> list[list[Passage] | RetrieverError]:
        # Frequencies over all shards, and ties by row: the number of shards changes no result.
        head = json.dumps({"search_type": "dfs_query_then_fetch"})
        lines = "".join(f"{head}\n{json.dumps(_query(text, k))}\n" for text in words)
        try:
            reply = self._cluster.ask("POST", f"/{self._settings.name}/_msearch", lines)
        except TryAgain as error:
            return [RetrieverError(f"the cluster: {error}") for _ in words]
        if reply.status != 200:
            raise PipelineError(f"{self._cluster.url} refuses searches: {reply.words()}", where=SECTION)
        answers = reply.content.get("responses", [])
        if len(answers) != len(words):
            raise PipelineError(f"{self._cluster.url} answers queries that were not asked", where=SECTION)
        return [self._read(answer) for answer in answers]

    def _read(self, answer: Any) -> list[Passage] | RetrieverError:
        if "error" in answer:
            return RetrieverError(f"the cluster: {reason(answer['error'])}")
        if answer.get("timed_out") or answer.get("_shards", {}).get("failed"):
            return RetrieverError("the cluster: not all shards answered")
        found = [(int(hit["sort"][1]), float(hit["sort"][0])) for hit in answer["hits"]["hits"]]
        if any(not 0 <= row < len(self._passages) for row, _ in found):
            raise PipelineError("the cluster finds passages that are not in the corpus", where=f"{SECTION}.name")
        return [self._passages.get(row, score) for row, score in found]


def _query(words: str, k: int) -> dict[str, Any]:
    return {
        "query": {"match": {"words": words}},
        "size": k,
        "_source": False,
        "track_total_hits": False,
        "sort": [{"_score": "desc"}, {"row": "asc"}],
    }
