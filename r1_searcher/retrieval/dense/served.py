"""Vectors on a Milvus server: loaded by ``r1-searcher index load``, searched by ``retriever.kind: milvus``.

The collection's name ends in the fingerprint of corpus, model and settings, so one of another corpus is not found under
it. Passages stay in the index folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.keys import read_key
from r1_searcher.retrieval import bm25
from r1_searcher.retrieval.addresses import url_without_password
from r1_searcher.retrieval.dense import models
from r1_searcher.retrieval.dense.encoder import Embedding
from r1_searcher.retrieval.dense.retriever import DenseRetriever, embed_corpus, open_encoder
from r1_searcher.retrieval.identity import PASSAGES_FILE
from r1_searcher.retrieval.milvus import collection
from r1_searcher.retrieval.milvus.client import Milvus
from r1_searcher.retrieval.milvus.settings import MilvusSettings
from r1_searcher.retrieval.passage_file import PassageFile

_WHERE = "params.yaml, retriever.milvus"
_LOAD = "run `r1-searcher index load`"
_FORM = 1  # version of this code in the fingerprint


def served_identity(settings: params.Params, index: Path) -> tuple[str, str, str]:
    """Return fingerprint, corpus and description of a search, without asking the server."""
    dense, meta = _dense(settings), bm25.read_meta(index)
    name = _contents(dense, meta)
    effort = settings.retriever.dense.ef_search
    graph = f"hnsw {dense.hnsw.links}/{dense.hnsw.ef_construction}, ef {effort}"
    return artefacts.fingerprint([name, effort]), meta["corpus"], f"Milvus, {models.shown(dense.model)}, {graph}"


def load_server(settings: params.Params, server: MilvusSettings, index: Path, corpus: Path) -> tuple[int, str]:
    """Embed what is not embedded yet and send what the server lacks; return the number of vectors, and the collection.

    A load that was killed continues. Raises ``PipelineError``.
    """
    dense, meta = _dense(settings), bm25.read_meta(index)
    bm25.check_corpus(meta, index, corpus)
    milvus, name = _connect(server), _name(server, _contents(dense, meta))
    try:
        encoder = open_encoder(dense, dense.device, "params.yaml, index.dense.device")
        files = embed_corpus(corpus, meta["num_passages"], encoder, dense)
        if not milvus.asked("has_collection", name):
            collection.create(milvus, name, encoder.dimension)
        collection.index(milvus, name, dense.hnsw)
        total, found = int(meta["num_passages"]), collection.count(milvus, name)
        # Rows of a request that was under way may be missing below the number of rows that are there.
        for start in (max(0, found - collection.ROWS_AGAIN), 0):
            if found != total:
                collection.fill(milvus, name, files, start=start, resend=found > 0)
                milvus.asked("flush", name)
                found = collection.count(milvus, name)
        if found != total:
            raise PipelineError(f"{name} has {found:,} vectors, not {total:,}", where=_WHERE, fix=_LOAD)
    finally:
        milvus.close()
    return total, name


def open_server(
    settings: params.Params, server: MilvusSettings, index: Path, corpus: Path | None = None
) -> DenseRetriever:
    """Open the collection that belongs to the folder ``index``. Raises ``PipelineError`` if it is missing or not wholly
    loaded."""
    dense, meta = _dense(settings), bm25.read_meta(index)
    if corpus is not None:
        bm25.check_corpus(meta, index, corpus)
    milvus, name = _connect(server), _name(server, _contents(dense, meta))
    if not milvus.asked("has_collection", name):
        others = [other for other in milvus.asked("list_collections") if other.startswith(f"{server.collection}_")]
        known = f"; of other corpora, models or settings: {', '.join(sorted(others)[:5])}" if others else ""
        raise PipelineError(f"{server.uri} has no collection {name}{known}", where=_WHERE, fix=_LOAD)
    opened = collection.CollectionVectors(milvus, name, ef_search=settings.retriever.dense.ef_search, where=_WHERE)
    encoder = open_encoder(dense, settings.retriever.dense.device, "params.yaml, retriever.dense.device")
    if (opened.count, opened.dimension) != (meta["num_passages"], encoder.dimension):
        raise PipelineError(
            f"{name} has {opened.count:,} of {meta['num_passages']:,} vectors, of {opened.dimension} dimensions",
            where=_WHERE,
            fix=_LOAD,
        )
    fingerprint, _, _ = served_identity(settings, index)
    return DenseRetriever(encoder, opened, PassageFile(index / PASSAGES_FILE), fingerprint)


def _connect(server: MilvusSettings) -> Milvus:
    url_without_password(server.uri, where=f"{_WHERE}.uri", fix="e.g. http://milvus-host:19530")
    fix = "export USER:PASSWORD or a token under that name"
    key = read_key(server.key_variable, server.uri, where=f"{_WHERE}.key_variable", fix=fix)
    how: dict[str, Any] = {"timeout": server.timeout, "wait": server.wait, "database": server.database}
    return Milvus(server.uri, where=_WHERE, key=key, **how)


def _dense(settings: params.Params) -> params.Dense:
    dense = settings.index.dense
    if dense is None or not dense.model:
        raise PipelineError(
            "names no model", where="params.yaml, index.dense.model", fix="name it, because index.dense.kind is server"
        )
    return dense


def _contents(dense: params.Dense, meta: dict[str, Any]) -> str:
    """Return the fingerprint of a collection's contents."""
    embedding = vars(Embedding.of(dense, models.locate(dense.model, "params.yaml, index.dense.model")))
    made = {name: value for name, value in embedding.items() if name != "batch"}  # batches change last bits alone
    kept = {"corpus": meta["corpus"], "number": meta["num_passages"], "hnsw": dense.hnsw.model_dump()}
    return artefacts.fingerprint({**kept, "embedding": made, "storage": dense.storage, "form": _FORM})


def _name(server: MilvusSettings, contents: str) -> str:
    return f"{server.collection}_{contents}"
