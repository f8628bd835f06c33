"""Batch requests: what arrives while one batch is searched forms the next one.

One thread searches, so that a retriever need not be thread-safe; how many cores a batch uses is up to the retriever. No
request waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from r1_searcher.retrieval.remote.messages import Found
from r1_searcher.retrieval.service.metrics import Metrics

_LONGEST_ADVICE = 30  # seconds of a Retry-After


class Overloaded(Exception):
    """Too many queries wait. ``after``: whole seconds after which another attempt is worthwhile."""

    def __init__(self, after: int) -> None:
        super().__init__(f"too many queries wait; try again in {after} s")
        self.after = after


@dataclass
class _Request:
    queries: Sequence[str]
    k: int
    answer: asyncio.Future[list[Found]]
    since: float  # time.monotonic() at arrival


class Batches:
    """A bounded queue in front of ``search(queries, k)``, which returns one entry per query.

    ``max_batch``: queries of several requests that are searched together. ``max_waiting``: queries in the queue,
    without the running batch; ``max_wait``: seconds in it. Beyond these limits requests get ``Overloaded``.
    """

    def __init__(
        self,
        search: Callable[[Sequence[str], int], list[Found]],
        metrics: Metrics,
        *,
        max_batch: int,
        max_waiting: int,
        max_wait: float,
    ) -> None:
        self._search, self._metrics = search, metrics
        self._max_batch, self._max_waiting, self._max_wait = max_batch, max_waiting, max_wait
        self._queue: deque[_Request] = deque()
        self._there_is_work = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._seconds_a_query = 0.0
        self.waiting = 0  # queries

    async def ask(self, queries: Sequence[str], k: int) -> list[Found]:
        """Return the entries of ``queries`` once searched. Raises ``Overloaded``, and what the search raises."""
        if not queries:
            return []
        # A request larger than the queue is accepted if the queue is empty; otherwise it would always be refused.
        if self.waiting and self.waiting + len(queries) > self._max_waiting:
            raise Overloaded(self._advice())
        request = _Request(queries, k, asyncio.get_running_loop().create_future(), time.monotonic())
        self._queue.append(request)
        self._count(len(queries))
        self._there_is_work.set()
        return await request.answer

    async def run(self) -> None:
        """Search waiting queries until cancelled."""
        while True:
            await self._there_is_work.wait()
            batch = self._take()
            if batch:
                await self._answer(batch)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _count(self, queries: int) -> None:
        self.waiting += queries
        self._metrics.waiting.set(self.waiting)

    def _advice(self) -> int:
        """Return the seconds until about half of the waiting queries are done."""
        return min(_LONGEST_ADVICE, max(1, math.ceil(self.waiting * self._seconds_a_query / 2)))

    def _take(self) -> list[_Request]:
        """Return the oldest request and those after it with the same k, as far as they fit; requests stay whole."""
        batch: list[_Request] = []
        size = 0
        while self._queue:
            request = self._queue[0]
            if batch and (request.k != batch[0].k or size + len(request.queries) > self._max_batch):
                break
            self._queue.popleft()
            self._count(-len(request.queries))
            if request.answer.done():  # nobody waits any more
                continue
            if time.monotonic() - request.since > self._max_wait:
                request.answer.set_exception(Overloaded(self._advice()))
                continue
            batch.append(request)
            size += len(request.queries)
        if not self._queue:
            self._there_is_work.clear()
        return batch

    async def _answer(self, batch: Sequence[_Request]) -> None:
        queries = [query for request in batch for query in request.queries]
        began = time.monotonic()
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._thread, self._search, queries, batch[0].k)
        except Exception as error:
            if len(batch) == 1:
                if not batch[0].answer.done():
                    batch[0].answer.set_exception(error)
                return
            for request in batch:  # searching each alone shows which one failed
                await self._answer([request])
            return
        seconds = time.monotonic() - began
        self._metrics.note_batch(len(queries), seconds)
        recent, latest = self._seconds_a_query, seconds / len(queries)
        self._seconds_a_query = latest if recent == 0 else 0.8 * recent + 0.2 * latest
        start = 0
        for request in batch:
            if not request.answer.done():
                request.answer.set_result(found[start : start + len(request.queries)])
            start += len(request.queries)
