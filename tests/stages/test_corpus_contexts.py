"""Context paragraphs of questions: every layout gives the same paragraphs, every fault one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1_searcher.corpus.contexts import CONTEXT_COLUMNS, Paragraph, paragraphs, read_contexts
from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.own_files import read_passages
from r1_searcher.errors import PipelineError
from r1_searcher.files.records import Record, read_records

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT / "../shared/data"))
ANN, CROWN = "Born in Rome. She wrote.", "A film of 1920. It was lost."
WANTED = [Paragraph("Ann Lee", ANN, True), Paragraph("Silent Crown", CROWN, False)]


def record(**fields: Any) -> Record:
    return Record("a.jsonl, line 1", 1, fields)


HOTPOT = [["Ann Lee", ["Born in Rome.", " She wrote."]], ["Silent Crown", ["A film of 1920.", " It was lost."]]]
TWO_WIKI = [["Ann Lee", ["Born in Rome.", "She wrote."]], ["Silent Crown", ["A film of 1920.", "It was lost."]]]
HUB = {"title": ["Ann Lee", "Silent Crown"], "sentences": [sentences for _, sentences in HOTPOT]}
MUSIQUE = [
    {"idx": 0, "title": "Ann Lee", "paragraph_text": ANN.replace(". ", ".  "), "is_supporting": True},
    {"idx": 1, "title": "Silent Crown", "paragraph_text": CROWN, "is_supporting": False},
]


@pytest.mark.parametrize(
    "fields",
    [
        {"context": HOTPOT, "supporting_facts": [["Ann Lee", 0], ["Ann Lee", 1]]},
        {"context": TWO_WIKI, "supporting_facts": [["Ann Lee", 0]]},
        {"context": HUB, "supporting_facts": {"title": ["Ann Lee"], "sent_id": [0]}},
        {"context": json.dumps(HOTPOT), "supporting_facts": json.dumps([["Ann Lee", 0]])},
        {"paragraphs": MUSIQUE},
        {"contexts": MUSIQUE},
    ],
)
def test_every_layout_gives_the_same_paragraphs(fields: dict[str, Any]) -> None:
    assert paragraphs(record(**fields)) == WANTED


def test_what_is_not_said_is_not_known() -> None:
    assert [one.supporting for one in paragraphs(record(context=HOTPOT))] == [None, None]
    unmarked = [{"title": "A", "paragraph_text": "b"}]
    assert [one.supporting for one in paragraphs(record(paragraphs=unmarked))] == [None]


@pytest.mark.parametrize(
    "fields",
    [
        {"context": [["Ann Lee"]]},
        {"context": "no JSON"},
        {"context": [["Ann Lee", [1]]]},
        {"context": [[1, ["b"]]]},
        {"context": {"title": ["A"], "sentences": []}},
        {"paragraphs": [{"title": "A"}]},
        {"paragraphs": [{"title": "A", "paragraph_text": "b", "is_supporting": "yes"}]},
        {"contexts": 3},
        {"context": HOTPOT, "supporting_facts": [["Ann Lee"]]},
    ],
)
def test_another_layout_is_one_line(fields: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match=r"a.jsonl, line 1: '.*' is not laid out as its dataset has it"):
        paragraphs(record(**fields))


def test_no_contexts_is_one_line() -> None:
    with pytest.raises(PipelineError, match=r"a.jsonl, line 1: no context paragraphs .*found: question"):
        paragraphs(record(question="Who?"))


def test_each_paragraph_once_and_counted(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.parquet"
    first.write_text(json.dumps([{"context": HOTPOT}, {"context": [["Ann Lee", [ANN]], ["Void", []]]}]))
    new = {"title": "Ann Lee", "paragraph_text": "Another Ann.", "is_supporting": True}
    pq.write_table(pa.Table.from_pylist([{"paragraphs": [new, MUSIQUE[1]]}]), second)
    counts: list[FileCount] = []
    rows = list(read_contexts([first, second], counts))
    assert [(row["title"], row["text"], row["source"]) for row in rows] == [
        ("Ann Lee", ANN, "a.json"),
        ("Silent Crown", CROWN, "a.json"),
        ("Ann Lee", "Another Ann.", "b.parquet"),
    ]
    assert len({row["passage_id"] for row in rows}) == 3
    assert rows[0]["passage_id"] == WANTED[0].passage_id
    assert [(count.read, count.kept, count.skipped) for count in counts] == [
        (4, 2, {"repeated_passage": 1, "empty_text": 1}),
        (2, 1, {"repeated_passage": 1}),
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")
@pytest.mark.parametrize(
    ("name", "questions", "distinct"),
    [
        ("hotpotqa_dev500/dev_subsampled.jsonl", 500, 4858),
        ("hippo_train100/hotpotqa_train.json", 100, 994),
        ("hippo_train100/musique_train.json", 100, 1890),
    ],
)
def test_real_contexts(name: str, questions: int, distinct: int) -> None:
    records = list(read_records(DATA / name, CONTEXT_COLUMNS))
    assert len(records) == questions
    for one in records:
        assert sum(paragraph.supporting is True for paragraph in paragraphs(one)) >= 2
    rows = list(read_contexts([DATA / name], []))
    assert len(rows) == distinct


def test_a_corpus_that_is_one_object(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"Ann Lee": ["Born in Rome.", " She wrote."], "Void": []}))
    counts: list[FileCount] = []
    [row] = read_contexts([path], counts)
    assert (row["title"], row["text"], row["passage_id"]) == ("Ann Lee", ANN, WANTED[0].passage_id)
    assert counts[0].skipped == {"empty_text": 1}
    path.write_text(json.dumps({"Ann Lee": [1]}))
    with pytest.raises(PipelineError, match=r"a\.json, item 1: a title's value must be a list of sentences"):
        list(read_contexts([path], []))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no sample data at {DATA} (set R1SEARCHER_DATA)")
def test_the_contexts_are_the_published_corpora() -> None:
    def said(rows: Any) -> set[tuple[str, str]]:
        return {(row["title"], " ".join(row["text"].split())) for row in rows}

    folder = DATA / "hippo_train100"
    hotpot, musique = (said(read_contexts([folder / f"{name}_train.json"], [])) for name in ("hotpotqa", "musique"))
    assert hotpot == said(read_contexts([folder / "hotpotqa_train_corpus.json"], []))
    assert musique == said(read_passages([folder / "musique_train_corpus.json"], []))
