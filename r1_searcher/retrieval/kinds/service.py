"""``retriever.kind: service``: a server of ``python -m stages.index serve``."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.extend import retriever
from r1_searcher.params import Params
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take


@retriever("service")
class ServiceKind(RetrieverKind):
    """The retriever behind ``retriever.service``; the server may serve another one later, or none."""

    settings: Params
    lasting = False
    remote = True

    def identify(self) -> Identity:
        from r1_searcher.retrieval.remote.client import ask_health

        health = ask_health(self.settings.retriever.service)
        return Identity(health.fingerprint, health.corpus, f"{health.description}; as a service")

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.remote.client import ServiceRetriever

        return ServiceRetriever(self.settings.retriever.service)

    def identifiable(self) -> bool:
        return False
