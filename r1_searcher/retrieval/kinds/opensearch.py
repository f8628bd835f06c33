"""``retriever.kind: opensearch``: BM25 on an OpenSearch or Elasticsearch cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_searcher.extend import retriever
from r1_searcher.params import Params
from r1_searcher.retrieval.opensearch.settings import OpenSearchSettings
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("opensearch", parameters=OpenSearchSettings)
class OpenSearchKind(RetrieverKind):
    """An index on a cluster, which may disappear; the index folder has the passages."""

    settings: Params
    parameters: OpenSearchSettings
    lasting = False

    def identify(self) -> Identity:
        from r1_searcher.retrieval.opensearch.index import search_identity
        from r1_searcher.retrieval.opensearch.retriever import describe

        meta, settings = self._meta(), self.parameters
        return Identity(search_identity(meta, settings.flavour), meta["corpus"], describe(settings, meta))

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.opensearch.retriever import open_cluster

        self._meta()
        return open_cluster(self.parameters, self.index, corpus)

    def load(self, corpus: Path) -> str:
        from r1_searcher.retrieval.opensearch.retriever import load_cluster

        self._meta()
        number = load_cluster(self.parameters, self.index, corpus)
        return f"{number:,} passages in the index {self.parameters.name!r} on {self.parameters.url}"

    def identifiable(self) -> bool:
        return (self.index / "meta.json").is_file()

    def _meta(self) -> dict[str, Any]:
        from r1_searcher.retrieval import word_settings
        from r1_searcher.retrieval.bm25 import read_meta

        meta = read_meta(self.index)
        word_settings.check_unchanged(meta["settings"], self.settings.index, self.index)
        return meta
