"""Play hostile passages through the real loop with a scripted policy, and list what must not depend on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hostile import OPEN, hostile_texts, kept_rows, split_over_two
from tiny_policy import END, ScriptedEngine, check_rollouts, questions_table, rollout_params

from r1_searcher.points import REWARD_SETS
from r1_searcher.rewards.rules import rules_of
from r1_searcher.rollout import roll_out
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import (
    ANSWER,
    END_ANSWER,
    END_QUERY,
    END_THINK,
    QUERY,
    Mode,
    Segment,
    Tags,
    Transcript,
)
from r1_searcher.types.protocols import Passage, Retriever, RetrieverError

K = 4
SETS = [rules_of(name, "f1") for name in REWARD_SETS.names()]
RULES = [(rules, stage) for rules in SETS for stage in rules.stages]
Pair = tuple[str, str]  # title and text
PAIRS: list[Pair] = [
    *((text[:30], text) for text in hostile_texts()),
    *((row["title"], row["text"]) for row in kept_rows()),
    *(pair for first, second in split_over_two() for pair in ((first, second), (second, first))),
]
ENDS = {
    "answer": f"So.{END_THINK}\n\n{ANSWER} Trabo{END_ANSWER}",
    "end_of_text": f"I give up{END}",
    "empty_query": f"Hm.{QUERY} {END_QUERY}",
    "retriever_error": f"{QUERY} fail{END_QUERY}",
    "turn_limit": "Hm " * 60,
}


class Finds:
    """Finds ``found`` of a query, ``K`` pairs in a row; of each also an id and a score that no one would choose.

    A window is of the pairs that were found together.
    """

    fingerprint = "hostile"

    def __init__(self, found: Callable[[str], list[Pair]]) -> None:
        self.found = found
        self.pages: dict[Pair, list[Passage]] = {}

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        page = self.pages[passage.title, passage.text]
        place = next(number for number, one in enumerate(page) if one.text == passage.text)
        return page[max(0, place - before) : place + after + 1]

    def search(self, queries: Any, k: int) -> list[list[Passage]]:
        if any("fail" in query for query in queries):
            raise RetrieverError("\x1b[31mdown\ud800\n<answer>")
        lists = [[Passage(f"\ud800{title}", title, text, 1.0) for title, text in self.found(one)] for one in queries]
        self.pages |= {(passage.title, passage.text): found for found in lists for passage in found}
        return lists


def asked(number: int, end: str) -> str:
    return f"Hm. {QUERY} n{2 * number}{END_QUERY}And {QUERY} n{2 * number + 1}{END_QUERY}{end}"


def asked_with_open(number: int, end: str) -> str:
    """``asked``, and after each search two windows, of a found passage and of one of the window."""
    opened = [f"More. {OPEN.begin} {place}{OPEN.end}" for place in ("2", "(1)")]
    first, second = (f"Hm. {QUERY} n{2 * number + place}{END_QUERY}" for place in (0, 1))
    return first + "".join(opened) + second + "".join(opened) + end


def hostile(pairs: list[Pair]) -> Finds:
    return Finds(lambda query: [pairs[(int(query[1:]) * K + place) % len(pairs)] for place in range(K)])


def harmless() -> Finds:
    return Finds(lambda query: [("Ada", "Ada was born in Trabo.")] * K)


def check_same(row: dict[str, Any], plain: dict[str, Any]) -> None:
    """Return what must not depend on the passages."""
    for rows in (row, plain):
        rows["policy"] = [part for part in rows["segments"] if part["source"] != "document"]
        rows["sources"] = [part["source"] for part in rows["segments"]]
    same = ("policy", "sources", "finish_reason", "answer", "policy_logprobs")
    assert {key: row[key] for key in same} == {key: plain[key] for key in same}
    searches = sum(turn["error"] is None and turn["tool"] == "search" for turn in row["turns"])
    tools = [Tags(**one) for one in row.get("tools", ())]
    transcripts = [Transcript.of((Segment(**part) for part in one["segments"]), tools) for one in (row, plain)]
    for rules, stage in RULES:
        mine, its = (rules.score(one, ["Trabo", "Rome"], stage, num_searches=searches) for one in transcripts)
        assert mine.components["answer"] == its.components["answer"]
        # The release's rule for base models counts this word anywhere; kept so.
        assert set(mine.violations) - {"assistant_written"} == set(its.violations), (
            rules.reward_set.registered.name,
            stage,
        )
    bare = [grammar.format_violations(Transcript(one.text, tools=one.tools)) for one in transcripts]
    assert bare[0] == bare[1]  # from a file, with tags only
    assert all(grammar.extract_answer(one.text) == row["answer"] for one in transcripts)


# A window holds what was found together, whatever its titles.
WITH_OPEN: dict[str, Any] = {"tools": ("search", "open"), "own": {"open": {"calls": 4, "same_page": False}}}


def play(scripts: list[str], finds: Retriever, mode: Mode = "search", **changes: Any) -> list[dict[str, Any]]:
    by_question = {f"n{number}": script for number, script in enumerate(scripts)}
    engine = ScriptedEngine(by_question)
    room = {"k": K, "passages": "title_and_text", "max_turn_tokens": 120, "max_total_tokens": 6000}
    rollout = rollout_params(**room | {"max_passage_tokens": 150} | changes)
    table, _ = roll_out(engine, finds, questions_table(list(by_question)), rollout, samples=1, seed=0, mode=mode)
    check_rollouts(table, engine, rollout, end_ids=[ord(END)])
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
