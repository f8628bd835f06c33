"""``index``: what is built over the passages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from r1_searcher.params.base import Count, Section


class Hnsw(Section):
    """Build settings of the graph of neighbours, in faiss and Milvus."""

    links: Count  # per passage (M)
    ef_construction: Count


class IvfPq(Section):
    """faiss' inverted lists with product-quantised codes."""

    lists: Annotated[int, Field(ge=0)]  # 0: 4 · √passages, fewer for a small corpus
    code_bytes: Count  # per passage; a divisor of the model's dimension
    train: Count  # passages that k-means learns from, at most


class Dense(Section):
    """Vectors of the passages beside the BM25 index (sentence-transformers; faiss or Milvus). Without ``model`` none
    are made; with ``kind: server`` they are on a server that ``retriever.kind`` names."""

    model: str  # a sentence-transformers folder or hub name, e.g. BAAI/bge-large-en-v1.5 (the paper's)
    query_prefix: str  # before a query; auto: as the model's folder or family says
    passage_prefix: str  # before a passage; auto likewise
    similarity: Literal["cosine", "dot"]
    max_tokens: Count  # longer texts are cut; the model's own limit applies too
    batch: Count
    device: Literal["auto", "cpu", "cuda"]  # for embedding the passages; auto: the GPU if there is one
    dtype: Literal["float32", "bfloat16", "float16"]  # of the model on a GPU; float32 on a CPU
    passages_a_shard: Count  # embedded and stored together: what a kill can cost
    kind: Literal["flat", "hnsw", "ivfpq", "milvus", "server"]
    takeover: str = ""  # an existing faiss index of the corpus, e.g. e5_Flat.index, used instead of embedding it
    storage: Literal["float16", "float32"]  # of the vectors, for flat and hnsw; always of the stored shards
    hnsw: Hnsw
    ivfpq: IvfPq


class Index(Section):
    """BM25 (bm25s) over title and text; ``dense`` adds vectors."""

    k1: float
    b: float
    title_weight: Count  # repetitions of the title in the indexed text
    stemmer: str  # a Snowball language, e.g. english, or none
    # A bm25s list, e.g. english, or none; a file with one word per line (./words.txt); or the words themselves.
    stopwords: str | list[str]
    # Letters that are equal. accents: with and without accents and vowel signs, capitals and small ones, all i's.
    # case: capitals and small ones. turkish: the same by Turkish rules.
    folding: Literal["accents", "case", "turkish"] = "accents"
    # How Chinese, Japanese and Korean are cut: characters_and_bigrams, bigrams, or characters (and Korean at spaces).
    # Or a folder with a Hugging Face tokenizer.json, which then makes the words of all scripts.
    tokenizer: str = "characters_and_bigrams"
    # Working memory of the build in GB, besides the vocabulary (about 1 GB for two million passages): more is sorted at
    # once. Changes no file of the index.
    memory_gb: Annotated[float, Field(gt=0)] = 1.0
    dense: Dense | None = None
