"""One contract, tested on both engines for real: the same tokens, log-probabilities and ends of turns.

Two policies: a Qwen2 with an untied head and tags as tokens, and a Llama with neither.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import pytest
from engine_jobs import GREEDY, SAMPLING, STOPS, Job, Run, check_ends, jobs, run
from tiny_engines import engine_of, policy, true_logprobs, true_row
from tiny_policy import tokenizer

from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Engine, Sampling

KINDS, POLICIES = ("transformers", "vllm"), ("qwen2", "llama")
COOLER = Sampling(temperature=0.7, top_p=0.9, max_turn_tokens=20, max_total_tokens=200)
HOTTER = Sampling(temperature=1.6, top_p=1.0, max_turn_tokens=20, max_total_tokens=200)
SAMPLINGS = {"greedy": GREEDY, "sampled": SAMPLING, "cooler": COOLER, "hotter": HOTTER}
CLOSE = 5e-5  # in float32 log-probabilities of up to 20: allowed difference between engine, score and a plain forward

both = pytest.mark.parametrize("kind", KINDS)
each_policy = pytest.mark.parametrize("name", POLICIES)


def ends(name: str) -> set[int]:
    return {tokenizer(name == "qwen2").eos_token_id}


@both
def test_the_interface(kind: str) -> None:
    engine = engine_of(kind, "qwen2")
    assert isinstance(engine, Engine)
    assert (engine.name, engine.overlaps) == (kind, kind == "vllm")
    text = f" Zoë ,  said\n\n{grammar.QUERY} x {grammar.END_QUERY}<|endoftext|> ."
    assert engine.decode(engine.encode(text)) == text
    engine.start(SAMPLING, STOPS)
    assert engine.step() == []


@pytest.mark.parametrize("how", SAMPLINGS)
@each_policy
@both
def test_logprobs_are_those_of_a_plain_forward_and_of_score(kind: str, name: str, how: str) -> None:
    """Over trajectories of several turns with documents between them, at any temperature and before top-p."""
    engine, sampling = engine_of(kind, name), SAMPLINGS[how]
    made = run(engine, jobs(), sampling)
    assert len({len(one.ids) for one in made}) > 5 and max(len(one.lengths) for one in made) > 2
    scored = engine.score([one.ids for one in made], temperature=sampling.temperature)
    for one, scores in zip(made, scored, strict=True):
        expected = true_logprobs(policy(name), one.ids, sampling.temperature)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=CLOSE)
        for place, value in one.logprobs:
            assert abs(value - expected[place]) <= CLOSE


@each_policy
def test_greedy_tokens_are_equal(name: str) -> None:
    ours, theirs = (run(engine_of(kind, name), jobs(), GREEDY) for kind in KINDS)
    for one, two in zip(ours, theirs, strict=True):
        assert (one.ids, one.stops, one.lengths) == (two.ids, two.stops, two.lengths)
        np.testing.assert_allclose(
            [value for _, value in one.logprobs], [value for _, value in two.logprobs], rtol=0, atol=CLOSE
        )


@each_policy
@both
def test_a_turn_ends_at_the_first_thing_that_ends_it(kind: str, name: str) -> None:
    """Nothing follows a stop, and limits are exact."""
    engine, sampling = engine_of(kind, name), Sampling(1.0, 1.0, max_turn_tokens=15, max_total_tokens=90)
    seen = {end for one in run(engine, jobs(40), sampling) for end in check_ends(engine, one, sampling, ends(name))}
    wanted = {"stop", grammar.FINISH_TURN_LIMIT, grammar.FINISH_LENGTH_LIMIT}
    assert seen >= wanted | ({grammar.FINISH_END_OF_TEXT} if name == "qwen2" else set()), seen


@both
def test_the_limits_of_a_turn_and_of_a_trajectory(kind: str) -> None:
    engine = engine_of(kind, "llama")
    sampling = Sampling(temperature=1.0, top_p=1.0, max_turn_tokens=9, max_total_tokens=50)
    made = run(engine, [Job([5] * length, 1, []) for length in (1, 7, 41, 48, 49)], sampling, stops=["no such text"])
    assert [one.lengths for one in made] == [[9], [9], [9], [2], [1]]
    # At 50 tokens the third reaches both limits: the trajectory's takes precedence.
    assert [one.stops for one in made] == [[grammar.FINISH_TURN_LIMIT]] * 2 + [[grammar.FINISH_LENGTH_LIMIT]] * 3


@pytest.mark.parametrize("how", ["greedy", "sampled", "cooler"])
@both
def test_a_trajectory_is_the_same_whichever_others_share_its_batch(kind: str, how: str) -> None:
    """vLLM's batch is four at a time here, so that most of them wait."""
    engine, chosen, sampling = engine_of(kind, "qwen2"), jobs(), SAMPLINGS[how]
    together = run(engine, chosen, sampling)
    for number, one in enumerate(together):
        (alone,) = run(engine, [chosen[number]], sampling)
        assert (alone.ids, alone.stops) == (one.ids, one.stops)
    turned = run(engine, chosen[::-1], sampling)[::-1]
    assert [one.ids for one in turned] == [one.ids for one in together]


