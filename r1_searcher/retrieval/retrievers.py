"""The retriever of a run: the kind that ``retriever.kind`` names, shipped (r1_searcher/retrieval/kinds) or the user's.

``identify`` names what a search depends on without opening anything, so that a run whose rollouts are all stored opens
no index; ``open_retriever`` opens it. Reranking wraps any kind. So do recording and replay of searches
(``retriever.searches``, r1_searcher/retrieval/searches.py), which keep its identity: a replayed run has the recorded
run's keys.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import shipped
from r1_searcher.files.store import Store
from r1_searcher.params import Params, RetrieverParams
from r1_searcher.points import RETRIEVERS
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity, RetrieverKind, Take

_FOLDER = "searches"  # in the store


def identify(params: Params, *, index: Path) -> Identity:
    """Return the identity of the retriever of ``params`` over the index folder ``index``. Raises ``PipelineError``."""
    if params.retriever.searches.mode == "replay":
        return _replayed_identity(params, index)
    return _kind(params, index).identify()


def open_retriever(
    params: Params, *, index: Path, corpus: Path | None = None, fingerprint: str | None = None
) -> Retriever:
    """Open the retriever of ``params`` over the index folder ``index``.

    ``corpus``: the passages that the index must belong to; None: not checked. ``fingerprint``: the identity when the
    run made its keys; an index or service that was swapped since is refused. Raises ``PipelineError``, also for an
    unknown kind or a missing requirement of the kind.
    """
    opened = _open(params, index, corpus)
    if fingerprint not in (None, opened.fingerprint):
        raise PipelineError(
            f"the retriever has changed since this run began: {opened.fingerprint[:12]}, no longer {fingerprint[:12]}",
            where=f"retriever.kind {params.retriever.kind}",
            fix="run the same command again: it begins with the present retriever",
        )
    return opened


def _open(params: Params, index: Path, corpus: Path | None) -> Retriever:
    from r1_searcher.retrieval.searches import RecordedRetriever, RecordingRetriever, ReplayRetriever, SearchRecord

    kind, mode = _kind(params, index), params.retriever.searches.mode
    if mode == "replay":
        return ReplayRetriever(
            _replayed_identity(params, index).fingerprint, SearchRecord(record_folder(params), replay=True)
        )
    if mode == "live" or (mode == "auto" and kind.lasting):
        return kind.open(corpus, _process_budget())
    identity = kind.identify()
    record = SearchRecord(record_folder(params))
    record.introduce(
        RecordedRetriever(identity.fingerprint, params.retriever.kind, identity.corpus, identity.description)
    )
    opened = kind.open(corpus, lambda limit: record.take(identity.fingerprint, run_name(params), limit))
    return RecordingRetriever(opened, record)


def load_retriever(params: Params, *, index: Path, corpus: Path) -> str:
    """Send ``corpus`` to the server of the retriever; return what is there now. Raises ``PipelineError``."""
    chosen = params.retriever
    plain = chosen.model_copy(update={"rerank": chosen.rerank.model_copy(update={"model": ""})})
    return _kind(params.model_copy(update={"retriever": plain}), index).load(corpus)


def run_name(params: Params) -> str:
    """Return the run that paid calls are booked for: a profile with a seed.

    So all stages and restarts in its workspace share one budget, and changed parameters do not get a fresh one.
    """
    return f"{params.profile}, seed {params.seed}"


def record_folder(params: Params) -> Path:
    """Return the folder of recorded searches: ``retriever.searches.folder``, else in the store beside the rollouts."""
    folder = params.retriever.searches.folder
    return Path(folder) if folder else Store().root / _FOLDER


def _replayed_identity(params: Params, index: Path) -> Identity:
    """Return the identity of the recorded retriever that ``params`` name: the exact one if it can be identified without
    index and network, else the only one of its kind."""
    from r1_searcher.retrieval.searches import SearchRecord

    kind, name = _kind(params, index), params.retriever.kind
    record = SearchRecord(record_folder(params), replay=True)
    try:
        recorded = {one.fingerprint: one for one in record.retrievers() if one.kind == name}
    finally:
        record.close()
    if kind.identifiable():
        wanted = kind.identify().fingerprint
        if wanted not in recorded:
            known = "; ".join(one.description for one in recorded.values()) or "none"
            raise PipelineError(
                f"contains no searches of this retriever ({name} {wanted[:12]})",
                where=str(record.path),
                fix=f"recorded of this kind: {known}",
            )
    elif len(recorded) == 1:
        (wanted,) = recorded
    else:
        raise PipelineError(
            f"holds searches of {len(recorded)} retrievers of kind {name}, not of one", where=str(record.path)
        )
    found = recorded[wanted]
    return Identity(found.fingerprint, found.corpus, found.description)


def is_lasting(chosen: RetrieverParams) -> bool:
    """Return whether the same search will give the same passages later."""
    return kind_property(chosen, "lasting")


def kind_property(chosen: RetrieverParams, name: str) -> bool:
    """Return a property of the chosen kind: ``lasting``, ``vectors`` or ``remote`` of ``RetrieverKind``."""
    return bool(getattr(chosen.found("kind").value, name, getattr(RetrieverKind, name)))


def _kind(params: Params, index: Path) -> RetrieverKind:
    chosen = params.retriever
    found = RETRIEVERS.find(chosen.kind, chosen.extensions)
    kind: RetrieverKind
    if shipped(found.file):
        kind = found.value(params, index, chosen.parameters_of("kind"))
    else:
        from r1_searcher.retrieval.extension import ExtensionKind

        kind = ExtensionKind(params, index, chosen.parameters_of("kind"), found=found)
    return Reranked(params, index, inner=kind) if chosen.rerank.model else kind


@dataclass(frozen=True)
class Reranked(RetrieverKind):
    """Another kind whose results are reordered by a cross-encoder (``retriever.rerank``)."""

    settings: Params
    inner: RetrieverKind = field(kw_only=True)

    @property
    def lasting(self) -> bool:  # type: ignore[override]  # as the other kind
        return self.inner.lasting

    def identify(self) -> Identity:
        from r1_searcher.retrieval.dense.models import identity, shown
        from r1_searcher.retrieval.rerank import model_folder, reranked_fingerprint

        inner, settings = self.inner.identify(), self.settings.retriever.rerank
        model = identity(model_folder(settings))
        return Identity(
            reranked_fingerprint(inner.fingerprint, model, settings),
            inner.corpus,
            f"{inner.description}; first {settings.depth} reranked by {shown(settings.model)} ({model[:12]})",
        )

    def open(self, corpus: Path | None, take: Take) -> Retriever:
        from r1_searcher.retrieval.rerank import RerankingRetriever

        return RerankingRetriever(self.inner.open(corpus, take), self.settings.retriever.rerank)

    def identifiable(self) -> bool:
        return self.inner.identifiable()


def _process_budget() -> Take:
    """Return a function that counts the calls of this process only."""
    lock, calls = threading.Lock(), 0

    def take(limit: int) -> bool:
        nonlocal calls
        with lock:
            if calls >= limit:
                return False
            calls += 1
            return True

    return take
