"""Trajectories to request from any engine: ragged prompts, seeds, and documents after their turns.

benchmarks/gpu_check uses this module on machines without pytest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine, Sampling

STOPS = ("e", "a", "T", "s")  # random text hits these every few tokens
SAMPLING = Sampling(temperature=1.0, top_p=1.0, max_turn_tokens=20, max_total_tokens=200)
GREEDY = Sampling(temperature=0.0, top_p=1.0, max_turn_tokens=20, max_total_tokens=200)


@dataclass
class Run:
    """One trajectory as the engine made it."""

    ids: list[int]
    logprobs: list[tuple[int, float]] = field(default_factory=list)  # (position in ids, log-probability)
    stops: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # of the turns


@dataclass(frozen=True)
class Job:
    """A trajectory to make: its prompt, its seed, and the documents after its first turns."""

    prompt: list[int]
    seed: int
    documents: list[list[int]]


def jobs(count: int = 12, vocabulary: int = 300) -> list[Job]:
    """Return ragged prompts of 1 to 40 tokens; up to three documents of 1 to 50 tokens."""
    random = np.random.default_rng(3)

    def some(most: int) -> list[int]:
        found: list[int] = random.integers(0, vocabulary, random.integers(1, most + 1)).tolist()
        return found

    return [Job(some(40), seed, [some(50) for _ in range(seed % 4)]) for seed in range(count)]


def run(
    engine: Engine, chosen: Sequence[Job], sampling: Sampling = SAMPLING, stops: Sequence[str] = STOPS
) -> list[Run]:
    """Make the trajectories in one batch."""
    engine.start(sampling, stops)
    made = [Run(list(job.prompt)) for job in chosen]
    documents: list[Iterator[list[int]]] = [iter(job.documents) for job in chosen]
    for number, job in enumerate(chosen):
        engine.add(number, job.prompt, job.seed)
    while turns := engine.step():
        for turn in turns:
            one = made[turn.trajectory]
            assert len(turn.token_ids) == len(turn.logprobs) > 0
            one.logprobs += [(len(one.ids) + place, value) for place, value in enumerate(turn.logprobs)]
            one.ids += turn.token_ids
            one.stops.append(turn.stop)
            one.lengths.append(len(turn.token_ids))
            document = next(documents[turn.trajectory], None)
            if turn.stop in stops and document and len(one.ids) + len(document) < sampling.max_total_tokens:
                one.ids += document
                engine.extend(turn.trajectory, document)
            else:
                engine.release(turn.trajectory)
    return made


def check_ends(engine: Engine, one: Run, sampling: Sampling, ends: set[int]) -> list[str]:
    """Check on the sampled text, without the engine's own finder, that every turn ends at the first thing that ends it:
    nothing follows one of ``STOPS``, and limits are exact. Return each turn's end; "stop" for a stop string.

    ``ends``: the tokens that end a text.
    """
    seen, places = [], [place for place, _ in one.logprobs]
    for stop, length in zip(one.stops, one.lengths, strict=True):
        turn, places = places[:length], places[length:]
        ids = one.ids[turn[0] : turn[-1] + 1]
        assert turn == list(range(turn[0], turn[0] + length)), "a turn is in one piece"
        before, text = engine.decode(ids[:-1]), engine.decode(ids)
        assert not any(one_of in before for one_of in STOPS) and not ends & set(ids[:-1]), "a turn went on"
        if stop == grammar.FINISH_END_OF_TEXT:
            assert ids[-1] in ends
        elif stop in STOPS:
            assert stop in text
        elif stop == grammar.FINISH_LENGTH_LIMIT:
            assert turn[-1] + 1 == sampling.max_total_tokens and not any(one_of in text for one_of in STOPS)
        else:
            assert stop == grammar.FINISH_TURN_LIMIT and length == sampling.max_turn_tokens
        seen.append(stop if stop not in STOPS else "stop")
    return seen
