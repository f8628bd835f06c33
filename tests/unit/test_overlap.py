"""Searches beside the engine: nobody waits for another's search, and when a search returns changes no trajectory."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from overlapping_engine import PATIENCE, Clock, OverlappingEngine
from tiny_policy import ScriptedEngine, ScriptedRetriever, check_rollouts, questions_table, rollout_params

from r1_searcher.rollout import roll_out
from r1_searcher.transcripts.grammar import ANSWER, END_ANSWER, END_QUERY, END_THINK, QUERY
from r1_searcher.types.protocols import Passage

PARAMS = rollout_params(max_turn_tokens=200, max_total_tokens=1500, max_passage_tokens=60, max_searches=4)
FINAL = f"So.{END_THINK}\n\n{ANSWER} Trabo{END_ANSWER}"


def search(*queries: str) -> str:
    return "".join(f"Hm. {QUERY} {query}{END_QUERY}" for query in queries)


class SlowRetriever(ScriptedRetriever):
    """Answers so many engine steps later."""

    def __init__(self, clock: Clock, delays: Sequence[int]) -> None:
        super().__init__()
        self.clock, self.delays = clock, delays

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        self.clock.wait(self.delays[len(self.calls) % len(self.delays)])
        return super().search(queries, k)


SCRIPTS = {
    "question 0": search("Ada") + FINAL,
    "question 1": FINAL,
    "question 2": search("Kolm", "please fail", "never") + FINAL,
    "question 3": search("Silent Harbor", "Ada", "Trabo") + FINAL,
    "question 4": search("a", "b", "c", "d", "e"),
    "question 5": f"{QUERY} ''{END_QUERY}",
    "question 6": search("Ada") + "Hm" * 200,
}
SENTENCES = {
    "question 0": "Ada was born in Trabo. So the answer is Trabo. Trabo" + END_ANSWER,
    "question 1": search("Ada") + f"Hm.{ANSWER} Trabo{END_ANSWER}",
    "question 2": "Kolm was there. It may please fail. Never" + END_ANSWER,
    "question 3": "Dr. Ada made it! Where was it? There.\nx" + END_ANSWER,
}


def play(engine: ScriptedEngine, retriever: Any, **options: Any) -> list[dict[str, Any]]:
    table, timings = roll_out(
        engine, retriever, questions_table(list(engine.scripts)), PARAMS, samples=1, seed=0, **options
    )
    check_rollouts(table, engine, PARAMS)
    assert timings["search_seconds"] >= 0
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.mark.parametrize("mode", ["search", "ircot", "plain_rag"])
@pytest.mark.parametrize("seed", range(6))
def test_no_trajectory_depends_on_the_timing_of_searches(mode: str, seed: int) -> None:
    scripts = SENTENCES if mode == "ircot" else SCRIPTS
    expected = play(ScriptedEngine(scripts), ScriptedRetriever(), mode=mode)
    engine = OverlappingEngine(scripts, seed)
    delays = [random.Random(seed).randrange(5) for _ in range(7)]
    assert play(engine, SlowRetriever(engine.clock, delays), mode=mode) == expected
    assert sorted(engine.released) == list(range(len(scripts))) and not engine.rows


def test_it_is_told_how_many_have_ended_as_they_end() -> None:
    heard: list[int] = []
    engine = OverlappingEngine(SCRIPTS, 0)
    play(engine, SlowRetriever(engine.clock, [3] * 7), told=lambda done, total: heard.append(done))
    assert heard == sorted(heard) and heard[0] == 0 and len(set(heard)) > 2


def test_others_go_on_while_one_searches() -> None:
    engine = OverlappingEngine({"question 0": search("Ada") + FINAL, "question 1": FINAL})
    one_is_done = threading.Event()

    class Retriever(ScriptedRetriever):
        def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
            if "Ada" in queries:
                assert one_is_done.wait(PATIENCE), "question 1 waited for the search of question 0"
            return super().search(queries, k)

    release = engine.release

    def noted(trajectory: int) -> None:
        release(trajectory)
        if trajectory == 1:
            one_is_done.set()

    engine.release = noted  # type: ignore[method-assign]
    assert [row["finish_reason"] for row in play(engine, Retriever())] == ["answer", "answer"]
    assert engine.released == [1, 0]


def test_what_waits_goes_together_in_the_next_call() -> None:
    scripts = {f"question {number}": search(f"query {number}") + FINAL for number in range(5)}
    engine = OverlappingEngine(scripts)
    retriever = SlowRetriever(engine.clock, [99])  # the first call lasts until all others wait
    play(engine, retriever)
    assert [len(call) for call in retriever.calls] == [1, 4]


def test_a_retriever_that_breaks_is_not_lost_in_its_thread() -> None:
    class Broken(ScriptedRetriever):
        def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
            raise ValueError("a bug of the retriever")

    with pytest.raises(ValueError, match="a bug of the retriever"):
        play(OverlappingEngine(SCRIPTS), Broken())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("search")]
