"""The terms of an index and their numbers, memory-mapped: millions of terms open at once and stay on disk."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa

VOCABULARY_FILE = "vocabulary.arrow"
_CACHED_WORDS = 1 << 16


def write_vocabulary(folder: Path, vocabulary: Mapping[str, int]) -> None:
    """Write term → id as uncompressed Arrow IPC, ordered by a 64-bit hash of the term: hash, id, term."""
    hashes = np.fromiter(map(_hash, vocabulary), dtype=np.uint64, count=len(vocabulary))
    order = np.argsort(hashes, kind="stable")
    ids = np.fromiter(vocabulary.values(), dtype=np.int32, count=len(vocabulary))
    terms = pa.array(vocabulary, pa.large_string()).take(pa.array(order))
    batch = pa.record_batch({"hash": hashes[order], "id": ids[order], "term": terms})
    with pa.OSFile(str(folder / VOCABULARY_FILE), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _hash(term: str) -> int:
    return int.from_bytes(blake2b(term.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


class Vocabulary:
    """``get`` like a dict of str to int, by binary search in the mapped file; recent words are cached."""

    def __init__(self, folder: Path) -> None:
        """Map the file. Raises ``FileNotFoundError``, ``pa.ArrowInvalid`` or ``KeyError`` if it is not one."""
        batch = pa.ipc.open_file(pa.memory_map(str(folder / VOCABULARY_FILE))).get_batch(0)
        self._hashes: np.ndarray = batch.column("hash").to_numpy()
        self._ids: np.ndarray = batch.column("id").to_numpy()
        self._terms: pa.LargeStringArray = batch.column("term")
        self.get = lru_cache(_CACHED_WORDS)(self._find)

    def __len__(self) -> int:
        return len(self._ids)

    def _find(self, term: str) -> int | None:
        wanted = np.uint64(_hash(term))
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self) and self._hashes[place] == wanted:
            if self._terms[place].as_py() == term:
                return int(self._ids[place])
            place += 1  # another term with this hash
        return None

    def to_dict(self) -> dict[str, int]:
        """Return all of it in memory, ordered by id: bm25s' ``vocab_dict``."""
        pairs = zip(self._ids.tolist(), self._terms.to_pylist(), strict=True)
        return {term: number for number, term in sorted(pairs)}
