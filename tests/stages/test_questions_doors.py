"""Question files in other projects' formats are read correctly, or refused: never misread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from documented import is_documented_refusal

from r1_searcher.errors import PipelineError
from r1_searcher.params import Questions
from r1_searcher.questions.files import read_counted
from r1_searcher.questions.source import QuestionRequest
from r1_searcher.questions.sources.files import files

ASKS = "Who keeps the light at Crane Point?"
TWO = ["Nora Vale", "Vale"]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def asked(path: Path, **options: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = read_counted(path, **options)[0].to_pylist()
    return rows


@pytest.mark.parametrize(
    ("answer", "golds"),
    [
        (json.dumps(TWO), TWO),
        ("['Nora Vale', 'Vale']", TWO),
        ("[\"Nora Vale\", 'Vale']", TWO),
        ("['Nora Vale' 'Vale']", TWO),
        ("['Nora Vale'\n 'Vale']", TWO),
        ("array(['Nora Vale', 'Vale'], dtype=object)", TWO),
        ("{'text': ['Nora Vale', 'Vale'], 'answer_start': [3, 8]}", TWO),
        ("{'text': array(['Nora Vale', 'Vale'], dtype=object), 'answer_start': array([3, 8], dtype=int32)}", TWO),
        ('{"aliases": ["Vale"], "normalized_value": "nora vale", "value": "Nora Vale"}', TWO),
        ('{"a": 1}', ['{"a": 1}']),
        ("('Nora Vale', 'Vale')", TWO),
        ("{'Nora Vale', 'Vale'}", TWO),
        ("('Til) tomorrow", ["('Til) tomorrow"]),
        ("('Nora' 'Vale')", ["('Nora' 'Vale')"]),
        ("[citation needed]", ["[citation needed]"]),
        ({"Value": "Nora Vale", "Aliases": ["Vale", "Nora Vale"], "NormalizedValue": "nora vale"}, TWO),
        ({"value": "Nora Vale", "aliases": ["Vale"], "normalized_aliases": ["vale"]}, TWO),
        ({"text": TWO, "answer_start": [3, 8]}, TWO),
        ([{"text": "Nora Vale", "answer_start": 3}, {"text": "Vale"}], TWO),
        ({"target": TWO}, TWO),
        (1999, ["1999"]),
        (1999.0, ["1999"]),
        (3.5, ["3.5"]),
        (["Vale", None, ""], ["Vale"]),
        ([1999.0, "1999"], ["1999"]),
    ],
)
def test_answers_of_every_form(tmp_path: Path, answer: Any, golds: list[str]) -> None:
    assert asked(lines(tmp_path / "a.jsonl", {"question": ASKS, "answer": answer}))[0]["answers"] == golds


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"golden_answers": ["Vale", None]}, {"answers": ["Vale"]}),
        ({"answer": 1999.0}, {"answers": ["1999"]}),
        ({"answer": "Vale", "supporting_facts": '{"title": ["A"], "sent_id": [0]}'}, {"supporting_titles": ["A"]}),
        ({"answer": "Vale", "num_hops": 2.0, "difficulty": "hard"}, {"num_hops": 2, "difficulty": None}),
    ],
)
def test_the_same_in_parquet(tmp_path: Path, fields: dict[str, Any], expected: dict[str, Any]) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"id": "1", "question": ASKS, **fields}]), path)
    (row,) = asked(path)
    assert {key: row[key] for key in expected} == expected


@pytest.mark.parametrize("answer", [True, "['Vale'"])
def test_refused_answers_are_on_the_page(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(PipelineError) as caught:
        asked(lines(tmp_path / "a.jsonl", {"question": ASKS, "answer": answer}))
    assert is_documented_refusal(str(caught.value).partition("line 1: ")[2])


@pytest.mark.parametrize(
    "answer",
    [
        True,
        [["Vale"]],
        {"gold": "Vale"},
        "['Vale'",
        '["Vale", 3',
        "['Nora' 'Vale', 'Vale']",
        "array(['Vale'",
        float("inf"),
    ],
)
def test_answers_of_no_form_are_faults(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(PipelineError, match=r"line 1: 'answer' (must be a string|looks like a list but is not one)"):
        asked(lines(tmp_path / "a.jsonl", {"question": ASKS, "answer": answer}))


@pytest.mark.parametrize("answer", [None, "", [], [None], [""], float("nan")])
def test_a_question_without_an_answer_is_left_out_and_counted(tmp_path: Path, answer: Any) -> None:
    path = lines(tmp_path / "a.jsonl", {"question": ASKS, "answer": answer}, {"question": ASKS, "answer": "Vale"})
    table, count = read_counted(path)
    assert table["answers"].to_pylist() == [["Vale"]]
    assert (count.read, count.kept, count.skipped) == (2, 1, {"no_answer": 1})
    assert count.examples == {"no_answer": ["line 1"]}
    with pytest.raises(PipelineError, match="line 1: 'answer' contains no answer"):
        read_counted(path, on_no_answer="stop")


SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Crane_Point",
            "paragraphs": [
                {
                    "context": "…",
                    "qas": [{"id": "s1", "question": ASKS, "answers": [{"text": "Vale", "answer_start": 0}]}],
                },
                {"context": "…", "qas": [{"id": "s2", "question": "When?", "answers": [], "is_impossible": True}]},
            ],
        }
    ],
}
KILT = {
    "id": "k1",
    "input": ASKS,
    "output": [
        {"answer": "Vale", "provenance": [{"wikipedia_id": "3", "title": "Crane Point"}]},
        {"provenance": [{"title": "Nora Vale"}]},
    ],
}
VERL = {
    "data_source": "nq",
    "prompt": [{"role": "user", "content": f"Answer. {ASKS}"}],
    "reward_model": {"style": "rule", "ground_truth": {"target": TWO}},
    "extra_info": {"index": 4, "question": ASKS},
}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "squad.json",
            json.dumps(SQUAD),
            {"question_id": "s1", "answers": ["Vale"], "supporting_titles": ["Crane_Point"]},
        ),
        (
            "trivia.json",
            json.dumps({"Data": [{"Question": ASKS, "QuestionId": "t1", "Answer": {"Value": "Vale", "Aliases": TWO}}]}),
            {"question_id": "t1", "answers": ["Vale", "Nora Vale"]},
        ),
        (
            "kilt.jsonl",
            json.dumps(KILT),
            {"question_id": "k1", "answers": ["Vale"], "supporting_titles": ["Crane Point", "Nora Vale"]},
        ),
        ("verl.jsonl", json.dumps(VERL), {"answers": TWO, "dataset": "nq"}),
        (
            "answer_in_extra.jsonl",
            json.dumps({"data_source": "h", "extra_info": {"question": ASKS, "answer": "Vale"}}),
            {"answers": ["Vale"], "dataset": "h"},
        ),
        (
            "popqa.tsv",
            f'id\tsubj\tquestion\tpossible_answers\n12\tPoint\t{ASKS}\t["Nora Vale", "Vale"]\n',
            {"question_id": "12", "answers": TWO},
        ),
        ("nq-test.qa.csv", f"{ASKS}\t['Nora Vale', 'Vale']\nWhen?\t['now']\n", {"answers": TWO}),
        ("a.csv", f'question,answers,num_hops\n"{ASKS}","Vale",2\n', {"answers": ["Vale"], "num_hops": 2}),
        (
            "facts.jsonl",
            json.dumps({"question": ASKS, "answer": "Vale", "supporting_facts": '{"title": ["A"], "sent_id": [0]}'}),
            {"supporting_titles": ["A"]},
        ),
    ],
)
def test_forms_of_others(tmp_path: Path, name: str, text: str, expected: dict[str, Any]) -> None:
    row = asked(write(tmp_path / name, text))[0]
    assert row["question"] == ASKS
    assert {key: row[key] for key in expected} == expected


def test_an_id_need_be_unique_in_its_dataset_only(tmp_path: Path) -> None:
    rows = [
        {"id": f"train_{number}", "question": f"{source} {number}?", "golden_answers": ["Vale"], "data_source": source}
        for source in ("nq", "hotpotqa")
        for number in (0, 1)
    ]
    path = tmp_path / "merged.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = asked(path)
    assert [row["question_id"] for row in found] == ["nq-train_0", "nq-train_1", "hotpotqa-train_0", "hotpotqa-train_1"]
    assert [row["dataset"] for row in found] == ["nq", "nq", "hotpotqa", "hotpotqa"]
    pq.write_table(pa.Table.from_pylist(rows[:2]), path)
    assert [row["question_id"] for row in asked(path)] == ["train_0", "train_1"]
    pq.write_table(pa.Table.from_pylist([*rows, rows[0]]), path)
    with pytest.raises(PipelineError, match=r"id 'train_0' is a duplicate; it first occurs at .*row 1"):
        asked(path)


def test_files_of_one_name_are_datasets_by_their_folders(tmp_path: Path) -> None:
    for source in ("nq", "hotpotqa"):
        (tmp_path / source).mkdir()
        rows = [{"id": f"train_{number}", "question": ASKS, "golden_answers": [source]} for number in (0, 1)]
        lines(tmp_path / source / "train.jsonl", *rows)
    named: dict[str, Any] = {
        "train": [str(tmp_path / "nq/train.jsonl"), str(tmp_path / "hotpotqa/train.jsonl")],
        "validation": str(tmp_path / "nq/train.jsonl"),
        "held_out": str(tmp_path / "hotpotqa/train.jsonl"),
    }
    read = files(request(tmp_path, files=named), None)
    assert [count["file"] for count in read.files["train"]] == ["nq/train.jsonl", "hotpotqa/train.jsonl"]
    made = read.tables
    assert [(row["question_id"], row["dataset"]) for row in made["train"].to_pylist()] == [
        ("nq-train_0", "nq"),
        ("nq-train_1", "nq"),
        ("hotpotqa-train_0", "hotpotqa"),
        ("hotpotqa-train_1", "hotpotqa"),
    ]
    assert made["validation"]["question_id"].to_pylist() == ["train_0", "train_1"]


def test_gaps_that_pandas_left(tmp_path: Path) -> None:
    nan = float("nan")
    gaps = dict.fromkeys(("dataset", "type", "difficulty", "num_hops", "supporting_facts"), nan)
    path = lines(
        tmp_path / "a.jsonl", *({"id": one, "question": ASKS, "answer": "a", **gaps} for one in (7.0, nan, " "))
    )
    table, count = read_counted(path)
    assert table["question_id"].to_pylist() == ["7", "a-2", "a-3"]
    assert table["dataset"].to_pylist() == ["a"] * 3 and table["difficulty"].null_count == 3
    assert not count.unknown_levels
    with pytest.raises(PipelineError, match="line 1: the question is empty"):
        asked(lines(tmp_path / "a.jsonl", {"question": nan, "answer": "a"}))


def test_golds_that_parquet_has_as_bytes(tmp_path: Path) -> None:
    golds = pa.array([[b"Nora Vale", b"Vale"]], pa.list_(pa.binary()))
    pq.write_table(pa.table({"question": [ASKS.encode()], "golden_answers": golds}), tmp_path / "a.parquet")
    (row,) = asked(tmp_path / "a.parquet")
    assert (row["question"], row["answers"]) == (ASKS, TWO)


def test_the_gold_beside_a_systems_answer(tmp_path: Path) -> None:
    row = {"question": ASKS, "answer": "a guess", "contexts": ["a text", "another"], "ground_truth": "Vale"}
    (read,) = asked(lines(tmp_path / "a.jsonl", row))
    assert (read["answers"], read["supporting_titles"]) == (["Vale"], [])


def test_two_lists_in_one_object_are_two_files(tmp_path: Path) -> None:
    splits = {name: [{"question": ASKS, "answer": "a"}] for name in ("train", "dev")}
    with pytest.raises(PipelineError) as caught:
        asked(write(tmp_path / "a.json", json.dumps(splits)))
    assert "several lists of records in one object: 'train' and 'dev' (make a file of each" in str(caught.value)
    assert is_documented_refusal(str(caught.value).partition("a.json: ")[2])


def test_whole_floats_and_unknown_levels(tmp_path: Path) -> None:
    row = {"question": ASKS, "answer": "a", "num_hops": 2.0, "num_passes": "3", "difficulty": "hard"}
    table, count = read_counted(lines(tmp_path / "a.jsonl", row, row | {"difficulty": "easy"}))
    assert [found["num_hops"] for found in table.to_pylist()] == [2, 2]
    assert table["difficulty"].to_pylist() == [None, "easy"]
    assert count.unknown_levels == {"hard": 1}


def test_a_parquet_file_says_what_it_has_and_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    pq.write_table(pa.Table.from_pylist([{"qid": "7", "query": ASKS, "gold": {"best": "Vale"}}]), path)
    with pytest.raises(PipelineError) as caught:
        asked(path)
    said = str(caught.value)
    assert (
        "row 1: column 'question' is missing (columns found: qid, query, gold; known: question, question_text" in said
    )
    assert is_documented_refusal(said.partition("row 1: ")[2])
    columns = {"question": "query", "answers": "gold.best", "question_id": "qid"}
    (row,) = asked(path, columns=columns)
    assert (row["question_id"], row["question"], row["answers"]) == ("7", ASKS, ["Vale"])
    assert read_counted(path, columns=columns)[1].columns == columns


def test_a_mapped_column_has_no_others_in_its_place(tmp_path: Path) -> None:
    row = {"id": "1", "question": "A hint.", "asked": ASKS, "answer": "a guess", "dataset": "other"}
    gold = {"question_id": "g1", "best": "Vale"}
    columns = {"question": "asked", "answers": "gold.best", "question_id": "gold.question_id", "dataset": "origin"}
    path = lines(tmp_path / "a.jsonl", row | {"gold": gold, "origin": "mine"}, row | {"gold": {}, "origin": None})
    table, count = read_counted(path, columns=columns)
    (read,) = table.to_pylist()
    assert (read["question_id"], read["question"], read["answers"]) == ("g1", ASKS, ["Vale"])
    assert count.skipped == {"no_answer": 1}, "not the system's answer, which no mapping names"
    lines(path, row | {"gold": {"best": "Vale"}, "origin": None})
    (read,) = asked(path, columns=columns)
    assert (read["question_id"], read["dataset"]) == ("a-1", "a")


def test_all_bad_rows_at_once_or_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]]
    rows = [{"question": ASKS, "answer": "a"}, {"question": ""}, {"question": ASKS, "answer": True}, {"answer": "b"}]
    path = lines(tmp_path / "a.jsonl", *rows)
    with pytest.raises(PipelineError) as caught:
        asked(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: 3 rows cannot be used: line 2: ") and "line 3: 'answer' must be" in said
    assert said.endswith("(correct them, or leave them out with questions.on_bad_row: skip)")
    table, count = read_counted(path, on_bad_row="skip")
    assert (table.num_rows, count.read, count.skipped) == (1, 4, {"bad_row": 3})


def request(tmp_path: Path, **changes: Any) -> QuestionRequest:
    world = {"train": 1, "validation": 1, "held_out": 1, "held_out_kind": 1, "comparison": 1}
    given = {"source": "files", "world": world, **changes}
    return QuestionRequest(Questions.model_validate(given), 1, tmp_path)


def test_a_split_of_several_files_and_a_mapping_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    lines(tmp_path / "train/a.jsonl", {"id": "1", "question": ASKS, "answer": "Vale"})
    lines(tmp_path / "train/b.jsonl", {"id": "2", "question": ASKS, "answer": "Vale"})
    lines(tmp_path / "own.jsonl", {"q": ASKS, "a": "Vale"})
    named: dict[str, Any] = {
        "train": str(tmp_path / "train"),
        "validation": [str(tmp_path / "train/*.jsonl")],
        "held_out": str(tmp_path / "own.jsonl"),
    }
    made = files(request(tmp_path, files=named, columns={"held_out": {"question": "q", "answers": "a"}}), None)
    assert {split: table.num_rows for split, table in made.tables.items()} == {
        "train": 2,
        "validation": 2,
        "held_out": 1,
    }
    assert [count["file"] for count in made.files["train"]] == ["a.jsonl", "b.jsonl"]
    lines(tmp_path / "train/b.jsonl", {"id": "1", "question": ASKS, "answer": "Vale"})
    with pytest.raises(
        PipelineError, match=r"questions\.files\.train: 1 question ids occur in several of its files, such"
    ):
        files(request(tmp_path, files={**named, "held_out": named["train"]}), None)


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"gold": "x"}, "columns.gold: unknown; known: question, "), ({"dev": {"question": "q"}}, "has no split dev")],
)
def test_a_mapping_of_nothing_is_refused(tmp_path: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        request(tmp_path, columns=columns)
