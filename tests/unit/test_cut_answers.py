"""Answers beyond a passage's cut are counted before training."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from r1_searcher import params
from r1_searcher.models.base_metrics import against_training
from r1_searcher.questions.cut_answers import cut_answers, may_search
from r1_searcher.types.protocols import Passage
from r1_searcher.types.schemas import QUESTIONS

SETTINGS = params.shipped()
EARLY = Passage("p0", "Early", "Rome is where Ada was born " + "and so on " * 30, 2.0)
LATE = Passage("p1", "Late", "and so on " * 30 + "Ada was born in Rome", 1.0)


class Words:
    """An engine whose tokens are words."""

    def encode(self, text: str) -> list[str]:
        return text.split()

    def decode(self, ids: list[str]) -> str:
        return " ".join(ids)


class Shelf:
    """Finds passages by query."""

    fingerprint = "shelf"

    def __init__(self, **found: list[Passage]) -> None:
        self.found, self.calls = found, 0

    def search(self, queries: list[str], k: int) -> list[list[Passage]]:
        self.calls += 1
        return [self.found.get(query, [])[:k] for query in queries]


def table(*rows: dict[str, Any]) -> pa.Table:
    whole = [{"question_id": f"q{n}", "dataset": "t", "kind": "t"} | row for n, row in enumerate(rows)]
    return pa.Table.from_pylist(whole, schema=QUESTIONS)


def asked(question: str, answer: str, *titles: str) -> dict[str, Any]:
    return {"question": question, "answers": [answer], "supporting_titles": list(titles)}


def counts(rows: pa.Table, retriever: Shelf, **changes: Any) -> tuple[int, int]:
    rollout = SETTINGS.rollout.model_copy(update={"max_passage_tokens": 12, "k": 2, **changes})
    found = cut_answers(rows, retriever, Words(), rollout)  # type: ignore[arg-type]
    assert found["num_questions"] == rows.num_rows and retriever.calls == 1
    return found["num_found"], found["num_lost"]


def test_an_answer_behind_the_cut_is_lost_and_one_before_it_is_not() -> None:
    rows = table(asked("late", "Rome"), asked("early", "Rome"), asked("early", "Paris"), asked("both", "the Rome"))
    shelf = {"late": [LATE], "early": [EARLY], "both": [LATE, EARLY]}
    assert counts(rows, Shelf(**shelf)) == (3, 1)
    assert counts(rows, Shelf(**shelf), max_passage_tokens=200) == (3, 0)


def test_supporting_titles_are_searched_for_too() -> None:
    rows = table(asked("who", "Rome", "early"), asked("who", "Rome", "late"), asked("who", "yes", "late"))
    assert counts(rows, Shelf(early=[EARLY], late=[LATE])) == (2, 1)


def test_the_budget_of_all_passages_cuts_too() -> None:
    rows = table(asked("early", "so"))
    text = Passage("p2", "", "one two three four five six seven so", 1.0)
    assert counts(rows, Shelf(early=[text, text])) == (1, 0)
    assert counts(rows, Shelf(early=[text, text]), max_documents_tokens=8) == (1, 1)


def test_a_title_counts_where_it_is_shown() -> None:
    rows = table(asked("late", "Late"))
    assert counts(rows, Shelf(late=[LATE])) == (0, 0)
    assert counts(rows, Shelf(late=[LATE]), passages="title_and_text") == (1, 0)


def test_only_a_sample_of_many_questions_is_looked_at() -> None:
    rows = table(*[asked(f"q{n}", "Rome") for n in range(50)])
    found = cut_answers(rows, Shelf(q0=[LATE], q1=[LATE]), Words(), SETTINGS.rollout, at_most=10)  # type: ignore[arg-type]
    assert found["num_questions"] == 10 and found["num_found"] == 1


@pytest.mark.parametrize(("found", "lost", "lines"), [(100, 5, 1), (100, 4, 0), (3, 3, 1), (0, 0, 0)])
def test_a_line_is_said_if_the_share_is_considerable(found: int, lost: int, lines: int) -> None:
    good = {"n": 4, "search_rate": 0.5, "format_rate": 0.5}
    measured: dict[str, dict[str, float]] = {
        "sampled": good,
        "cut_answers": {"num_questions": 200, "num_found": found, "num_lost": lost},
    }
    said = against_training(measured)
    assert len(said) == lines
    assert all(f"of {found} training questions" in line and "max_passage_tokens" in line for line in said)


@pytest.mark.parametrize(
    ("kind", "mode", "free"),
    [
        ("bm25", "auto", True),
        ("bm25", "live", True),
        ("bm25", "record", False),
        ("bm25", "replay", False),
        ("online", "auto", False),
        ("online", "live", False),
    ],
)
def test_no_search_is_made_that_costs_or_is_kept(kind: str, mode: str, free: bool) -> None:
    searches = SETTINGS.retriever.searches.model_copy(update={"mode": mode})
    assert may_search(SETTINGS.retriever.model_copy(update={"kind": kind, "searches": searches})) is free
