"""Queries per second of every retrieval back end over the same corpus, in one run.

    python benchmarks/backends.py                    # data: $R1SEARCHER_DATA, or ../shared/data
    python benchmarks/backends.py --vectors 20000
    python benchmarks/backends.py --copies 4 --milvus http://127.0.0.1:19530 --opensearch https://search-host:9200

HotpotQA: the 500 questions of IRCoT's subsample over all of their context paragraphs. --copies: the corpus so many
times, each with other titles, for a larger index. --questions, --passages: only the first so many, to try the script
(IVF-PQ needs 256 passages). A server that is not named is left out; never give a stand-in's address. The search service
is this project's own, over the BM25 index, in a process of its own on the loopback interface. Build times leave out
embedding, which is done once for all (and kept in the store). One thread, but for the service's process. Prints
Markdown.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from recall import ROOT, SETS, packaged_model, read_set
from service import Server

from r1_searcher import params
from r1_searcher.corpus.contexts import read_contexts
from r1_searcher.errors import PipelineError, command
from r1_searcher.files import passages
from r1_searcher.files.artefacts import write_table
from r1_searcher.retrieval import build_index, open_retriever
from r1_searcher.retrieval.dense import vectors
from r1_searcher.retrieval.dense.retriever import Searched, build_dense
from r1_searcher.retrieval.milvus import collection, embedded
from r1_searcher.retrieval.milvus.client import Milvus
from r1_searcher.retrieval.retrievers import load_retriever
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Retriever

K, TOGETHER, ALONE = 5, 64, 100
WIDTH, QUERIES = 384, 512  # of random vectors
FAISS = ("flat", "hnsw", "ivfpq")
Opened = tuple[str, Callable[[], Retriever], Path | None]  # name, build and open, folder whose size counts


def chosen(base: params.Params, kind: str, dense: dict[str, Any], **own: dict[str, Any]) -> params.Params:
    """Return the parameters of one back end."""
    raw = base.model_dump()
    raw["index"]["dense"] |= dense
    raw["retriever"] |= {"kind": kind, **own}
    raw["retriever"]["searches"]["mode"] = "live"
    raw["retriever"]["dense"]["device"] = "cpu"
    return params.check(raw)


def back_ends(
    base: params.Params, corpus: Path, folder: Path, options: argparse.Namespace, servers: contextlib.ExitStack
) -> Iterator[Opened]:
    """Yield each back end with what builds and opens it. ``servers`` ends what was started."""
    table, fingerprint = passages.read(corpus), passages.fingerprint(corpus)
    model = {"model": options.model or packaged_model(), "device": "cpu", "storage": "float32", "passages_a_shard": 512}

    def local(name: str, settings: params.Params) -> Retriever:
        place = folder / name
        build_index(table, settings.index, place, fingerprint)
        if settings.retriever.kind in ("dense", "hybrid"):
            assert settings.index.dense is not None
            build_dense(corpus, settings.index.dense, place, threads=1)
        return open_retriever(settings, index=place)

    def served(settings: params.Params) -> Retriever:
        load_retriever(settings, index=folder / "bm25", corpus=corpus)
        return open_retriever(settings, index=folder / "bm25")

    def service() -> Retriever:
        server = Server(folder / "bm25")
        server.start()
        servers.callback(server.kill)
        own = {"url": server.url, "wait": 60.0}
        settings = chosen(base, "service", {}, service=base.retriever.service.model_dump() | own)
        return open_retriever(settings, index=folder / "bm25")

    yield "BM25 (bm25s)", partial(local, "bm25", chosen(base, "bm25", {})), folder / "bm25"
    for kind in ("flat", "hnsw", "ivfpq", "milvus"):
        settings = chosen(base, "dense", {**model, "kind": kind})
        name = "Milvus Lite, hnsw" if kind == "milvus" else f"faiss, {kind}"
        yield name, partial(local, kind, settings), folder / kind / "dense"
    settings = chosen(base, "hybrid", {**model, "kind": "flat"})
    yield "hybrid (BM25 and faiss, flat)", partial(local, "hybrid", settings), folder / "hybrid"
    yield "search service (BM25)", service, None
    if options.milvus:
        own = {"uri": options.milvus, "collection": "benchmark"}
        settings = chosen(base, "milvus", {**model, "kind": "server"}, milvus=own)
        yield "Milvus server, hnsw", partial(served, settings), None
    if options.opensearch:
        own = {"url": options.opensearch, "name": "benchmark", "flavour": options.flavour}
        settings = chosen(base, "opensearch", {}, opensearch=own)
        yield options.flavour, partial(served, settings), None


def speeds(retriever: Retriever, questions: Sequence[str]) -> tuple[float, float]:
    """Return queries per second, one by one and ``TOGETHER`` at once: the better of two rounds."""
    best = [0.0, 0.0]
    for _ in range(2):
        begin = time.perf_counter()
        for question in questions[:ALONE]:
            retriever.search([question], K)
        best[0] = max(best[0], len(questions[:ALONE]) / (time.perf_counter() - begin))
        begin = time.perf_counter()
        for first in range(0, len(questions), TOGETHER):
            retriever.search(questions[first : first + TOGETHER], K)
        best[1] = max(best[1], len(questions) / (time.perf_counter() - begin))
    return best[0], best[1]


def vectors_alone(base: params.Params, folder: Path, options: argparse.Namespace) -> None:
    """Print the figures of random unit vectors, (N, 384), without a model: what the back ends themselves do."""
    assert base.index.dense is not None
    made = np.random.default_rng(0).normal(size=(options.vectors + QUERIES, WIDTH)).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    shard, queries = folder / "shard.npy", made[-QUERIES:]
    np.save(shard, made[:-QUERIES])
    search, dense = base.retriever.dense, base.index.dense.model_copy(update={"storage": "float32"})

    def of_faiss(kind: str) -> Searched:
        vectors.build([shard], dense.model_copy(update={"kind": kind}), folder / kind, threads=1)
        return vectors.Vectors(folder / kind, kind, search)

    def of_lite() -> Searched:
        embedded.build([shard], dense.hnsw, folder / "milvus.db", WIDTH)
        return embedded.open_folder(folder / "milvus.db", search.ef_search)

    def of_server() -> Searched:
        milvus, name = Milvus(options.milvus, where="--milvus", timeout=600.0), "benchmark_vectors"
        if milvus.asked("has_collection", name):
            milvus.asked("drop_collection", name)
        collection.create(milvus, name, WIDTH)
        collection.fill(milvus, name, [shard])
        collection.index(milvus, name, dense.hnsw)
        return collection.CollectionVectors(milvus, name, ef_search=search.ef_search, where="--milvus")

    backs: dict[str, Callable[[], Searched]] = {f"faiss, {kind}": partial(of_faiss, kind) for kind in FAISS}
    backs |= {"Milvus Lite, hnsw": of_lite} | ({"Milvus server, hnsw": of_server} if options.milvus else {})
    print(f"\n{options.vectors:,} random vectors of {WIDTH} dimensions, k = {K}\n")
    print(f"| back end | built and opened, s | queries/s, one by one | {TOGETHER} at once | as flat finds |")
    print("|---|---|---|---|---|")
    exact: list[set[int]] = []
    for name, build in backs.items():
        begin = time.perf_counter()
        opened = build()
        built = time.perf_counter() - begin
        alone = rate(opened, [query[None] for query in queries[:ALONE]])
        together = rate(opened, np.array_split(queries, len(queries) // TOGETHER))
        here = [{row for row, _ in found} for found in opened.search(queries, K)]
        exact = exact or here
        same = sum(len(one & other) for one, other in zip(here, exact, strict=True)) / (K * QUERIES)
        print(f"| {name} | {built:.1f} | {alone:,.0f} | {together:,.0f} | {same:.3f} |", flush=True)


def rate(opened: Searched, parts: Sequence[np.ndarray]) -> float:
    """Return queries per second, part by part: the best of three rounds."""
    best = 0.0
    for _ in range(3):
        begin = time.perf_counter()
        for part in parts:
            opened.search(part, K)
        best = max(best, sum(map(len, parts)) / (time.perf_counter() - begin))
    return best


def ids(retriever: Retriever, questions: Sequence[str]) -> list[set[str]]:
    """Return the ids that each question finds."""
    return [{one.passage_id for one in found} for found in retriever.search(questions, K)]


@command
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="embedding model (default: the packaged all-MiniLM-L6-v2)")
    parser.add_argument("--copies", type=int, default=1, help="how often the corpus is repeated (default: %(default)s)")
    parser.add_argument("--questions", type=int, metavar="N", help="only the first N questions")
    parser.add_argument("--passages", type=int, metavar="N", help="only the first N passages")
    parser.add_argument(
        "--vectors", type=int, metavar="N", help="only so many random vectors, without corpus and model"
    )
    parser.add_argument("--milvus", default="", metavar="ADDRESS", help="a Milvus server")
    parser.add_argument("--opensearch", default="", metavar="ADDRESS", help="an OpenSearch or Elasticsearch cluster")
    parser.add_argument("--flavour", default="opensearch", choices=["opensearch", "elasticsearch"])
    options = parser.parse_args()
    if options.vectors:
        with tempfile.TemporaryDirectory() as scratch:
            vectors_alone(params.load(ROOT / "params.yaml"), Path(scratch), options)
        return
    data = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
    if not data.is_dir():
        raise PipelineError("no data here", where=str(data), fix="set R1SEARCHER_DATA")
    import torch

    torch.set_num_threads(1)
    base = params.load(ROOT / "params.yaml")
    file, column = SETS["HotpotQA"]
    questions = read_set(data / file, column)[0][: options.questions]
    contexts = list(read_contexts([data / file], []))[: options.passages]
    found = [row | {"source": "HotpotQA"} for row in contexts]
    rows = [
        row | {"passage_id": f"{copy}-{row['passage_id']}", "title": f"{row['title']} {copy or ''}".strip()}
        for copy in range(options.copies)
        for row in found
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as servers:
        corpus = Path(folder) / "corpus"
        write_table(corpus / passages.SINGLE_FILE, pa.Table.from_pylist(rows, schema=schemas.PASSAGES))
        print(f"\n{len(rows):,} passages, {len(questions)} questions, k = {K}\n")
        print(f"| back end | built and opened, s | MB | queries/s, one by one | {TOGETHER} at once | as flat finds |")
        print("|---|---|---|---|---|---|")
        exact: list[set[str]] = []
        for name, build, place in back_ends(base, corpus, Path(folder), options, servers):
            if name == "faiss, flat":
                build()  # embeds; what follows finds the vectors in the store
            begin = time.perf_counter()
            retriever = build()
            built = time.perf_counter() - begin
            alone, together = speeds(retriever, questions)
            here = ids(retriever, questions)
            exact = here if name == "faiss, flat" else exact
            dense = name.startswith(("faiss", "Milvus"))
            same = f"{sum(len(a & b) for a, b in zip(here, exact, strict=True)) / (K * len(here)):.3f}" if dense else ""
            size = f"{sum(one.stat().st_size for one in place.rglob('*') if one.is_file()) / 1e6:.1f}" if place else ""
            print(f"| {name} | {built:.1f} | {size} | {alone:,.0f} | {together:,.0f} | {same} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
