"""``retriever.kind: bm25``: the BM25 index of the corpus."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import retriever
from r1_searcher.params import Params
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("bm25")
class Bm25Kind(RetrieverKind):
    """BM25 over the index folder."""

    settings: Params

    def identify(self) -> Identity:
        from r1_searcher.retrieval import word_settings
        from r1_searcher.retrieval.bm25 import read_meta
        from r1_searcher.retrieval.identity import search_fingerprint

        meta = read_meta(self.index)
        word_settings.check_unchanged(meta["settings"], self.settings.index, self.index)
        settings = ", ".join(f"{key} {value}" for key, value in sorted(word_settings.shown(meta["settings"]).items()))
        return Identity(search_fingerprint(meta), meta["corpus"], f"bm25s, {settings}")

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval import word_settings
        from r1_searcher.retrieval.bm25 import open_index, read_meta

        word_settings.check_unchanged(read_meta(self.index)["settings"], self.settings.index, self.index)
        return open_index(self.index, corpus=corpus, threads=self.settings.retriever.threads)

    def identifiable(self) -> bool:
        return (self.index / "meta.json").is_file()
