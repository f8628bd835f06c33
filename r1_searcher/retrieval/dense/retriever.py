"""The dense index beside the BM25 one, and the ``Retriever`` over it.

``<index>/dense/`` holds ``vectors.faiss`` (or ``milvus.db/``) and ``meta.json``: corpus, model (sha256), settings. Its
rows refer to the passages in the index folder (r1_searcher/retrieval/bm25.py), which are stored once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.files import passages as corpora
from r1_searcher.files.store import Store
from r1_searcher.retrieval import bm25
from r1_searcher.retrieval.build import META_FILE
from r1_searcher.retrieval.dense import models, shards, vectors
from r1_searcher.retrieval.dense.encoder import Embedding, Encoder
from r1_searcher.retrieval.identity import PASSAGES_FILE
from r1_searcher.retrieval.milvus import embedded
from r1_searcher.retrieval.passage_file import PassageFile
from r1_searcher.shown import show
from r1_searcher.types.protocols import Passage

DENSE_FOLDER, VECTORS_FILE = "dense", "vectors.faiss"
_REBUILD = "run `dvc repro index`, or `python -m stages.index`"
_WHERE = "params.yaml, index.dense"
# Version of this code in the fingerprint: raise it if the same model and passages give other vectors, or the same
# vectors other results. Not the vectors' sha256: their last bits differ between kinds of processors.
_FORM = 1


def check_dense(settings: params.Params, number: int) -> None:
    """Raise ``PipelineError`` for whatever ``add_dense`` would refuse of ``number`` passages: package, model, prefixes,
    similarity, device, faiss' settings. Called before BM25 is built."""
    dense = settings.index.dense
    if dense is None or not dense.model or dense.kind == "server":
        return
    models.library(_WHERE)
    dimension = open_encoder(dense, dense.device, f"{_WHERE}.model").dimension
    if dense.takeover:
        return  # its kind is that of the existing vectors, which take_over checks
    embedded.check() if dense.kind == "milvus" else vectors.check(dense, number, dimension)


def add_dense(corpus: Path, settings: params.Params, index: Path) -> None:
    """Build the dense index that ``index.dense`` asks for, with ``threads``; do nothing if it names no model."""
    dense = settings.index.dense
    if dense is None or not dense.model:
        return
    if dense.kind == "server":
        show("index: no vectors here (index.dense.kind: server); `r1-searcher index load` sends them to the server")
        return
    models.library(_WHERE)
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)  # the vectors' last bits depend on it
    try:
        meta = build_dense(corpus, dense, index, threads=settings.threads)
    finally:
        torch.set_num_threads(before)
    shape = f"{meta['num_passages']:,} vectors of {meta['dimension']} dimensions"
    show(f"index: {shape}, {dense.kind} -> {index / DENSE_FOLDER}")


def build_dense(
    corpus: Path, settings: params.Dense, index: Path, *, threads: int, store: Store | None = None
) -> dict[str, Any]:
    """Embed the passages of a corpus folder and write ``<index>/dense``, whole; return its meta.

    ``index`` must hold the BM25 index of the same corpus. Shards of vectors are kept in ``store`` (default: the
    project's), so that a killed build continues. Raises ``PipelineError`` for a missing package, model, or prefix.
    """
    base = bm25.read_meta(index)
    if base["corpus"] != corpora.fingerprint(corpus):
        raise PipelineError("the index belongs to another corpus", where=str(index), fix=_REBUILD)
    embedded.check() if settings.kind == "milvus" else vectors.library()  # fail before an hour of embedding
    where = f"{_WHERE}.model"
    encoder = open_encoder(settings, settings.device, where)
    files = embed_corpus(corpus, base["num_passages"], encoder, settings, store)
    with artefacts.atomic(index / DENSE_FOLDER, folder=True) as draft:
        if settings.kind == "milvus":
            dimension = encoder.dimension
            count = embedded.build(files, settings.hnsw, draft / embedded.FOLDER, dimension)
        else:
            count, dimension = vectors.build(files, settings, draft / VECTORS_FILE, threads)
        graph = {"hnsw"} if settings.kind == "milvus" else {settings.kind} & {"hnsw", "ivfpq"}
        kept = settings.model_dump(include={"kind", "storage"} | graph)
        meta = make_meta(encoder, settings.model, kept, base["corpus"], (count, dimension), **_made_with(settings.kind))
        artefacts.write_json(draft / META_FILE, meta)
    finish(index, base, meta)
    return meta


def finish(index: Path, base: dict[str, Any], meta: dict[str, Any]) -> None:
    """Tell those that depend only on the index folder's meta.json (``base``) that the vectors changed."""
    artefacts.write_json(index / META_FILE, {**base, "dense": meta["fingerprint"]})
    sums.renew(index)


def open_encoder(settings: params.Dense, device: Literal["auto", "cpu", "cuda"], where: str) -> Encoder:
    """Open the model that ``index.dense`` names. Raises ``PipelineError``."""
    folder = models.locate(settings.model, f"{_WHERE}.model")
    return Encoder(folder, Embedding.of(settings, folder), models.chosen_device(device, where))


def embed_corpus(
    corpus: Path, number: int, encoder: Encoder, settings: params.Dense, store: Store | None = None
) -> list[Path]:
    """Return the files with the vectors of a corpus' passages, embedding those that ``store`` has not."""
    texts, kept = shards.corpus_texts(corpus), store or Store()
    how: dict[str, Any] = {"passages_a_shard": settings.passages_a_shard, "storage": settings.storage}
    return shards.embed(texts, number, encoder, kept, **how)


