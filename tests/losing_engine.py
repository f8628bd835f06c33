"""An engine worker that dies in the middle of a shard, at its second search, if the project has a file `lose`; or
hangs, if that file says so."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.training.engine_worker import EngineWorker
from r1_searcher.training.workers import Job, Policy
from r1_searcher.types.protocols import Passage, Retriever

ORDER = Path("lose")


class LosingRetriever:
    """Searches as the real one does, and ends the process if told to."""

    def __init__(self, real: Retriever) -> None:
        self.real, self.fingerprint = real, real.fingerprint
        self.searches = 0

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.searches += 1
        if self.searches > 1 and ORDER.exists():
            way = signal.SIGSTOP if ORDER.read_text() == "stop" else signal.SIGKILL
            ORDER.rename("lost")
            os.kill(os.getpid(), way)
        return self.real.search(queries, k)


class LosingEngine(EngineWorker):
    """The real worker with that retriever."""

    def roll_out(self, policy: Policy, job: Job, draft: Path) -> None:
        if not isinstance(self.retriever, LosingRetriever):
            self.retriever = LosingRetriever(self.retriever)
        super().roll_out(policy, job, draft)
