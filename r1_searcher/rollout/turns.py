"""Running a batch of trajectories turn by turn, with calls of tools between turns.

What a turn means is the mode's business (``TurnHandler``); when it is searched for, and when the engine steps, is here.
With an engine whose rows advance together every search is answered before the next step, and searches of turns that
end together are one call. Where an engine ``overlaps``, it goes on while others search
(``r1_searcher.rollout.overlap``).
"""

from __future__ import annotations

from collections.abc import Callable

from r1_searcher.rollout.turn_handlers import Finder, TurnHandler
from r1_searcher.types.protocols import Engine


def run(engine: Engine, finder: Finder, booked: TurnHandler, told: Callable[[], None] = lambda: None) -> None:
    """Run the trajectories that the engine has to their end; ``told`` is called as turns end."""
    if engine.overlaps:
        from r1_searcher.rollout.overlap import run_overlapped

        run_overlapped(engine, finder, booked, told)
        return
    while turns := engine.step():
        calls = {turn.trajectory: call for turn in turns if (call := booked.take(turn)) is not None}
        told()
        if not calls:
            continue
        found = finder.find(list(calls.values()))
        for (trajectory, call), entry in zip(calls.items(), found, strict=True):
            booked.insert(trajectory, finder.record(call, entry))