def _made_with(kind: str) -> dict[str, str]:
    return {"milvus_lite": version("milvus-lite")} if kind == "milvus" else {"faiss": vectors.library().__version__}


def make_meta(
    encoder: Encoder, model: str, settings: dict[str, Any], corpus: str, shape: tuple[int, int], **made_with: Any
) -> dict[str, Any]:
    """Return the meta of a dense index. ``shape``: vectors and dimension; ``made_with``: what else identifies it."""
    made_by = {name: value for name, value in encoder.depends_on().items() if name != "code"}
    meta: dict[str, Any] = {
        "corpus": corpus,
        "embedding": vars(encoder.embedding),
        "made_by": made_by,
        "settings": settings,
        "num_passages": shape[0],
        "dimension": shape[1],
        **made_with,
        "form": _FORM,
    }
    meta["fingerprint"] = artefacts.fingerprint(meta)
    return {**meta, "model": model}  # its former place is not part of the index' identity


def read_meta(index: Path) -> dict[str, Any]:
    """Return the meta.json of an index folder's dense index. Raises ``PipelineError``."""
    path = index / DENSE_FOLDER / META_FILE
    if not path.is_file():
        raise PipelineError(
            "no dense index here", where=str(index), fix="name a model in params.yaml, index.dense.model, and build it"
        )
    meta = artefacts.read_json(path)
    needed = ("corpus", "embedding", "settings", "num_passages", "dimension", "fingerprint", "model")
    if not isinstance(meta, dict) or not all(key in meta for key in needed):
        raise PipelineError("not the meta file of a dense index", where=str(path), fix=_REBUILD)
    return meta


def dense_fingerprint(meta: dict[str, Any], search: params.DenseSearch) -> str:
    """Return the fingerprint of a dense search: the index, and how thoroughly an approximate one is searched."""
    effort = {"hnsw": search.ef_search, "milvus": search.ef_search, "ivfpq": search.probes}.get(
        meta["settings"]["kind"]
    )
    return artefacts.fingerprint([meta["fingerprint"], effort])


def describe(meta: dict[str, Any]) -> str:
    """Return the method and its settings, for people."""
    settings = meta["settings"]
    model = f"{models.shown(meta['model'])} ({meta['embedding']['model'][:12]})"
    return f"dense, {model}, {settings['kind']} {settings['storage']}"


def open_dense(
    index: Path, search: params.DenseSearch, *, corpus: Path | None = None, model: str = ""
) -> DenseRetriever:
    """Open the dense index of an index folder, memory-mapped.

    ``corpus``: the passages that it must belong to; None: not checked. ``model``: the model's current place (empty: the
    former one). Raises ``PipelineError`` for an index of another corpus or model.
    """
    meta, base = read_meta(index), bm25.read_meta(index)
    wanted = base["corpus"] if corpus is None else corpora.fingerprint(corpus)
    if meta["corpus"] != wanted:
        raise PipelineError(
            f"the dense index belongs to corpus {meta['corpus'][:12]}, not to {wanted[:12]}",
            where=str(index / DENSE_FOLDER),
            fix=_REBUILD,
        )
    kind, place = meta["settings"]["kind"], index / DENSE_FOLDER
    opened: Searched
    sums.check_file(index / PASSAGES_FILE)
    if kind == "milvus":
        embedded.check()
        sums.check(place)
        opened = embedded.open_folder(place / embedded.FOLDER, search.ef_search)
    else:
        sums.check_file(place / VECTORS_FILE)
        opened = vectors.Vectors(place / VECTORS_FILE, kind, search)
    folder = models.locate(model or meta["model"], f"{_WHERE}.model")
    embedding = Embedding(**meta["embedding"])
    found = models.identity(folder)
    if found != embedding.model:
        raise PipelineError(
            f"the dense index was made with model {embedding.model[:12]}, and {folder} is {found[:12]}",
            where=str(index / DENSE_FOLDER),
            fix=_REBUILD,
        )
    encoder = Encoder(folder, embedding, models.chosen_device(search.device, "params.yaml, retriever.dense.device"))
    passages = PassageFile(index / PASSAGES_FILE)
    for what, here, there in (
        ("dimensions", opened.dimension, encoder.dimension),
        ("vectors", opened.count, len(passages)),
    ):
        if here != there:
            raise PipelineError(
                f"the dense index has {here} {what}, but {there} are needed",
                where=str(index / DENSE_FOLDER),
                fix=_REBUILD,
            )
    return DenseRetriever(encoder, opened, passages, dense_fingerprint(meta, search))


class Searched(Protocol):
    """Vectors of passages, by row: a faiss index or a Milvus collection."""

    dimension: int
    count: int

    def search(self, queries: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
        """Return at most ``k`` (row, inner product) for each of ``queries`` (Q, D), best first."""
        ...


class DenseRetriever:
    """The ``Retriever`` protocol over vectors: the passages nearest to a query. Made by ``open_dense``.

    A score's last bits may depend on the queries that are encoded in the same batch, as they do whenever matrix shapes
    differ.
    """

    fingerprint: str

    def __init__(self, encoder: Encoder, opened: Searched, passages: PassageFile, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self._encoder, self._vectors = encoder, opened
        self._passages = passages

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """See ``Windows``."""
        return self._passages.around(passage.passage_id, before, after)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the nearest ``k`` passages per query, best first. There is always a nearest, whether or not it is
        relevant.

        IVF-PQ finds fewer if the lists that it searches hold fewer.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if not queries:
            return []
        found = self._vectors.search(self._encoder.queries(queries), k)
        return [[self._passages.get(row, score) for row, score in one] for one in found]
