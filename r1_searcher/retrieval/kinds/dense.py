"""``retriever.kind: dense``: the vectors of the passages, beside the BM25 index."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import retriever
from r1_searcher.params import Params
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("dense")
class DenseKind(RetrieverKind):
    """Nearest vectors in the index folder's dense/."""

    settings: Params
    vectors = True

    def identify(self) -> Identity:
        from r1_searcher.retrieval.dense.retriever import dense_fingerprint, describe, read_meta

        meta = read_meta(self.index)
        return Identity(dense_fingerprint(meta, self.settings.retriever.dense), meta["corpus"], describe(meta))

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.dense.retriever import open_dense, read_meta
        from r1_searcher.retrieval.dense.unchanged import check_unchanged_dense

        built = self.settings.index.dense
        check_unchanged_dense(read_meta(self.index), built, self.index)
        model = "" if built is None else built.model
        return open_dense(self.index, self.settings.retriever.dense, corpus=corpus, model=model)

    def identifiable(self) -> bool:
        return (self.index / "dense/meta.json").is_file()
