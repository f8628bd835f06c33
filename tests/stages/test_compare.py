"""`compare` from files to files: pairing, cards, exit statuses, and its outputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from r1_searcher.files.artefacts import read_metadata, read_table, write_table
from r1_searcher.params import SHIPPED
from r1_searcher.types.schemas import EVALUATION
from stages.evaluate.__main__ import main

CARD = {"policy": "p", "policy_sha256": "0" * 64, "mode": "search", "k": 3, "max_searches": 8}


def rows(n: int, right: Callable[[int], bool]) -> list[dict[str, Any]]:
    return [
        {
            "question_id": f"q{place}",
            "question": f"Where was | <b>{place}</b> born?",
            "answers": ["Port Tarn", "Tarn"],
            "prediction": "Port Tarn" if right(place) else None if place % 2 else "`Bel` | x",
            **dict.fromkeys(("em", "f1", "cover_em", "cover_em_contiguous"), float(right(place))),
            "format_right": True,
            "num_searches": 2,
            "num_tokens": 50,
            "finish_reason": "answer",
            "text": "a long transcript" * 50,
        }
        for place in range(n)
    ]


def write(path: str, table: list[dict[str, Any]], kinds: tuple[str, ...] = ("composition",), **card: Any) -> None:
    benchmark = Path(path).stem
    metadata = {"card": {**CARD, "benchmark": benchmark, **card}, "kinds": list(kinds), "needed_searches": 2}
    write_table(path, pa.Table.from_pylist(table, EVALUATION), metadata)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Policy `a` has 400 right of 500, `worse` lost 60 of them, `same` is `a` with other weights."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SHIPPED, "params.yaml")
    write("a/held_out.parquet", rows(500, lambda place: place < 400))
    write("worse/held_out.parquet", rows(500, lambda place: 60 <= place < 400), policy_sha256="1" * 64)
    write("other/held_out.parquet", rows(500, lambda place: place < 400), policy_sha256="2" * 64)


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    status = main(["compare", *arguments, "--json"])
    out, err = capsys.readouterr()
    return status, json.loads(out) if out else {}, err


def test_a_loss_is_worse_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    status, found, _ = compared(capsys, "a", "worse")
    assert (status, found["verdict"]) == (1, "worse")
    part = found["benchmarks"]["held_out"]
    em = part["metrics"]["em"]
    assert (part["n"], em["reference"], em["candidate"], em["lost"], em["won"]) == (500, 0.8, 0.68, 60, 0)
    assert em["difference"] == pytest.approx(-0.12) and em["interval"][0] < -0.12 < em["interval"][1] < 0
    assert part["metrics"]["format_right"]["verdict"] == "same"
    assert len(part["flipped"]) == 60
    assert part["flipped"][1] == {
        "question_id": "q1",
        "question": "Where was | <b>1</b> born?",
        "answers": ["Port Tarn", "Tarn"],
        "reference_prediction": "Port Tarn",
        "candidate_prediction": None,
        "lost": ["em", "f1", "cover_em"],
        "won": [],
    }


def test_the_other_way_round_is_better_and_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    status, found, _ = compared(capsys, "worse", "a")
    assert (status, found["verdict"]) == (0, "better")


def test_equal_answers_of_other_weights_are_the_same_where_the_questions_suffice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compared(capsys, "a", "other")[1]["verdict"] == "same"
    for name in ("few", "few_others"):
        write(f"{name}/held_out.parquet", rows(20, lambda place: place < 9), policy_sha256=name)
    status, found, _ = compared(capsys, "few", "few_others")
    assert (status, found["verdict"]) == (0, "cannot tell")
    assert found["questions_that_would_tell"] >= 250
    assert compared(capsys, "few", "few_others", "--strict")[0] == 3
    assert compared(capsys, "few", "few")[1]["verdict"] == "same", "the same weights and answers"
    main(["compare", "few", "few"])
    assert capsys.readouterr().out.startswith("same: the weights and the answers of few are those of few\n")


def test_margin_and_confidence_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    status, found, _ = compared(capsys, "a", "worse", "--margin", "0.3", "--confidence", "0.99")
    assert (status, found["verdict"], found["margin"], found["confidence"]) == (0, "same", 0.3, 0.99)
    assert compared(capsys, "a", "worse", "--margin", "0")[0] == 2
    assert compared(capsys, "a", "worse", "--confidence", "1")[0] == 2


def test_single_files_and_single_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(capsys, "a/held_out.parquet", "worse/held_out.parquet")[0] == 1
    write("a/other.parquet", rows(5, bool))
    status, _, err = compared(capsys, "a", "worse")
    assert status == 2 and "worse: no benchmark 'other' here, only held_out" in err
    assert compared(capsys, "a", "worse", "--benchmark", "held_out")[0] == 1
    assert compared(capsys, "a", "worse", "--benchmark", "nowhere")[0] == 2


def test_unlike_cards_are_refused_with_a_status_of_their_own_and_compared_even_so_loudly(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("k5/held_out.parquet", rows(500, lambda place: place < 400), k=5, max_searches=2)
    status, _, err = compared(capsys, "a", "k5", "--markdown", "refused.md")
    page = Path("refused.md").read_text()
    assert page.startswith("## Regression: ⛔ refused\n") and "k: 3, 5" in page and "worse" not in page
    assert status == 4 and err.count("\n") == 1 and err.startswith("refused: ")
    assert "k: 3, 5; max_searches: 8, 2" in err and "--even-so" in err
    status, found, err = compared(capsys, "a", "k5", "--even-so", "--markdown", "verdict.md")
    assert status == 0 and err.startswith("WARNING: held_out was measured under two protocols")
    assert found["benchmarks"]["held_out"]["protocol_differences"] == ["k: 3, 5", "max_searches: 8, 2"]
    said = Path("verdict.md").read_text()
    assert "[!WARNING]" in said and "k: 3, 5" in said


def test_lost_questions_count_as_wrong_and_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(500, lambda place: place < 400)
    for row in table[400:402]:
        row["finish_reason"] = "retriever_error"
    write("lost/held_out.parquet", table, policy_sha256="3" * 64)
    status, _, said = compared(capsys, "a", "lost")
    warning = "of held_out's 500 questions, 0 of the reference and 2 of the candidate were lost to failed searches"
    assert status == 0 and warning in said and said.count("\n") == 1


def test_comparisons_are_judged_by_em_and_format(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("c", "d"):
        write(f"{name}/comparison.parquet", rows(50, bool), ("comparison",), policy_sha256=name)
    found = compared(capsys, "c", "d")[1]
    assert list(found["benchmarks"]["comparison"]["metrics"]) == ["em", "format_right"]


def broken(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[], None]:
    def spoil() -> None:
        table = rows(500, lambda place: place < 400)
        change(table)
        write("b/held_out.parquet", table)

    return spoil


def without(column: str) -> Callable[[], None]:
    def spoil() -> None:
        table = read_table("a/held_out.parquet").drop_columns([column])
        write_table("b/held_out.parquet", table, read_metadata("a/held_out.parquet"))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda: None, "b: no such file or folder"),
        (lambda: Path("b").mkdir(), "b: no evaluation here"),
        (lambda: write("b/held_out.parquet", []), "b/held_out.parquet: an evaluation without questions"),
        (broken(lambda table: table.pop(7)), "b/held_out.parquet: 1 of the 500 questions of a/held_out.parquet are"),
        (broken(lambda table: table[3].update(question_id="new")), "1 of the 500 questions of a/held_out.parquet"),
        (broken(lambda table: table[3].update(question_id="q4")), "question 'q4' occurs 2 times"),
        (broken(lambda table: table[3].update(em=None)), "metric 'em' has a value outside of [0, 1]: None"),
        (broken(lambda table: table[3].update(f1=71.9)), "metric 'f1' has a value outside of [0, 1]: 71.9"),
        (broken(lambda table: table[3].update(f1=float("nan"))), "metric 'f1' has a value outside of [0, 1]: nan"),
        (without("cover_em"), "no metric 'cover_em'"),
        (without("prediction"), "column 'prediction' is missing"),
        (
            lambda: write_table("b/held_out.parquet", read_table("a/held_out.parquet"), {}),
            "no protocol card in this file",
        ),
    ],
)
def test_bad_input_is_one_clear_line(
    capsys: pytest.CaptureFixture[str], spoil: Callable[[], None], message: str
) -> None:
    spoil()
    status, _, err = compared(capsys, "a", "b")
    assert status == 2 and message in err and err.count("\n") == 1


def test_a_reader_gets_the_table_and_no_markup_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a", "worse", "--markdown", "out/verdict.md"]) == 1
    said = Path("out/verdict.md").read_text()
    assert said.startswith("## Regression: ❌ worse\n")
    assert "| held_out | em | 500 | 80.0 | 68.0 | -12.0 |" in said
    assert "60 questions flipped, 60 of them lost" in said and "40 more are in the output of `--json`" in said
    (row,) = [line for line in said.splitlines() if "&lt;b&gt;2&lt;/b&gt;" in line]
    assert row.count("|") - row.count(r"\|") == 7 and r"\`Bel\` \| x" in row
    assert {line.count("|") for line in said.splitlines() if line.startswith("| held_out")} == {12}
    plain = capsys.readouterr().out
    assert plain.splitlines()[0].startswith("worse: worse is worse than a (held_out em")
    assert plain.splitlines()[2].startswith("benchmark  metric"), "the verdict, then the table, then 20 of 60 questions"
    assert "held_out q1 lost em, f1, cover_em: 'Port Tarn' -> None" in plain


def test_no_params_file_is_needed_outside_a_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    with_file = compared(capsys, "a", "worse")
    Path("params.yaml").unlink()
    status, found, err = compared(capsys, "a", "worse")
    assert (status, found) == with_file[:2]
    assert err == "no params.yaml here: the built-in parameters are used (see them: r1-searcher params)\n"
    Path("dvc.yaml").touch()
    assert compared(capsys, "a", "worse")[2].startswith("error: params.yaml: no such file")
    Path("dvc.yaml").unlink()
    assert compared(capsys, "a", "worse", "--params", "my.yaml")[2].startswith("error: my.yaml: no such file")
