"""Identity of a BM25 index, whatever code made it: a sha256 over its content, and the fingerprint of its searches.

The content is what a search reads: scores, vocabulary and passages, in their order. A change of code that writes the
same content changes no fingerprint, so that rollouts are reused and evaluations stay comparable with their baseline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from r1_searcher.files import artefacts
from r1_searcher.retrieval import vocabulary, word_settings
from r1_searcher.retrieval.scores import DATA_FILE, INDICES_FILE, INDPTR_FILE

PASSAGES_FILE = "passages.arrow"
FILES = (DATA_FILE, INDICES_FILE, INDPTR_FILE, vocabulary.VOCABULARY_FILE, PASSAGES_FILE)  # what a search reads
# Version of the search code (words of a query, order of sums, ties): raise it if the same content and query give other
# passages or scores. A test compares it with recorded results.
SEARCH_FORM = 1


def content_sha256(folder: Path) -> str:
    """Return the sha256 of an index folder's scores, vocabulary and passages, independent of Arrow's batches."""
    arrays = {name: artefacts.sha256_file(folder / name) for name in (DATA_FILE, INDICES_FILE, INDPTR_FILE)}
    columns = {name: _columns_sha256(folder / name) for name in (vocabulary.VOCABULARY_FILE, PASSAGES_FILE)}
    return artefacts.fingerprint([arrays, columns])


def search_fingerprint(meta: Mapping[str, Any]) -> str:
    """Return the fingerprint of a search. ``meta``: the index' meta.json, including how queries become words."""
    asked = word_settings.of_queries(meta["settings"])
    return artefacts.fingerprint({"content": meta["content"], "form": SEARCH_FORM, **asked})


def _columns_sha256(path: Path) -> dict[str, list[str]]:
    """Return the sha256 of each column of an Arrow file, with one batch in memory at a time."""
    with pa.OSFile(str(path)) as file:  # not mapped: a mapped file would count as this process' memory
        reader = pa.ipc.open_file(file)
        hashes = {name: [hashlib.sha256(), hashlib.sha256()] for name in reader.schema.names}
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            for name in reader.schema.names:
                for one, values in zip(hashes[name], _values(batch.column(name)), strict=False):
                    one.update(np.ascontiguousarray(values).data)
    return {name: [one.hexdigest() for one in pair] for name, pair in hashes.items()}


def _values(column: pa.Array) -> Iterator[np.ndarray]:
    """Yield a number column as it is; for strings, their lengths in bytes and then their concatenated bytes."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        yield column.to_numpy()
        return
    wide = column.cast(pa.large_string())
    _, offsets, text = wide.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[wide.offset : wide.offset + len(wide) + 1]
    yield np.diff(ends)
    yield np.frombuffer(text or b"", dtype=np.uint8)[ends[0] : ends[-1]]
