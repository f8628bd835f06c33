"""``retriever.kind: lucene``: a Lucene index that was taken over."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import retriever
from r1_searcher.retrieval.lucene.settings import LuceneSettings
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("lucene", parameters=LuceneSettings)
class LuceneKind(RetrieverKind):
    """Anserini's search over the index folder's lucene/."""

    parameters: LuceneSettings

    def identify(self) -> Identity:
        from r1_searcher.retrieval.lucene.index import describe, lucene_fingerprint, read_lucene_meta

        meta, settings = read_lucene_meta(self.index), self.parameters
        return Identity(lucene_fingerprint(meta, settings), meta["corpus"], describe(settings))

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.lucene.index import open_lucene

        return open_lucene(self.parameters, self.index, corpus)

    def identifiable(self) -> bool:
        return (self.index / "lucene/meta.json").is_file()
