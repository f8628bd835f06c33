"""Hybrid search: BM25 and dense, joined by reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009)."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher import params
from r1_searcher.files import artefacts
from r1_searcher.types.protocols import Passage, Retriever, Windows, search_each, whole

_FORM = 1  # version of this code in the fingerprint: raise it if the same rankings are fused differently


def fuse(rankings: Sequence[Sequence[Passage]], rrf_k: int, k: int) -> list[Passage]:
    """Return the best ``k`` by Σ 1 / (rrf_k + rank), ranks from 1; a ranking without the passage adds nothing.

    Ties keep their order of first occurrence, ranking by ranking.
    """
    sums: dict[str, float] = {}
    passages: dict[str, Passage] = {}
    for ranking in rankings:
        for rank, passage in enumerate(ranking, 1):
            sums[passage.passage_id] = sums.get(passage.passage_id, 0.0) + 1 / (rrf_k + rank)
            passages.setdefault(passage.passage_id, passage)
    best = sorted(sums, key=lambda name: -sums[name])[:k]  # stable
    return [Passage(name, passages[name].title, passages[name].text, sums[name]) for name in best]


def hybrid_fingerprint(parts: Sequence[str], settings: params.Hybrid) -> str:
    """Return the fingerprint of a hybrid search. ``parts``: the fingerprints of its retrievers."""
    return artefacts.fingerprint([*parts, settings.model_dump(), {"form": _FORM}])


class HybridRetriever:
    """Searches with several retrievers over one corpus and fuses their rankings."""

    fingerprint: str

    def __init__(self, retrievers: Sequence[Retriever], settings: params.Hybrid) -> None:
        self._retrievers, self._settings = retrievers, settings
        self.fingerprint = hybrid_fingerprint([one.fingerprint for one in retrievers], settings)

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """See ``Windows``; all of them search one corpus."""
        opens = next(one for one in self._retrievers if isinstance(one, Windows))
        return opens.around(passage, before, after)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the best ``k`` per query of each retriever's first ``depth``."""
        depth = max(self._settings.depth, k)
        asked = [whole(search_each(one, queries, depth)) for one in self._retrievers]
        return [fuse(rankings, self._settings.rrf_k, k) for rankings in zip(*asked, strict=True)]
