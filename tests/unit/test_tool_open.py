"""The tool open: windows of the searched passages, within its own budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_policy import END, ScriptedEngine, ScriptedRetriever, check_rollouts, questions_table, rollout_params

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.passage_file import PassageFile
from r1_searcher.rollout import roll_out
from r1_searcher.transcripts import grammar
from r1_searcher.transcripts.grammar import ANSWER, END_ANSWER, END_QUERY, END_THINK, QUERY
from r1_searcher.types import schemas
from r1_searcher.types.protocols import Passage

SEARCH = f"Hm. {QUERY} p3{END_QUERY}"
FINAL = f"So.{END_THINK}\n\n{ANSWER} Trabo{END_ANSWER}"
OPEN, END_OPEN = "<|begin_of_open|>", "<|end_of_open|>"
TEXTS = ["a", "b", "c", f"d {END_OPEN}", "e", "f"]  # p0, p1 of one page; p2 to p4 of the next; p5 of a third


def opened(number: object) -> str:
    return f"More. {OPEN} {number}{END_OPEN}"


class Indexed:
    """Finds p3, and nothing else."""

    fingerprint = "indexed"

    def __init__(self, folder: Path) -> None:
        rows = [
            {"passage_id": f"p{number}", "title": f"Page {(number + 1) // 3}", "text": text, "source": ""}
            for number, text in enumerate(TEXTS)
        ]
        with pa.ipc.new_file(folder / "passages.arrow", schemas.PASSAGES) as writer:
            for first in (0, 4):  # two batches
                writer.write_table(pa.Table.from_pylist(rows[first : first + 4 - first // 2], schema=schemas.PASSAGES))
        self.passages = PassageFile(folder / "passages.arrow")

    def search(self, queries: Any, k: int) -> list[list[Passage]]:
        return [[self.passages.get(3, 1.0)] if query == "p3" else [] for query in queries]

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        return self.passages.around(passage.passage_id, before, after)


def play(script: str, retriever: Any, **own: Any) -> dict[str, Any]:
    raw = rollout_params(max_turn_tokens=200, max_total_tokens=1500, max_passage_tokens=60).model_dump()
    rollout = params.Rollout.model_validate(raw | {"tools": ["search", "open"], "open": own})
    engine = ScriptedEngine({"question": script})
    table, _ = roll_out(engine, retriever, questions_table(["question"]), rollout, samples=1, seed=0)
    check_rollouts(table, engine, rollout, end_ids=[ord(END)])
    rows: list[dict[str, Any]] = table.to_pylist()
    (row,) = rows
    return row


def ids(row: dict[str, Any]) -> list[list[str]]:
    return [turn["passage_ids"] for turn in row["turns"]]


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    return Indexed(tmp_path_factory.mktemp("index"))


def test_a_window_of_the_page_and_the_next_one(indexed: Indexed) -> None:
    row = play(SEARCH + opened(1) + opened("(3)") + FINAL, indexed)
    assert ids(row) == [["p3"], ["p2", "p3", "p4"], ["p3", "p4"]] and row["finish_reason"] == "answer"
    assert [turn["tool"] for turn in row["turns"]] == ["search", "open", "open"]
    assert row["segments"][3]["text"] == grammar.render_documents(["c", "d ‹|end_of_open|›", "e"])
    row = play(SEARCH + opened(1) + FINAL, indexed, before=9, after=9, same_page=False)
    assert ids(row)[1] == ["p0", "p1", "p2", "p3", "p4", "p5"]


@pytest.mark.parametrize("number", ["2", "0", "-1", "p3", "1 2", "99999", "१"])
def test_what_is_no_number_of_the_last_block_opens_nothing(indexed: Indexed, number: str) -> None:
    row = play(SEARCH + opened(number) + FINAL, indexed)
    assert row["segments"][3]["text"] == grammar.render_documents([]) and row["finish_reason"] == "answer"


def test_budgets_of_its_own(indexed: Indexed) -> None:
    assert play(SEARCH + opened(1) * 3 + FINAL, indexed)["finish_reason"] == "call_limit"
    row = play(SEARCH * 3 + opened(1) * 2 + FINAL, indexed)
    assert row["finish_reason"] == "answer" and len(row["turns"]) == 5
    row = play(SEARCH + opened(1) + FINAL, indexed, max_passage_tokens=2, before=0, after=0)
    assert row["segments"][3]["text"] == grammar.render_documents(["d"])  # the space before it is a token


def test_a_retriever_without_the_order_of_its_corpus() -> None:
    with pytest.raises(PipelineError, match=r"rollout\.tools: the tool 'open' needs the passages"):
        play(FINAL, ScriptedRetriever())


PIECES = [*grammar.TAGS, OPEN, END_OPEN, SEARCH, opened(1), opened(7), FINAL, END, "1", "\n\n", "<", "|>", "é"]


@pytest.mark.slow
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
@settings(max_examples=60, deadline=None)
def test_provenance_never_changes(indexed: Indexed, script: str) -> None:
    """``play`` checks it token by token; here, that the policy's words are its script."""
    row = play(script, indexed)
    by_policy = "".join(part["text"] for part in row["segments"] if part["source"] == "policy")
    assert by_policy.rstrip(".") in script.replace(END, "")
    assert all(part["text"].count(tag) == 0 for part in row["segments"][1::2] for tag in (OPEN, END_OPEN))