@both
def test_the_seed_alone_makes_the_difference(kind: str) -> None:
    engine, (job, *_) = engine_of(kind, "qwen2"), jobs()
    ids = [one.ids for one in run(engine, [job, job, Job(job.prompt, job.seed + 99, job.documents)])]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("sampling", [Sampling(0.7, 0.8, 1, 200), Sampling(1.5, 1.0, 1, 200)], ids=["nucleus", "hot"])
@both
def test_tokens_are_drawn_as_often_as_their_probability_says(kind: str, sampling: Sampling) -> None:
    """1,000 draws at one place: none outside the nucleus, and likely ones within chance."""
    engine, prompt, draws = engine_of(kind, "qwen2"), [40, 41, 42], 1000
    made = run(engine, [Job(prompt, seed, []) for seed in range(draws)], sampling)
    counts = Counter(one.ids[-1] for one in made)
    row = np.exp(true_row(policy("qwen2"), prompt, sampling.temperature))
    order = np.argsort(-row)
    kept = order[np.cumsum(row[order]) - row[order] < sampling.top_p]
    assert set(counts) <= set(kept.tolist())
    expected = row[kept] / row[kept].sum() * draws
    likely = expected > 20
    off = (np.array([counts[token] for token in kept.tolist()]) - expected) / np.sqrt(expected)
    assert likely.sum() >= 4 and np.abs(off[likely]).max() < 4


@both
def test_a_batch_that_was_given_up_leaves_nothing_behind(kind: str) -> None:
    """An error in the middle of a batch (a broken retriever) must not disturb the next one."""
    engine, chosen = engine_of(kind, "qwen2"), jobs()
    expected = run(engine, chosen)
    engine.start(GREEDY, ["no such text"])
    for number, job in enumerate(chosen):
        engine.add(number, job.prompt, job.seed)
    assert engine.step()
    assert run(engine, chosen) == expected


@both
def test_the_order_of_calls_is_held(kind: str) -> None:
    engine: Any = engine_of(kind, "qwen2")
    engine.start(SAMPLING, STOPS)
    engine.add(0, [1, 2, 3], 0)
    with pytest.raises(AssertionError, match="no ended turn"):
        engine.release(0)
    with pytest.raises(AssertionError, match="no ended turn"):
        engine.extend(1, [1])
    (turn,) = engine.step()
    engine.release(turn.trajectory)
    assert engine.step() == []


def test_what_an_engine_sampled_alone_the_other_scores_alike() -> None:
    """Crosswise: one engine's samples under the other's ``score``."""
    for kind, other in itertools.permutations(KINDS):
        made: list[Run] = run(engine_of(kind, "qwen2"), jobs(), COOLER)
        scored = engine_of(other, "qwen2").score([one.ids for one in made], temperature=COOLER.temperature)
        for one, scores in zip(made, scored, strict=True):
            assert all(abs(value - scores[place]) <= CLOSE for place, value in one.logprobs)
