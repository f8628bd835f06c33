"""Memory and disk of dense search: the passages' vectors, mapped into main memory, and each engine's query encoder.

BM25 is not counted: its columns are read from disk as queries need them. Sources: faiss' layouts as in
r1_searcher/retrieval/dense/vectors.py; the models' published configurations.
"""

from __future__ import annotations

import functools
from pathlib import Path

from r1_searcher.params import Dense, Params

PASSAGE_COUNTS = {"kilt": 29_000_000, "hotpotqa_abstracts": 5_233_000}  # of 100 words; of one abstract
# BERT's: layers and hidden size; feed-forwards of four times that.
ENCODERS = {"bge-small-en-v1.5": (12, 384), "bge-base-en-v1.5": (12, 768), "bge-large-en-v1.5": (24, 1024)}
_WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}


def passages(params: Params, given: float) -> float:
    """Return the corpus' passages: those given, else what its source is known to have; 0: unknown."""
    known = PASSAGE_COUNTS.get(params.corpus.source, 0)
    if params.corpus.source == "kilt":
        known = known * 100 // params.corpus.kilt.words
    return given or known


def vectors(params: Params, given: float) -> int:
    """Return the bytes of the dense index; 0 if there is none, or its size is unknown."""
    dense, number = _dense_index(params), passages(params, given)
    shape = _shape(dense) if dense else None
    if not dense or not shape:
        return 0
    dimension = shape[1]
    lists = dense.ivfpq.lists or round(4 * number**0.5)
    match dense.kind:
        case "flat":
            return int(number * dimension * _WIDTHS[dense.storage])
        case "hnsw":
            return int(number * (dimension * _WIDTHS[dense.storage] + 8 * dense.hnsw.links))
        case "milvus":
            return int(number * (dimension * 4 + 8 * dense.hnsw.links))
        case "server":
            return 0
        case "ivfpq":
            return int(number * (dense.ivfpq.code_bytes + 8) + (lists * dimension * 4 if number else 0))


def kept_vectors(params: Params, given: float) -> int:
    """Return the bytes of the stored shards of vectors, from which any kind of index is made."""
    dense = _dense_index(params)
    shape = _shape(dense) if dense else None
    return int(passages(params, given) * shape[1] * _WIDTHS[dense.storage]) if dense and shape else 0


def in_main_memory(params: Params, given: float) -> dict[str, int]:
    """Return the bytes of main memory for searches: vectors once for all processes, which map the same file, and one
    model per engine if queries are embedded on the CPU."""
    if not _searches_vectors(params):
        return {}
    parts = {"dense index": vectors(params, given)}
    if params.retriever.dense.device == "cpu":
        parts["query encoders"] = params.workers.engines * _encoder(params, 4)
    return {name: size for name, size in parts.items() if size}


def on_gpu(params: Params) -> dict[str, int]:
    """Return the bytes on an engine's first GPU if queries are embedded there; activations are not counted."""
    dense = _dense_index(params)
    if not dense or not _searches_vectors(params) or params.retriever.dense.device == "cpu" or not params.hardware.gpus:
        return {}
    size = _encoder(params, _WIDTHS[dense.dtype])
    return {"query encoder": size} if size else {}


def not_estimated(params: Params, given: float) -> str:
    """Return what of dense search cannot be counted, and why; "" if everything is."""
    dense = _dense_index(params)
    if not dense:
        return ""
    if not _shape(dense):
        return f"the dense index is not counted: the size of {dense.model!r} is not known here ({', '.join(ENCODERS)})"
    if not passages(params, given):
        return f"the dense index is not counted: how many passages {params.corpus.source!r} has is said by --passages"
    return ""


def _dense_index(params: Params) -> Dense | None:
    dense = params.index.dense
    return dense if dense and dense.model else None


def _searches_vectors(params: Params) -> bool:
    from r1_searcher.retrieval.retrievers import kind_property  # loads tables, which a plan without vectors needs not

    return kind_property(params.retriever, "vectors")


def _shape(dense: Dense) -> tuple[int, int] | None:
    return ENCODERS.get(Path(dense.model).name.lower())


@functools.cache
def encoder_parameters(layers: int, hidden: int) -> int:
    """Return the parameters of a BERT, as transformers builds it on the meta device."""
    import torch
    from transformers import BertConfig, BertModel

    heads = hidden // 64
    config = BertConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=4 * hidden
    )
    with torch.device("meta"):
        return int(BertModel(config).num_parameters())


def _encoder(params: Params, width: int) -> int:
    dense = _dense_index(params)
    shape = _shape(dense) if dense else None
    return width * encoder_parameters(*shape) if shape else 0
