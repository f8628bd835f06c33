"""Run searches in a thread beside the engine, so that no trajectory waits for another's search.

One search call runs at a time. Queries of turns that end meanwhile wait and form the next call: a slow retriever gets
fewer, larger calls. Only the retriever's own work happens outside the engine's thread, so that one thread alone uses
tokenizers and trajectories. The clock decides when a search returns, and so which trajectories share a step, but not
what a trajectory becomes: its samples depend only on its own tokens and seed, its passages only on its own query.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from r1_searcher.rollout.turn_handlers import Finder, TurnHandler
from r1_searcher.tools.protocol import Call, ToolResult
from r1_searcher.types.protocols import Engine


class _Searches:
    """The waiting queries and the one running call."""

    def __init__(self, finder: Finder, thread: ThreadPoolExecutor) -> None:
        self._finder, self._thread = finder, thread
        self._waiting: dict[int, Call] = {}
        self._asked: dict[int, Call] = {}
        self._call: Future[list[ToolResult]] | None = None

    @property
    def any(self) -> bool:
        return self._call is not None

    def done(self) -> bool:
        """Whether results are ready to be taken."""
        return self._call is not None and self._call.done()

    def ask(self, calls: dict[int, Call]) -> None:
        """Make calls, by trajectory, as soon as the thread is free."""
        self._waiting |= calls
        if self._waiting and self._call is None:
            self._asked, self._waiting = self._waiting, {}
            self._call = self._thread.submit(self._finder.find, list(self._asked.values()))

    def take(self) -> list[tuple[int, Call, ToolResult]]:
        """Return the finished call's results and start the next call. Raises what the call raised."""
        assert self._call is not None
        found = self._call.result()
        asked, self._call = self._asked, None
        self.ask({})
        return [(trajectory, call, entry) for (trajectory, call), entry in zip(asked.items(), found, strict=True)]


def run_overlapped(engine: Engine, finder: Finder, booked: TurnHandler, told: Callable[[], None]) -> None:
    """Run the engine's trajectories to their end; the engine steps while searches run."""
    with ThreadPoolExecutor(1, thread_name_prefix="search") as thread:
        searches = _Searches(finder, thread)
        while True:
            turns = engine.step(searches.done)
            searches.ask({turn.trajectory: call for turn in turns if (call := booked.take(turn)) is not None})
            if turns:
                told()
            if searches.done() or (searches.any and not turns):  # no turns: all wait for searches
                for trajectory, call, entry in searches.take():
                    booked.insert(trajectory, finder.record(call, entry))
            elif not turns:
                return
