"""``retriever.kind: online``: a web search engine."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import retriever
from r1_searcher.params import Params
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("online")
class OnlineKind(RetrieverKind):
    """The web through ``retriever.online``; its content may change."""

    settings: Params
    lasting = False

    def identify(self) -> Identity:
        from r1_searcher.retrieval.online.retriever import describe, online_fingerprint

        settings = self.settings.retriever.online
        return Identity(online_fingerprint(settings), "the web", describe(settings))

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.online.retriever import OnlineRetriever

        return OnlineRetriever(self.settings.retriever.online, take)
