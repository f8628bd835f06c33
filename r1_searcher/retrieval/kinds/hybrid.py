"""``retriever.kind: hybrid``: BM25 and dense, fused."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import retriever
from r1_searcher.params import Params
from r1_searcher.retrieval.kinds.bm25 import Bm25Kind
from r1_searcher.retrieval.kinds.dense import DenseKind
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("hybrid")
class HybridKind(RetrieverKind):
    """Reciprocal rank fusion of both over one index folder."""

    settings: Params
    vectors = True

    def identify(self) -> Identity:
        from r1_searcher.retrieval.hybrid import hybrid_fingerprint

        parts = [part.identify() for part in self._parts()]
        settings = self.settings.retriever.hybrid
        names = " + ".join(part.description for part in parts)
        return Identity(
            hybrid_fingerprint([part.fingerprint for part in parts], settings),
            parts[0].corpus,
            f"hybrid (RRF {settings.rrf_k}, depth {settings.depth}) of {names}",
        )

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.hybrid import HybridRetriever

        opened = [part.open(corpus, take) for part in self._parts()]
        return HybridRetriever(opened, self.settings.retriever.hybrid)

    def identifiable(self) -> bool:
        return all(part.identifiable() for part in self._parts())

    def _parts(self) -> list[RetrieverKind]:
        return [Bm25Kind(self.settings, self.index), DenseKind(self.settings, self.index)]
