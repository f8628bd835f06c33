"""``index``: what is built over the passages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from r1_searcher.params.base import Count, Section


class Hnsw(Section):
    """faiss' graph of neighbours, as it is built."""

    links: Count  # a passage (M)
    ef_construction: Count


class IvfPq(Section):
    """faiss' inverted lists with product-quantised codes."""

    lists: Annotated[int, Field(ge=0)]  # 0: 4 · √passages, and fewer for a small corpus
    code_bytes: Count  # a passage; a divisor of the model's dimension
    train: Count  # k-means learns from at most so many passages


class Dense(Section):
    """Vectors of the passages beside the BM25 index (sentence-transformers, faiss). No ``model``: none are made."""

    model: str  # a sentence-transformers folder or hub name, e.g. BAAI/bge-large-en-v1.5 (the paper's)
    query_prefix: str  # before a query; auto: what the model's folder or family says
    passage_prefix: str  # before a passage; auto likewise
    similarity: Literal["cosine", "dot"]
    max_tokens: Count  # what is longer is cut; the model's own limit holds as well
    batch: Count
    device: Literal["auto", "cpu", "cuda"]  # of embedding the passages; auto: the GPU where there is one
    dtype: Literal["float32", "bfloat16", "float16"]  # of the model on a GPU; on a CPU float32
    passages_a_shard: Count  # embedded, and kept in the store, together: what a kill can cost
    kind: Literal["flat", "hnsw", "ivfpq"]
    storage: Literal["float16", "float32"]  # of the vectors, flat and hnsw; of the kept shards in any case
    hnsw: Hnsw
    ivfpq: IvfPq


class Index(Section):
    """BM25 (bm25s) over title and text; ``dense``: vectors beside it."""

    k1: float
    b: float
    title_weight: Count  # how many times the title stands in the indexed text
    stemmer: str  # a Snowball language, e.g. english, or none
    stopwords: str  # a bm25s list, e.g. english, or none
    # Working memory of the build in GB, beside the vocabulary (of two million passages about 1 GB): what it can hold
    # at once is sorted at once. Changes no file of the index.
    memory_gb: Annotated[float, Field(gt=0)] = 1.0
    dense: Dense | None = None
