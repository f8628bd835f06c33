"""Which retriever a run searches with: ``retriever.kind`` of the parameters, and one entry here a kind.

``identify`` says what a search depends on without opening anything, so that a run whose rollouts are all
stored opens no index; ``open_retriever`` opens it. Recording and replay of searches
(``retriever.searches``, r1_searcher/retrieval/searches.py) go round whichever kind is chosen, and do not change
its identity: a replayed run is keyed as the recorded one was.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from r1_searcher.errors import PipelineError
from r1_searcher.files.store import Store
from r1_searcher.params import Params
from r1_searcher.types.protocols import Retriever

FOLDER = "searches"  # in the store


@dataclass(frozen=True)
class Identity:
    """What is searched, and how. ``fingerprint``: what rollouts are keyed by, and the opened retriever's own.
    ``corpus``: fingerprint (or name) of what is searched. ``description``: the method and its settings, for people."""

    fingerprint: str
    corpus: str
    description: str


Take = Callable[[int], bool]  # books one paid call; false where so many were booked before


@dataclass(frozen=True)
class Kind:
    """One kind of retriever: how it is named without being opened, and how it is opened.

    Both get the parameters and the index folder, ``open`` also the corpus that the index must belong to
    (None: not checked) and where paid calls are booked. ``named``: whether ``identify`` works here as it
    is, index and network apart. ``lasting``: whether the same search gives the same passages tomorrow;
    where not, searches are recorded unless the user says otherwise.
    """

    identify: Callable[[Params, Path], Identity]
    open: Callable[[Params, Path, Path | None, Take], Retriever]
    named: Callable[[Path], bool]
    lasting: bool = True


def _identify_bm25(params: Params, index: Path) -> Identity:
    from r1_searcher.retrieval.bm25 import read_meta
    from r1_searcher.retrieval.identity import search_fingerprint

    meta = read_meta(index)
    settings = ", ".join(f"{key} {value}" for key, value in sorted(meta["settings"].items()))
    return Identity(search_fingerprint(meta), meta["corpus"], f"bm25s, {settings}")


def _open_bm25(params: Params, index: Path, corpus: Path | None, take: Take) -> Retriever:
    from r1_searcher.retrieval.bm25 import open_index

    return open_index(index, corpus=corpus, threads=params.retriever.threads)


def _identify_dense(params: Params, index: Path) -> Identity:
    from r1_searcher.retrieval.dense.retriever import dense_fingerprint, describe, read_meta

    meta = read_meta(index)
    return Identity(dense_fingerprint(meta, params.retriever.dense), meta["corpus"], describe(meta))


def _open_dense(params: Params, index: Path, corpus: Path | None, take: Take) -> Retriever:
    from r1_searcher.retrieval.dense.retriever import open_dense

    model = "" if params.index.dense is None else params.index.dense.model
    return open_dense(index, params.retriever.dense, corpus=corpus, model=model)


def _identify_hybrid(params: Params, index: Path) -> Identity:
    from r1_searcher.retrieval.hybrid import hybrid_fingerprint

    parts = [_identify_bm25(params, index), _identify_dense(params, index)]
    settings = params.retriever.hybrid
    names = " + ".join(part.description for part in parts)
    return Identity(
        hybrid_fingerprint([part.fingerprint for part in parts], settings),
        parts[0].corpus,
        f"hybrid (RRF {settings.rrf_k}, depth {settings.depth}) of {names}",
    )


def _open_hybrid(params: Params, index: Path, corpus: Path | None, take: Take) -> Retriever:
    from r1_searcher.retrieval.hybrid import HybridRetriever

    parts = [opener(params, index, corpus, take) for opener in (_open_bm25, _open_dense)]
    return HybridRetriever(parts, params.retriever.hybrid)


def _identify_online(params: Params, index: Path) -> Identity:
    from r1_searcher.retrieval.online.retriever import describe, online_fingerprint

    settings = params.retriever.online
    return Identity(online_fingerprint(settings), "the web", describe(settings))


def _open_online(params: Params, index: Path, corpus: Path | None, take: Take) -> Retriever:
    from r1_searcher.retrieval.online.retriever import OnlineRetriever

    return OnlineRetriever(params.retriever.online, take)


def _has_bm25(index: Path) -> bool:
    return (index / "meta.json").is_file()


def _has_dense(index: Path) -> bool:
    return (index / "dense/meta.json").is_file()


def _identify_service(params: Params, index: Path) -> Identity:
    from r1_searcher.retrieval.remote.client import ask_health

    health = ask_health(params.retriever.service)
    return Identity(health.fingerprint, health.corpus, f"{health.description}; as a service")


def _open_service(params: Params, index: Path, corpus: Path | None, take: Take) -> Retriever:
    from r1_searcher.retrieval.remote.client import ServiceRetriever

    return ServiceRetriever(params.retriever.service)


KINDS: dict[str, Kind] = {
    "bm25": Kind(_identify_bm25, _open_bm25, named=_has_bm25),
    "dense": Kind(_identify_dense, _open_dense, named=_has_dense),
    "hybrid": Kind(_identify_hybrid, _open_hybrid, named=lambda index: _has_bm25(index) and _has_dense(index)),
    "online": Kind(_identify_online, _open_online, named=lambda index: True, lasting=False),
    # Whoever serves can serve something else tomorrow, or nothing.
    "service": Kind(_identify_service, _open_service, named=lambda index: False, lasting=False),
}


def identify(params: Params, *, index: Path) -> Identity:
    """The retriever of ``params`` over the index folder ``index``, not opened. Raises ``PipelineError``."""
    if params.retriever.searches.mode == "replay":
        return _replayed(params, index)
    return _kind(params).identify(params, index)


def open_retriever(
    params: Params, *, index: Path, corpus: Path | None = None, fingerprint: str | None = None
) -> Retriever:
    """Open the retriever of ``params`` over the index folder ``index``.

    ``corpus``: the passages that the index must belong to; None: not checked. ``fingerprint``: what ``identify`` said
    when the run made its keys; an index or a service that was swapped since is refused. Raises ``PipelineError``,
    also for an unknown kind, and for whatever that kind needs and does not find.
    """
    opened = _open(params, index, corpus)
    if fingerprint not in (None, opened.fingerprint):
        raise PipelineError(
            f"the retriever has changed since this run began: {opened.fingerprint[:12]}, no longer {fingerprint[:12]}",
            where=f"retriever.kind {params.retriever.kind}",
            fix="the same command again begins with the present one",
        )
    return opened


def _open(params: Params, index: Path, corpus: Path | None) -> Retriever:
    from r1_searcher.retrieval.searches import Record, Recorded, RecordingRetriever, ReplayRetriever

    kind, mode = _kind(params), params.retriever.searches.mode
    if mode == "replay":
        return ReplayRetriever(_replayed(params, index).fingerprint, Record(record_folder(params), replay=True))
    if mode == "live" or (mode == "auto" and kind.lasting):
        return kind.open(params, index, corpus, _counter())
    identity = kind.identify(params, index)
    record = Record(record_folder(params))
    record.introduce(Recorded(identity.fingerprint, params.retriever.kind, identity.corpus, identity.description))
    opened = kind.open(params, index, corpus, lambda limit: record.take(identity.fingerprint, run_name(params), limit))
    return RecordingRetriever(opened, record)


def run_name(params: Params) -> str:
    """The run that paid calls are booked for: a profile with a seed. So whatever starts in its workspace, again or for
    another stage, has one budget together, and no change of a parameter is a way to a fresh one."""
    return f"{params.profile}, seed {params.seed}"


def record_folder(params: Params) -> Path:
    """Where searches are recorded: ``retriever.searches.folder``, else in the store, beside the rollouts."""
    folder = params.retriever.searches.folder
    return Path(folder) if folder else Store().root / FOLDER


def _replayed(params: Params, index: Path) -> Identity:
    """The identity of the recorded retriever that ``params`` name: the same as before, where that can be told
    without index and network, else the only one of its kind."""
    from r1_searcher.retrieval.searches import Record

    kind, name = _kind(params), params.retriever.kind
    record = Record(record_folder(params), replay=True)
    try:
        recorded = {one.fingerprint: one for one in record.retrievers() if one.kind == name}
    finally:
        record.close()
    if kind.named(index):
        wanted = kind.identify(params, index).fingerprint
        if wanted not in recorded:
            known = "; ".join(one.description for one in recorded.values()) or "none"
            raise PipelineError(
                f"holds no searches of this retriever ({name} {wanted[:12]})",
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


def _kind(params: Params) -> Kind:
    name = params.retriever.kind
    if name not in KINDS:
        raise PipelineError(
            f"no retriever {name!r}", where="params.yaml, retriever.kind", fix=f"known: {', '.join(KINDS)}"
        )
    kind = KINDS[name]
    if not params.retriever.rerank.model:
        return kind
    return Kind(partial(_identify_reranked, kind), partial(_open_reranked, kind), kind.named, kind.lasting)


def _identify_reranked(kind: Kind, params: Params, index: Path) -> Identity:
    from r1_searcher.retrieval.dense.models import identity, shown
    from r1_searcher.retrieval.rerank import model_folder, reranked_fingerprint

    inner, settings = kind.identify(params, index), params.retriever.rerank
    model = identity(model_folder(settings))
    return Identity(
        reranked_fingerprint(inner.fingerprint, model, settings),
        inner.corpus,
        f"{inner.description}; first {settings.depth} reranked by {shown(settings.model)} ({model[:12]})",
    )


def _open_reranked(kind: Kind, params: Params, index: Path, corpus: Path | None, take: Take) -> Retriever:
    from r1_searcher.retrieval.rerank import RerankingRetriever

    return RerankingRetriever(kind.open(params, index, corpus, take), params.retriever.rerank)


def _counter() -> Take:
    """Books calls of this process alone."""
    lock, calls = threading.Lock(), 0

    def take(limit: int) -> bool:
        nonlocal calls
        with lock:
            if calls >= limit:
                return False
            calls += 1
            return True

    return take
