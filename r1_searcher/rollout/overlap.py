"""Searches in a thread beside the engine: no trajectory waits for another's search.

One search call is under way at a time. Queries of turns that end meanwhile wait, and go together in the next call:
a slow retriever is asked less often for more, a quick one at once. Everything but the retriever's own work happens
in the engine's thread: tokenizers and trajectories are touched by one thread only.

When a search returns depends on the clock, and so does which trajectories are generated together; what a trajectory
becomes does not, as its samples depend on its own tokens and seed, and its passages on its own query.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from r1_searcher.rollout.turn_handlers import Finder, TurnHandler
from r1_searcher.tools.protocol import Call, ToolResult
from r1_searcher.types.protocols import Engine


class _Searches:
    """Queries that wait, and the one call under way."""

    def __init__(self, finder: Finder, thread: ThreadPoolExecutor) -> None:
        self._finder, self._thread = finder, thread
        self._waiting: dict[int, Call] = {}
        self._asked: dict[int, Call] = {}
        self._call: Future[list[ToolResult]] | None = None

    @property
    def any(self) -> bool:
        return self._call is not None

    def done(self) -> bool:
        """Whether something was found that has not been taken."""
        return self._call is not None and self._call.done()

    def ask(self, calls: dict[int, Call]) -> None:
        """Make calls, by their trajectory, as soon as the thread is free."""
        self._waiting |= calls
        if self._waiting and self._call is None:
            self._asked, self._waiting = self._waiting, {}
            self._call = self._thread.submit(self._finder.find, list(self._asked.values()))

    def take(self) -> list[tuple[int, Call, ToolResult]]:
        """What the call under way found, once it has; the next call begins. Raises what the call raised."""
        assert self._call is not None
        found = self._call.result()
        asked, self._call = self._asked, None
        self.ask({})
        return [(trajectory, call, entry) for (trajectory, call), entry in zip(asked.items(), found, strict=True)]


def run_overlapped(engine: Engine, finder: Finder, booked: TurnHandler, told: Callable[[], None]) -> None:
    """Run the trajectories that the engine has to their end; it steps while searches are under way."""
    with ThreadPoolExecutor(1, thread_name_prefix="search") as thread:
        searches = _Searches(finder, thread)
        while True:
            turns = engine.step(searches.done)
            searches.ask({turn.trajectory: call for turn in turns if (call := booked.take(turn)) is not None})
            if turns:
                told()
            if searches.done() or (searches.any and not turns):  # no turns: all of them wait for searches
                for trajectory, call, entry in searches.take():
                    booked.insert(trajectory, finder.record(call, entry))
            elif not turns:
                return
