"""Whole trajectories through the loop, with searches and documents: both engines make the same ones."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hostile import hostile_texts
from tiny_engines import engine_of, policy, settings, true_logprobs
from tiny_policy import ScriptedRetriever, check_rollouts, questions_table, tokenizer

from r1_searcher.rollout import roll_out
from r1_searcher.transcripts import grammar
from r1_searcher.types.protocols import Passage

KINDS = ("transformers", "vllm")
QUESTIONS = [f"Where was {name} born?" for name in ("Ada", "Kolm", "Trabo", "Harbor", "Silent", "film", "1931", "made")]
PATIENCE = 60.0  # seconds after which to call it a deadlock
CLOSE = 5e-5


def play(kind: str, retriever: Any, *, samples: int = 1, seed: int = 0, greedy: bool = False, **changes: Any) -> Any:
    engine, rollout = engine_of(kind, "qwen2"), settings(kind, **changes)
    table, timings = roll_out(
        engine, retriever, questions_table(QUESTIONS), rollout, samples=samples, seed=seed, greedy=greedy
    )
    check_rollouts(table, engine, rollout, end_ids=[tokenizer(True).eos_token_id])
    assert timings["policy_tokens"] == sum(map(len, table["policy_logprobs"].to_pylist()))
    return table.to_pylist()


def check_logprobs(rows: list[dict[str, Any]], temperature: float) -> None:
    """Sampling log-probabilities against a plain forward of the whole trajectory."""
    for row in rows:
        expected = true_logprobs(policy("qwen2"), row["token_ids"], temperature)
        own = [value for value, source in zip(expected, row["token_source"], strict=True) if source == grammar.POLICY]
        np.testing.assert_allclose(row["policy_logprobs"], own, rtol=0, atol=CLOSE)


def without(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def test_greedy_trajectories_with_searches_are_equal_token_by_token() -> None:
    ours, theirs = (play(kind, ScriptedRetriever(), greedy=True) for kind in KINDS)
    assert max(len(row["turns"]) for row in ours) >= 2, "nothing of this has several searches"
    for one, two in zip(ours, theirs, strict=True):
        assert without(one, "policy_logprobs") == without(two, "policy_logprobs")
        np.testing.assert_allclose(one["policy_logprobs"], two["policy_logprobs"], rtol=0, atol=CLOSE)
    check_logprobs(theirs, 1.0)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("kind", KINDS)
def test_every_reason_to_finish(kind: str, temperature: float) -> None:
    """Sampled: each reason occurs, and the log-probabilities are the model's at that temperature."""
    rows = []
    for room in (300, 90):  # in 90 tokens few have room for two blocks of documents
        retriever = ScriptedRetriever()
        retriever.find = lambda query: [f"{query} was born in Trabo."]
        rows += play(kind, retriever, samples=24, temperature=temperature, max_total_tokens=room, max_turn_tokens=25)
    seen = Counter(row["finish_reason"] for row in rows)
    of_other_tools = {grammar.FINISH_CALL_LIMIT, grammar.FINISH_TOOL_ERROR}
    assert set(seen) >= set(grammar.FINISH_REASONS) - {grammar.FINISH_RETRIEVER_ERROR} - of_other_tools, seen
    assert max(len(row["turns"]) for row in rows) == 3
    check_logprobs(rows[::7], temperature)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failed_search_ends_its_trajectory_alone(kind: str) -> None:
    class Failing(ScriptedRetriever):
        def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
            return super().search([f"{query} fail" if "e" in query else query for query in queries], k)

    rows, calm = play(kind, Failing(), samples=4), play(kind, ScriptedRetriever(), samples=4)
    lost = [row["finish_reason"] == grammar.FINISH_RETRIEVER_ERROR for row in rows]
    assert 0 < sum(lost) < len(rows)
    for row, plain, is_lost in zip(rows, calm, lost, strict=True):
        if not is_lost:
            assert without(row, "policy_logprobs") == without(plain, "policy_logprobs")


def test_hostile_documents_reach_the_model_as_the_same_tokens() -> None:
    """Documents are data: both engines get them as the same tokens, and none of them ends a turn."""
    texts = hostile_texts()

    def find(query: str) -> list[str]:
        start = sum(map(ord, query)) * 7
        return [texts[(start + place) % len(texts)] for place in range(2)]

    ours, theirs = (play(kind, ScriptedRetriever(find), greedy=True, max_passage_tokens=60) for kind in KINDS)
    assert [without(row, "policy_logprobs") for row in ours] == [without(row, "policy_logprobs") for row in theirs]
    rows = play("vllm", ScriptedRetriever(find), samples=12, max_passage_tokens=60)
    assert sum(len(row["turns"]) for row in rows) > 30
    end = tokenizer(True).eos_token_id
    for row in rows:
        for token, source in zip(row["token_ids"], row["token_source"], strict=True):
            assert source == grammar.POLICY or token != end
    check_logprobs(rows[::9], 1.0)


def test_a_slow_search_holds_nobody_else() -> None:
    """The very first search returns only after another trajectory has searched, continued and ended."""
    engine: Any = engine_of("vllm", "qwen2")
    others_are_done = threading.Event()
    held: list[Any] = []
    expected = play("vllm", ScriptedRetriever(), samples=2)
    searching = [row for row in expected if row["turns"]]
    assert len(searching) >= 3 and len(expected) > len(searching)
    needed = len(expected) - len(searching)  # those that never search can all end during the first search

    class Slow(ScriptedRetriever):
        def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
            if not self.calls:
                held.extend(queries)
                assert others_are_done.wait(PATIENCE), "others waited for a search that is not theirs"
            return super().search(queries, k)

    release, released = engine.release, []

    def noted(trajectory: int) -> None:
        release(trajectory)
        released.append(trajectory)
        if len(released) == needed:
            others_are_done.set()

    engine.release = noted
    try:
        rows = play("vllm", Slow(), samples=2)
    finally:
        del engine.release
    assert held
    assert [without(row, "policy_logprobs") for row in rows] == [without(row, "policy_logprobs") for row in expected]
