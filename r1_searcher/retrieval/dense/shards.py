"""Embed a corpus in shards that are kept in the store, so that a killed run continues."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, passages
from r1_searcher.files.store import Store
from r1_searcher.progress import Paced
from r1_searcher.retrieval.dense.encoder import Encoder, embedded_text

EMBEDDINGS_KIND, EMBEDDINGS_FILE = "embeddings", "vectors.npy"


def corpus_texts(corpus: Path) -> Iterator[str]:
    """Yield the text to embed of each passage of a corpus folder, in corpus order."""
    for batch in passages.batches(corpus, ["title", "text"]):
        for title, text in zip(batch["title"].to_pylist(), batch["text"].to_pylist(), strict=True):
            yield embedded_text(title, text)


def embed(
    texts: Iterable[str],
    total: int,
    encoder: Encoder,
    store: Store,
    *,
    passages_a_shard: int,
    storage: Literal["float16", "float32"],
) -> list[Path]:
    """Embed ``texts`` into files of at most ``passages_a_shard`` rows (N, D), in order, reusing stored ones.

    A shard's key covers its texts and everything its vectors depend on. ``total``: the number of texts, for progress.
    """
    basis = {**encoder.depends_on(), "storage": storage}
    stream = iter(texts)
    files: list[Path] = []
    done = made = 0
    begin = time.monotonic()
    with Paced("index, its vectors", unit="passages", total=total) as paced:
        while shard := list(itertools.islice(stream, passages_a_shard)):
            key = artefacts.fingerprint({**basis, "texts": artefacts.fingerprint(shard)})
            place = store.get(EMBEDDINGS_KIND, key)
            done += len(shard)
            if place is None:
                with store.put(EMBEDDINGS_KIND, key) as draft:
                    np.save(draft / EMBEDDINGS_FILE, _stored(encoder.passages(shard), storage))
                place = store.place(EMBEDDINGS_KIND, key)
                made += len(shard)
                left = (total - done) * (time.monotonic() - begin) / made
                paced.told(done, total, f"about {math.ceil(left / 60)} min left")
            files.append(place / EMBEDDINGS_FILE)
    return files


def _stored(vectors: np.ndarray, storage: Literal["float16", "float32"]) -> np.ndarray:
    with np.errstate(over="ignore"):
        kept = vectors.astype(storage)
    if not np.isfinite(kept).all():
        raise PipelineError(
            "the model's vectors have values too large for float16",
            where="params.yaml, index.dense.storage",
            fix="set it to float32",
        )
    return kept
