"""Dense indexes for tests: parameters, corpora, and both indexes built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.files import artefacts, passages
from r1_searcher.retrieval import build_index
from r1_searcher.retrieval.dense import retriever
from r1_searcher.types import schemas

PARAMS = params.load(Path(__file__).resolve().parents[1] / "r1_searcher/params/defaults.yaml")


def settings(model: Path | str, search: str = "bm25", *, rerank: str = "", **dense: Any) -> params.Params:
    """Return parameters with a dense index, on the CPU and in small shards."""
    raw = PARAMS.model_dump()
    raw["index"]["dense"] |= {"model": str(model), "device": "cpu", "passages_a_shard": 4, **dense}
    raw["retriever"] |= {"kind": search, "dense": raw["retriever"]["dense"] | {"device": "cpu"}}
    raw["retriever"]["rerank"] |= {"model": rerank, "device": "cpu", "max_tokens": 64}
    return params.check(raw)


def tiny(model: Path, search: str = "dense", **dense: Any) -> params.Params:
    return settings(model, search, **{"query_prefix": "", "passage_prefix": "", "max_tokens": 16, **dense})


def write_corpus(folder: Path, facts: list[tuple[str, str]]) -> Path:
    rows = [
        {"passage_id": f"p{number}", "title": title, "text": text, "source": "test"}
        for number, (title, text) in enumerate(facts)
    ]
    artefacts.write_table(folder / "passages.parquet", pa.Table.from_pylist(rows, schema=schemas.PASSAGES))
    return folder


def build(chosen: params.Params, corpus: Path, index: Path) -> None:
    """Build both indexes."""
    build_index(passages.read(corpus), chosen.index, index, passages.fingerprint(corpus))
    retriever.add_dense(corpus, chosen, index)


def numbered(count: int) -> list[tuple[str, str]]:
    return [(f"p{number}", f"the book of p{number * 7 % count}") for number in range(count)]
