"""Many trajectories on one engine, each driven by a thread of its own as if it were alone.

A ``Lane`` is an ``Engine`` for one trajectory: the rollout loop runs on it unchanged. One thread runs the shared engine
and admits, extends and drops between two tokens what the lanes ask for.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r1_searcher.errors import PipelineError
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine, Sampling, Tokenized, Turn

if TYPE_CHECKING:
    from r1_searcher.serving.continuous import ContinuousEngine

_TOLD_EVERY = 0.02  # seconds between two tellings of a lane's tokens: waking a thread per token costs a busy engine


class Cancelled(Exception):
    """Nobody waits for this trajectory any more."""


@dataclass
class _Added:
    """A lane's trajectory, as the engine knows it by ``number``."""

    lane: Lane
    number: int
    prompt_ids: Sequence[int]
    seed: int
    sampling: Sampling
    stops: tuple[str, ...]
    told: float = 0.0
    untold: list[int] = field(default_factory=list)


class Lanes:
    """Runs ``engine`` in a thread. An engine that cannot take requests of different sampling together gets them one
    kind after another; one that does not overlap, one after another.

    ``tokens``: sampled so far. ``most``: trajectories that ran together at most.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine, self.tokens, self.most = engine, 0, 0
        self._continuous: ContinuousEngine | None = engine if hasattr(engine, "admit") else None  # type: ignore[assignment]
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: deque[_Added] = deque()
        self._running: dict[int, _Added] = {}
        self._sampled: set[int] = set()  # running ones within a turn
        self._gone: set[int] = set()  # to be dropped at their turn's end
        self._numbers = 0
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def lane(self, *, max_tokens: int | None = None, by_token: bool = False) -> Lane:
        """Return a lane for one trajectory of at most ``max_tokens`` policy tokens; ``by_token``: it tells each token
        as it comes."""
        kind = TellingLane if by_token and hasattr(self.engine, "on_token") else Lane
        return kind(self, max_tokens)

    def ask(self, what: Callable[[], None]) -> None:
        """Have ``what`` done in the engine's thread."""
        self._asked.put(what)

    def close(self) -> None:
        """End the thread; trajectories that still run are cancelled."""
        self._asked.put(None)
        self._thread.join()

    # --- in the engine's thread

    def add(self, lane: Lane, prompt_ids: Sequence[int], seed: int, sampling: Sampling, stops: tuple[str, ...]) -> None:
        """Queue a lane's trajectory."""
        if not lane.cancelled:
            self._numbers += 1
            lane.number = self._numbers
            self._waiting.append(_Added(lane, lane.number, prompt_ids, seed, sampling, stops))

    def extend(self, number: int, token_ids: Sequence[int], sampling: Sampling) -> None:
        """Continue a trajectory after its turn."""
        if number not in self._running:
            return
        if self._continuous is not None:
            self._continuous.limit(number, sampling)
        self.engine.extend(number, token_ids)
        self._sampled.add(number)

    def leave(self, lane: Lane) -> None:
        """Take a lane's trajectory out, at once if the engine can."""
        self._waiting = deque(one for one in self._waiting if one.lane is not lane)
        number = lane.number
        if number not in self._running:
            return
        if self._continuous is not None:
            self._continuous.drop(number)
        elif number in self._sampled:
            self._gone.add(number)
            return
        else:
            self.engine.release(number)
        self._sampled.discard(number)
        del self._running[number]

    def _run(self) -> None:
        if hasattr(self.engine, "on_token"):
            self.engine.on_token = self._token
        while self._obey():
            try:
                self._admit()
                if self._sampled:
                    for turn in self.engine.step(lambda: not self._asked.empty()):
                        self._end_turn(turn)
            except Exception as error:  # of the engine: its trajectories are lost, the next ones may do
                self._fail(error)
        self._fail(Cancelled())

    def _obey(self) -> bool:
        """Do what was asked for; wait if there is nothing else to do. False: to end."""
        while not self._asked.empty() or not (self._sampled or self._waiting):
            what = self._asked.get()
            if what is None:
                return False
            try:
                what()
            except Exception as error:
                self._fail(error)
        return True

    def _admit(self) -> None:
        while self._waiting:
            one = self._waiting[0]
            if self._continuous is not None:
                self._continuous.admit(one.number, one.prompt_ids, one.seed, one.sampling, one.stops)
            else:
                others = next(iter(self._running.values()), None)
                alike = others is not None and (others.sampling, others.stops) == (one.sampling, one.stops)
                if others is not None and not (self.engine.overlaps and alike):
                    return
                if others is None:
                    self.engine.start(one.sampling, one.stops)
                self.engine.add(one.number, one.prompt_ids, one.seed)
            self._waiting.popleft()
            self._running[one.number] = one
            self._sampled.add(one.number)
            self.most = max(self.most, len(self._running))

    def _token(self, number: int, token: int) -> None:
        one = self._running[number]
        if not isinstance(one.lane, TellingLane):
            return
        one.untold.append(token)
        if (now := time.monotonic()) - one.told >= _TOLD_EVERY:
            one.lane.inbox.put(one.untold)
            one.told, one.untold = now, []

    def _end_turn(self, turn: Turn) -> None:
        number = turn.trajectory
        one = self._running[number]
        self.tokens += len(turn.token_ids)
        self._sampled.discard(number)
        one.untold = []  # the turn tells them
        if number in self._gone:
            self._gone.discard(number)
            self.engine.release(number)
            del self._running[number]
            return
        one.lane.inbox.put(turn)

    def _fail(self, error: Exception) -> None:
        lost = [*self._running.values(), *self._waiting]
        self._waiting.clear()
        self._running, self._sampled, self._gone = {}, set(), set()
        if self._continuous is not None:
            self._continuous.reset()
        for one in lost:
            one.lane.inbox.put(error)


