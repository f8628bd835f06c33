"""The audit's coverage counts what a policy sees of passages, and finds answers in any script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r1_searcher import params
from r1_searcher.questions import audit, shown_passages
from r1_searcher.questions.answer_search import SearchedText, golds_of
from r1_searcher.questions.coverage import coverage
from r1_searcher.questions.shown_passages import ShownPassages
from r1_searcher.types.protocols import Passage
from r1_searcher.types.schemas import QUESTIONS

SETTINGS = params.shipped()
FILLER = "and so on " * 30
EARLY = Passage("p0", "Early", "Rome is where Ada was born " + FILLER, 2.0)
LATE = Passage("p1", "Late", FILLER + "Bob was born in Oslo", 1.0)


@pytest.mark.parametrize(
    ("text", "gold", "holds"),
    [
        ("黑山位于安徽省。", "安徽省", True),
        ("黑山位于安徽省。", "安徽", True),
        ("黑山位于安徽省。", "江西", False),
        ("答えは「東 京」です", "東京", True),
        ("수도는 한빛시이다.", "한빛시", True),
        ("กรุงเทพเป็นเมือง", "กรุงเทพ", True),
        ("She lived in São Tomé.", "Sao Tome", True),
        ("She lived in Sao Tome.", "São Tomé", True),
        ("Артём родился", "Артем", True),
        ("the art of Oslo", "Osl", False),
        ("Yes, the Oslo line", "oslo", True),
        ("yes it is", "Yes", False),
    ],
)
def test_a_gold_answer_in_a_text(text: str, gold: str, holds: bool) -> None:
    assert SearchedText(text).holds(golds_of([gold])) is holds


class Shelf:
    """Finds passages by query."""

    fingerprint = "shelf"

    def __init__(self, **found: list[Passage]) -> None:
        self._found = found

    def search(self, queries: list[str], k: int) -> list[list[Passage]]:
        return [self._found.get(query, [])[:k] for query in queries]


SHELF = Shelf(ada=[EARLY], bob=[LATE], both=[LATE, EARLY], Late=[LATE])


def table(*rows: tuple[str, str, list[str]]) -> pa.Table:
    whole = [
        {"question_id": question, "dataset": "t", "kind": "t", "question": question}
        | {"answers": [answer], "supporting_titles": titles}
        for question, answer, titles in rows
    ]
    return pa.Table.from_pylist(whole, schema=QUESTIONS)


class Words:
    """An engine whose tokens are words."""

    def encode(self, text: str) -> list[str]:
        return text.split()

    def decode(self, ids: list[str]) -> str:
        return " ".join(ids)


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a tokenizer.json whose tokens are words; the whole tokenizer is a stand-in."""
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save(str(tmp_path / "tokenizer.json"))
    monkeypatch.setattr(shown_passages, "_TokenizerAlone", lambda policy: Words())
    return tmp_path


def shown(policy: Path, **changes: Any) -> ShownPassages:
    return ShownPassages(policy, SETTINGS.rollout.model_copy(update={"max_passage_tokens": 12, **changes}))


def figures(rows: pa.Table, seen: ShownPassages | None) -> dict[str, Any]:
    found: dict[str, Any] = coverage({"train": rows}, {"train": 2}, SHELF, seen)["train"]  # type: ignore[arg-type]
    return found


def test_an_answer_beyond_the_cut_is_not_answerable(policy: Path) -> None:
    rows = table(("ada", "Rome", []), ("bob", "Oslo", ["Late"]))
    assert figures(rows, None)["question"] == {"answer": 1.0, "titles": 1.0, "answerable": 1.0}
    seen = shown(policy)
    found = figures(rows, seen)
    assert found["question"] == {"answer": 0.5, "titles": 1.0, "answerable": 0.5, "lost": 0.5}
    assert found["oracle"] == {"num_questions": 1, "answer": 0.0, "titles": 1.0, "answerable": 0.0, "lost": 1.0}
    tokens = {"median": 96, "p90": 96, "p99": 96, "max": 96}
    assert seen.lengths() == {"num_passages": 2, "num_cut": 2, "tokens": tokens}


def test_passages_that_fit_are_whole_and_need_no_whole_tokenizer(policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown_passages, "_TokenizerAlone", None)
    rows = table(("bob", "Oslo", []))
    assert figures(rows, shown(policy, max_passage_tokens=200)) == figures(rows, None)


def test_passages_are_cut_to_the_budget_of_all_of_them(policy: Path) -> None:
    whole, budget = (
        shown(policy, max_passage_tokens=200),
        shown(policy, max_passage_tokens=200, max_documents_tokens=40),
    )
    rows = table(("both", "Oslo", []))
    assert figures(rows, whole)["question"]["answerable"] == 1.0
    assert figures(rows, budget)["question"] == {"answer": 0.0, "answerable": 0.0, "lost": 1.0}


def test_the_audit_warns_with_the_lengths(policy: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(audit, "open_local", lambda settings, index: SHELF)
    rollout = SETTINGS.rollout.model_copy(update={"max_passage_tokens": 12})
    splits = {"train": table(("ada", "Rome", []), ("bob", "Oslo", []))}
    report = audit.audit(splits, SETTINGS.model_copy(update={"rollout": rollout}), tmp_path, policy=policy)
    assert report["cut"]["num_cut"] == 2 and report["cut"]["max_passage_tokens"] == 12
    [line] = report["findings"]
    assert line.startswith("50.0% of the questions of train find their answer only beyond the cut of a passage")
    assert "rollout.max_passage_tokens 12; the passages found have up to 96 tokens" in line
    notes = [one for one in audit.lines(report) if one.startswith("note: 2 of the 2 passages found have more than")]
    assert len(notes) == 1
    assert "cut" not in audit.audit(splits, SETTINGS, tmp_path)
