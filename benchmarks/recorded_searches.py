"""The cost of recording a search, and of replaying one.

    python benchmarks/recorded_searches.py --searches 5000

Passages of 100 made-up words, k per search, a tenth of them found by several searches; calls of 64 queries, as for a
batch of trajectories, and single calls, whose time is mostly the wait for the disk.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from r1_searcher.retrieval.searches import RecordingRetriever, ReplayRetriever, SearchRecord
from r1_searcher.types.protocols import Passage

BATCH = 64


class MadeUp:
    """Finds passages at once, so that only the record's own time remains."""

    fingerprint = "made-up"

    def __init__(self) -> None:
        self._random = random.Random(0)
        self._shared = [self._text() for _ in range(200)]

    def _text(self) -> str:
        return " ".join(f"word{self._random.randrange(50_000)}" for _ in range(100))

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return k passages per query."""
        return [[self._passage(query, rank) for rank in range(k)] for query in queries]

    def _passage(self, query: str, rank: int) -> Passage:
        shared = self._random.random() < 0.1
        number = self._random.randrange(len(self._shared)) if shared else -1
        name = f"shared {number}" if shared else f"{query} {rank}"
        return Passage(name, name, self._shared[number] if shared else self._text(), 1 / (rank + 1))


def main() -> None:
    """Record, search again, replay; print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--searches", type=int, default=5000)
    parser.add_argument("-k", type=int, default=5)
    options = parser.parse_args()
    queries = [f"who is person number {number}" for number in range(options.searches)]
    made_up = MadeUp()
    bare = seconds(lambda: in_batches(made_up, queries, options.k))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        record = SearchRecord(folder)
        recording = RecordingRetriever(made_up, record)
        first = seconds(lambda: in_batches(recording, queries, options.k)) - bare
        again = seconds(lambda: in_batches(recording, queries, options.k))
        single = seconds(lambda: [recording.search([f"single {number}"], options.k) for number in range(200)])
        replay = ReplayRetriever(record_name := made_up.fingerprint, SearchRecord(folder, replay=True))
        replayed = seconds(lambda: in_batches(replay, queries, options.k))
        size = record.path.stat().st_size
        record.close()
    print(f"{options.searches:,} searches of {options.k} passages, by {record_name}")
    print(
        f"recorded    {1e3 * first / options.searches:7.3f} ms a search in calls of {BATCH}, {5 * single:.2f} ms alone"
    )
    print(f"found again {1e3 * again / options.searches:7.3f} ms a search")
    print(f"replayed    {1e3 * replayed / options.searches:7.3f} ms a search")
    print(f"file        {size / 1e6:.1f} MB, {size / options.searches / 1e3:.1f} KB a search")


def in_batches(retriever: MadeUp | RecordingRetriever | ReplayRetriever, queries: Sequence[str], k: int) -> None:
    """Run all queries, one batch per call."""
    for start in range(0, len(queries), BATCH):
        retriever.search(queries[start : start + BATCH], k)


def seconds(work: Callable[[], object]) -> float:
    """Return one call's wall time."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
