"""What a BM25 index is, whatever code made it: a sha256 over its content, and what names a search of it.

The content is what a search reads: scores, vocabulary, passages, in their order. Code that writes the same content
otherwise changes no name, so rollouts are found again and an evaluation is still compared with its baseline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from r1_searcher.files import artefacts
from r1_searcher.retrieval import vocabulary
from r1_searcher.retrieval.scores import DATA_FILE, INDICES_FILE, INDPTR_FILE

PASSAGES_FILE = "passages.arrow"
FILES = (DATA_FILE, INDICES_FILE, INDPTR_FILE, vocabulary.VOCABULARY_FILE, PASSAGES_FILE)  # what a search reads
# Stands for the code of a search (words of a query, order of the sums, ties): to be raised where the same content and
# query would give other passages or scores. A test holds it against recorded results.
SEARCH_FORM = 1


def content_sha256(folder: Path) -> str:
    """Sha256 of an index folder's scores, vocabulary and passages, however Arrow cuts these into batches."""
    arrays = {name: artefacts.sha256_file(folder / name) for name in (DATA_FILE, INDICES_FILE, INDPTR_FILE)}
    columns = {name: _columns_sha256(folder / name) for name in (vocabulary.VOCABULARY_FILE, PASSAGES_FILE)}
    return artefacts.fingerprint([arrays, columns])


def search_fingerprint(meta: Mapping[str, Any]) -> str:
    """What a search depends on. ``meta``: the index' meta.json, of which how queries become words counts too."""
    settings = meta["settings"]
    asked = {name: settings[name] for name in ("stemmer", "stopwords")}
    return artefacts.fingerprint({"content": meta["content"], "form": SEARCH_FORM, **asked})


def _columns_sha256(path: Path) -> dict[str, list[str]]:
    """Sha256 of what each column of an Arrow file holds, one batch in memory at a time."""
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
    """A column of numbers as it is; of strings their lengths in bytes, and their bytes one after the other."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        yield column.to_numpy()
        return
    wide = column.cast(pa.large_string())
    _, offsets, text = wide.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[wide.offset : wide.offset + len(wide) + 1]
    yield np.diff(ends)
    yield np.frombuffer(text or b"", dtype=np.uint8)[ends[0] : ends[-1]]
