"""``retriever.kind: milvus``: the passages' vectors on a Milvus server. (Embedded: ``index.dense.kind: milvus``.)"""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import retriever
from r1_searcher.params import Params
from r1_searcher.retrieval.milvus.settings import MilvusSettings
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("milvus", parameters=MilvusSettings)
class MilvusKind(RetrieverKind):
    """A collection on a server, which may disappear; the index folder has the passages."""

    settings: Params
    parameters: MilvusSettings
    lasting = False
    vectors = True

    def identify(self) -> Identity:
        from r1_searcher.retrieval.dense.served import served_identity

        return Identity(*served_identity(self.settings, self.index))

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.dense.served import open_server

        return open_server(self.settings, self.parameters, self.index, corpus)

    def load(self, corpus: Path) -> str:
        from r1_searcher.retrieval.dense.served import load_server

        number, name = load_server(self.settings, self.parameters, self.index, corpus)
        return f"{number:,} vectors in the collection {name} on {self.parameters.uri}"

    def identifiable(self) -> bool:
        return (self.index / "meta.json").is_file()
