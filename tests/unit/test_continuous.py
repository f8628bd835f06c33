"""The engine that serves: whatever comes, waits and leaves beside a trajectory, its tokens are those of a rollout."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from engine_jobs import GREEDY, SAMPLING, STOPS, Job, Run, jobs, run
from tiny_policy import random_model, tokenizer

from r1_searcher.rollout.engine import TransformersEngine
from r1_searcher.serving import continuous
from r1_searcher.serving.continuous import ContinuousEngine
from r1_searcher.types.protocols import Sampling


@dataclass
class _Visit:
    """A trajectory on the shared engine: when it comes, how long its searches take, and when it hangs up."""

    job: Job
    sampling: Sampling
    comes: int
    searches: list[int]
    leaves: int | None
    made: Run = field(default_factory=lambda: Run([]))
    back: int = 0  # when its search returns
    document: list[int] = field(default_factory=list)


def serve(engine: ContinuousEngine, visits: list[_Visit]) -> None:
    """Run visits by a clock that advances with each pass."""
    coming, inside = list(range(len(visits))), set[int]()
    time = 0
    while coming or inside:
        for number in [one for one in coming if visits[one].comes <= time]:
            visit = visits[number]
            visit.made.ids = list(visit.job.prompt)
            engine.admit(number, visit.job.prompt, visit.job.seed, visit.sampling, STOPS)
            coming.remove(number)
            inside.add(number)
        for number in sorted(inside):
            visit = visits[number]
            if visit.leaves is not None and visit.leaves <= time:
                engine.drop(number)
                inside.remove(number)
            elif visit.document and visit.back <= time:
                engine.extend(number, visit.document)
                visit.made.ids += visit.document
                visit.document = []
        for turn in engine.step(lambda: True):
            visit = visits[turn.trajectory]
            made = visit.made
            made.logprobs += [(len(made.ids) + place, value) for place, value in enumerate(turn.logprobs)]
            made.ids += turn.token_ids
            made.stops.append(turn.stop)
            document = next(iter(visit.job.documents[len(made.stops) - 1 :]), [])
            if turn.stop in STOPS and document and len(made.ids) + len(document) < visit.sampling.max_total_tokens:
                visit.document, visit.back = document, time + visit.searches[len(made.stops) - 1]
            else:
                engine.drop(turn.trajectory)
                inside.remove(turn.trajectory)
        assert engine._admitted.keys() == inside  # the others' places in the cache are free
        time += 1


def some() -> list[Job]:
    """Return jobs of which every second one begins alike."""
    beginning = list(range(20, 50))
    return [replace(one, prompt=beginning * (place % 2) + one.prompt) for place, one in enumerate(jobs(10))]


@pytest.fixture(scope="module")
def alone() -> dict[tuple[Sampling, int], Run]:
    """Each job by each sampling, as a rollout of one row."""
    engine = TransformersEngine(random_model(), tokenizer(True))
    return {(how, place): run(engine, [job], how)[0] for how in (GREEDY, SAMPLING) for place, job in enumerate(some())}


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_arrivals_gives_the_tokens_of_a_rollout(
    seed: int, alone: dict[tuple[Sampling, int], Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(continuous, "_PASS_TOKENS", (12, 40, 512)[seed % 3])  # prompts in pieces, and whole
    chosen = np.random.default_rng(seed)
    spread = (1, 60)[seed % 2]
    visits = []
    for place, job in enumerate(some()):
        how, comes = (GREEDY, SAMPLING)[int(chosen.integers(2))], int(chosen.integers(spread))
        leaves = comes + int(chosen.integers(1, 9)) if place % 3 == 1 else None
        visits.append(_Visit(job, how, comes, searches=chosen.integers(0, 9, 4).tolist(), leaves=leaves))
    engine = ContinuousEngine(random_model(), tokenizer(True))
    serve(engine, visits)
    for place, visit in enumerate(visits):
        expected = alone[visit.sampling, place]
        assert visit.made.ids == expected.ids[: len(visit.made.ids)]
        if visit.leaves is None:
            assert (visit.made.ids, visit.made.stops) == (expected.ids, expected.stops)
        for (at, found), (_, value) in zip(visit.made.logprobs, expected.logprobs, strict=False):
            assert abs(found - value) < 2e-5, at
    assert engine.step() == [] and not engine._admitted


def test_a_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the next question, even if nobody else asks meanwhile; but not with the keys of other weights."""
    engine = ContinuousEngine(random_model(), tokenizer(True))
    monkeypatch.setattr(engine, "_sample", lambda places, hidden: [])  # nothing is sampled: every pass is a prompt's

    def read(prompt: list[int]) -> int:
        engine.admit(0, prompt, 0, GREEDY, STOPS)
        before = engine._rows[0].read
        engine.step(lambda: True)
        assert engine._rows[0].read == len(prompt)
        engine.drop(0)
        return len(prompt) - before

    assert [read([5] * 30 + [6, 7]), read([5] * 30 + [8, 9, 10]), read([5] * 30 + [8, 9, 10])] == [32, 3, 1]
    engine.load_state(dict(engine._model.named_parameters()))
    assert read([5] * 30) == 30
