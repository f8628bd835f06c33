"""A scripted engine that goes on with other trajectories while some wait, and the clock of its steps."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from tiny_policy import ScriptedEngine

from r1_searcher.types.protocols import Turn

PATIENCE = 10.0  # seconds after which to call it a deadlock


class Clock:
    """Counts the engine's steps, as the clock of a slow retriever."""

    def __init__(self) -> None:
        self.steps, self.idle = 0, True
        self._changed = threading.Condition()

    def tick(self, *, idle: bool) -> None:
        with self._changed:
            self.steps, self.idle = self.steps + 1, idle
            self._changed.notify_all()

    def wait(self, steps: int) -> None:
        """Wait for so many steps, or until the engine has nothing to do."""
        with self._changed:
            until = self.steps + steps
            assert self._changed.wait_for(lambda: self.idle or self.steps >= until, PATIENCE), "the engine stood still"


class OverlappingEngine(ScriptedEngine):
    """One trajectory's turn per step, drawn at random; those whose turn has ended may wait for any time."""

    name, overlaps = "overlapping", True

    def __init__(self, scripts: dict[str, str], seed: int = 0) -> None:
        super().__init__(scripts)
        self.random, self.clock = random.Random(seed), Clock()
        self.released: list[int] = []
        self._thread = threading.get_ident()

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        assert interrupted is not None
        running = [trajectory for trajectory in self.rows if trajectory not in self.waiting]
        self.clock.tick(idle=not running)
        if not running or interrupted():
            return []
        turn = self._turn(self.random.choice(running))
        self.waiting.add(turn.trajectory)
        return [turn]

    def encode(self, text: str) -> list[int]:
        assert threading.get_ident() == self._thread, "a tokenizer is used by one thread"
        return super().encode(text)

    def release(self, trajectory: int) -> None:
        super().release(trajectory)
        self.released.append(trajectory)
