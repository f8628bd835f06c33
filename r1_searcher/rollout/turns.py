"""Run a batch of trajectories turn by turn, with tool calls between turns.

The mode (``TurnHandler``) decides what a turn means; this module decides when calls are made and when the engine steps.
If rows advance together, every call is answered before the next step, and calls of turns that end together are made as
one. If the engine ``overlaps``, it continues while calls run (``r1_searcher.rollout.overlap``).
"""

from __future__ import annotations

from collections.abc import Callable

from r1_searcher.rollout.turn_handlers import Finder, TurnHandler
from r1_searcher.types.protocols import Engine


def run(engine: Engine, finder: Finder, booked: TurnHandler, told: Callable[[], None] = lambda: None) -> None:
    """Run the engine's trajectories to their end; call ``told`` whenever turns end."""
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