class Lane:
    """``Engine`` for one trajectory on a shared engine; see ``Lanes.lane``. Used by one thread, except ``cancel``."""

    overlaps = False

    def __init__(self, lanes: Lanes, max_tokens: int | None) -> None:
        self._lanes, self._engine = lanes, lanes.engine
        self.name = self._engine.name
        if isinstance(self._engine, Tokenized):
            self.tokenizer = self._engine.tokenizer
        self.inbox: queue.SimpleQueue[list[int] | Turn | Exception] = queue.SimpleQueue()
        self.number = 0  # given by the engine's thread
        self.cancelled = False
        self._left = max_tokens
        self._trajectory: int | None = None  # None: not begun, or released

    def __getattr__(self, name: str) -> Any:
        if name in ("on_token", "tokenizer"):
            raise AttributeError(name)
        return getattr(self._engine, name)

    def encode(self, text: str) -> list[int]:
        """As the engine's."""
        return self._engine.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """As the engine's."""
        return self._engine.decode(token_ids)

    def start(self, sampling: Sampling, stops: Sequence[str]) -> None:
        """Set how the trajectory is sampled."""
        self._sampling, self._stops = sampling, tuple(stops)

    def add(self, trajectory: int, prompt_ids: Sequence[int], seed: int) -> None:
        """Begin the trajectory."""
        self._trajectory = trajectory
        sampling, ids = self._limited(), list(prompt_ids)
        self._lanes.ask(lambda: self._lanes.add(self, ids, seed, sampling, self._stops))

    def step(self, interrupted: Callable[[], bool] | None = None) -> list[Turn]:
        """Wait for the turn's end; empty once released. Raises ``Cancelled``, and what the engine raised."""
        while self._trajectory is not None:
            came = self.inbox.get()
            if isinstance(came, Exception):
                raise came
            if isinstance(came, Turn):
                if self._left is not None:
                    self._left -= len(came.token_ids)
                return [replace(came, trajectory=self._trajectory)]
            self._tell(self._trajectory, came)
        return []

    def extend(self, trajectory: int, token_ids: Sequence[int]) -> None:
        """Continue after a search; without a token left, the next turn is empty."""
        if self._left is not None and self._left <= 0:
            self.inbox.put(Turn(trajectory, [], [], grammar.FINISH_TURN_LIMIT))
            return
        sampling, ids = self._limited(), list(token_ids)
        self._lanes.ask(lambda: self._lanes.extend(self.number, ids, sampling))

    def release(self, trajectory: int) -> None:
        """End the trajectory."""
        self._trajectory = None
        self.close()

    def close(self) -> None:
        """Leave the shared engine, wherever the trajectory is."""
        self._lanes.ask(lambda: self._lanes.leave(self))

    def cancel(self) -> None:
        """End it from another thread: ``step`` raises ``Cancelled``."""
        self.cancelled = True
        self.inbox.put(Cancelled())
        self.close()

    def load_weights(self, policy: Path) -> None:
        """Not while others use them."""
        raise PipelineError("the weights of an engine that serves are not changed", where=str(policy))

    def score(self, token_ids: Sequence[Sequence[int]], *, temperature: float) -> list[list[float]]:
        """Not beside a running batch."""
        raise PipelineError("an engine that serves does not score")

    def sleep(self) -> None:
        """Does nothing: others use the engine."""

    def wake(self) -> None:
        """Does nothing."""

    def _limited(self) -> Sampling:
        if self._left is None:
            return self._sampling
        return replace(self._sampling, max_turn_tokens=min(self._sampling.max_turn_tokens, self._left))

    def _tell(self, trajectory: int, token_ids: Sequence[int]) -> None:
        pass


class TellingLane(Lane):
    """A lane that tells ``on_token`` the tokens as they come, a few at a time."""

    def __init__(self, lanes: Lanes, max_tokens: int | None) -> None:
        super().__init__(lanes, max_tokens)
        self.on_token: Callable[[int, int], None] | None = None

    def _tell(self, trajectory: int, token_ids: Sequence[int]) -> None:
        for token in token_ids:
            if self.on_token is not None:
                self.on_token(trajectory, token)
