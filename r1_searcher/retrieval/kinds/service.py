"""``retriever.kind: service``: a server of ``python -m stages.index serve``, or another project's."""

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
        settings = self.settings.retriever.service
        if settings.form != "own":
            from r1_searcher.retrieval.remote.forms import service_fingerprint

            # Without its address: a server may move, and serves the same.
            description = f"the server {settings.name}, asked in the form {settings.form}"
            return Identity(service_fingerprint(settings.form, settings.name), settings.name, description)
        from r1_searcher.retrieval.remote.client import ask_health

        health = ask_health(settings)
        return Identity(health.fingerprint, health.corpus, f"{health.description}; as a service")

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        settings = self.settings.retriever.service
        if settings.form != "own":
            from r1_searcher.retrieval.remote.other_projects import OtherServiceRetriever

            return OtherServiceRetriever(settings)
        from r1_searcher.retrieval.remote.client import ServiceRetriever

        return ServiceRetriever(settings)

    def identifiable(self) -> bool:
        return bool(self.settings.retriever.service.form != "own")
