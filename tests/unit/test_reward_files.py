"""Transcript files of the release: the published figures, the hand-made rows, and broken lines."""

from __future__ import annotations

import gzip
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from r1_searcher.errors import PipelineError
from r1_searcher.evaluation import score as evaluation
from r1_searcher.rewards import files
from r1_searcher.rewards.released import read_transcripts
from stages.evaluate.__main__ import main as evaluate_main
from stages.reward.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
HAND_MADE = ROOT / "tests" / "data" / "hand_made_transcripts.jsonl"
DATA = Path(os.environ.get("R1SEARCHER_DATA", ROOT.parent / "shared" / "data"))
RELEASED = {name: DATA / "r1searcher" / "transcripts" / f"{name}.jsonl" for name in ("hotpotqa_qwen", "2wiki_qwen")}
needs_released = pytest.mark.skipif(
    not all(path.is_file() for path in RELEASED.values()),
    reason=f"no released transcripts in {DATA} (R1SEARCHER_DATA names the folder)",
)
STAGES = {("paper", 1), ("paper", 2), ("released-base", 2), ("released-instruct", 1), ("released-instruct", 2)}


def written(folder: Path, *rows: dict[str, Any] | str) -> Path:
    path = folder / "rows.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# --- the released files

# Percent, as published: EM, Cover-EM, contiguous cover, F1; then the judge's count and searches per question.
PUBLISHED = {
    "hotpotqa_qwen": ("58.0", "65.4", "65.4", "71.9", 375, "2.11"),
    "2wiki_qwen": ("55.4", "63.6", "64.0", "63.7", 325, "2.24"),
}
BROKEN_RULES = {
    ("hotpotqa_qwen", "released-base", 2): {"assistant_written": 18, "answer_too_long": 1, "cjk": 1},
    ("hotpotqa_qwen", "released-instruct", 1): {"no_search": 11},
    ("hotpotqa_qwen", "released-instruct", 2): {"cjk": 1},
    ("hotpotqa_qwen", "paper", 1): {"no_search": 11, "cjk": 1},
    ("2wiki_qwen", "released-base", 2): {"assistant_written": 36},
    ("2wiki_qwen", "released-instruct", 1): {"no_search": 1},
    ("2wiki_qwen", "released-instruct", 2): {},
    ("2wiki_qwen", "paper", 2): {},
}


@needs_released
@pytest.mark.parametrize("name", RELEASED)
def test_published_figures(name: str) -> None:
    began = time.process_time()
    score = evaluation.score_files([RELEASED[name]])[f"{name}.jsonl"]
    assert time.process_time() - began < 2  # seconds for 500 transcripts
    rates = tuple(f"{100 * (score[key] or 0):.1f}" for key in ("em", "cover_em", "cover_em_contiguous", "f1"))
    assert (*rates, score["judge_true"], f"{score['searches_per_question']:.2f}") == PUBLISHED[name]
    assert score["n"] == 500


@pytest.mark.slow
@needs_released
@pytest.mark.parametrize(("name", "reward_set", "stage"), BROKEN_RULES)
def test_rules_that_released_transcripts_break(name: str, reward_set: Any, stage: int) -> None:
    began = time.process_time()
    (rows,) = files.score_files([RELEASED[name]], reward_set, stage, "f1").values()
    assert time.process_time() - began < 2
    broken = BROKEN_RULES[name, reward_set, stage]
    assert Counter(rule for row in rows for rule in row["violations"]) == broken
    if stage == 1:
        return
    # In stage 2 the penalty is the whole difference between the reward and F1. The reward strips the prediction, and so
    # takes the one " False " of these files for a no, which the evaluation does not.
    f1 = (evaluation.score_files([RELEASED[name]])[f"{name}.jsonl"]["f1"] or 0) * 500 + (name == "hotpotqa_qwen")
    penalty = 1 if reward_set == "released-instruct" else 2
    assert sum(row["reward"] for row in rows) == pytest.approx(f1 - penalty * sum(broken.values()))


# --- the hand-made rows


def hand_made() -> list[dict[str, Any]]:
    return [json.loads(line) for line in HAND_MADE.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("row", hand_made(), ids=lambda row: row["case"])
def test_hand_made_rows(row: dict[str, Any], tmp_path: Path) -> None:
    path, expected = written(tmp_path, row), row["expected"]
    score = evaluation.score_files([path])["rows.jsonl"]
    for key in ("em", "f1", "cover_em", "cover_em_contiguous"):
        assert score[key] == pytest.approx(expected[key]), key
    assert score["searches_per_question"] == expected["searches"]
    for reward_set, stage in sorted(STAGES):
        reward, violations = expected[f"{reward_set} {stage}"]
        ((scored,),) = files.score_files([path], reward_set, stage, "f1").values()
        assert scored["reward"] == pytest.approx(reward), (reward_set, stage)
        assert scored["violations"] == violations, (reward_set, stage)
        assert sum(scored["components"].values()) == pytest.approx(reward)


def test_hand_made_rows_break_every_rule_of_the_released_sets() -> None:
    named = {rule for row in hand_made() for key in row["expected"] if " " in key for rule in row["expected"][key][1]}
    assert {"tag_counts_differ", "assistant_written", "end_think_count", "tag_in_answer"} <= named
    assert {"begin_answer_count", "end_answer_count", "answer_too_long", "cjk", "no_search"} <= named


def test_the_means_of_a_file() -> None:
    rows, score = hand_made(), evaluation.score_files([HAND_MADE])[HAND_MADE.name]
    assert score["n"] == len(rows)
    for key in ("em", "f1", "cover_em", "cover_em_contiguous"):
        assert score[key] == pytest.approx(sum(row["expected"][key] for row in rows) / len(rows))
    assert score["judge_true"] == sum(row["gpt4o_output"] == "True" for row in rows)


# --- reading


def test_verdicts_and_predictions(tmp_path: Path) -> None:
    text = "</think><answer> Oslo </answer>"
    rows: list[dict[str, Any]] = [
        {"answer": "Oslo", "gen_text_store": text, "pred_ans": " Bergen ", "gpt4o_output": "true."},
        {"answer": "Oslo", "gen_text_store": text, "pred_ans": None, "gpt4o_output": "False"},
        {"answer": ["Oslo", "Kristiania"], "gen_text_store": text},
        {"answer": "Oslo", "gen_text_store": "nothing", "gpt4o_output": "It is True that"},
    ]
    read = read_transcripts(written(tmp_path, *rows))
    assert [row.prediction for row in read] == [" Bergen ", "Oslo", "Oslo", None]
    assert [row.judge for row in read] == [True, False, None, None]
    assert read[2].golds == ("Oslo", "Kristiania")


def test_no_verdict_is_absent_and_not_zero(tmp_path: Path) -> None:
    path = written(tmp_path, {"answer": "Oslo", "gen_text_store": "x", "pred_ans": ""})
    scores = evaluation.score_files([path])
    assert scores["rows.jsonl"]["judge_true"] is None
    assert evaluation.table(scores).splitlines()[1].split() == "rows.jsonl 1 0.0 0.0 0.0 0.0 0.0 0.0 - 0.00".split()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"answer": "x", ', "line 3: not JSON"),
        ("[1]", "line 3: a JSON object was expected, not list"),
        ('{"gen_text_store": "x"}', "line 3: 'answer' is missing .the line has gen_text_store"),
        ('{"answer": "x"}', "line 3: 'gen_text_store' is missing"),
        ('{"answer": "x", "gen_text_store": null}', "line 3: 'gen_text_store' must be a string, not NoneType"),
        ('{"answer": " ", "gen_text_store": "x"}', "line 3: 'answer' must be a gold answer"),
        ('{"answer": [], "gen_text_store": "x"}', "line 3: 'answer' must be a gold answer"),
        ('{"answer": [true], "gen_text_store": "x"}', "line 3: 'answer' must be a string or a list of strings"),
        ('{"answer": "x", "gen_text_store": "x", "pred_ans": 7}', "line 3: 'pred_ans' must be a string, not int"),
    ],
)
def test_a_broken_line_stops_with_its_number(line: str, fault: str, tmp_path: Path) -> None:
    path = written(tmp_path, {"answer": "x", "gen_text_store": "x"}, "", line)
    with pytest.raises(PipelineError, match=rf"rows\.jsonl, {fault}"):
        evaluation.score_files([path])


def test_golds_that_are_numbers_or_partly_empty(tmp_path: Path) -> None:
    rows = [{"answer": answer, "gen_text_store": "x", "pred_ans": "1984"} for answer in (1984, ["1984", ""])]
    assert [row.golds for row in read_transcripts(written(tmp_path, *rows))] == [("1984",), ("1984",)]


PLAIN = [
    {"question": "q", "answer": "Ada Penn", "pred_ans": "Ada"},
    {"id": "1", "question": "q", "golden_answers": ["Ada", "Penn"], "pred": "Ada"},
    {"golden_answers": ["Ada"], "output": {"pred": "Ada", "metric_score": {"em": 1}}},
    {"answer": 1984, "prediction": "1984"},
    {"answer": "Ada", "prediction": None},
]


@pytest.mark.parametrize("packed", ["rows.jsonl", "rows.json", "rows.jsonl.gz"])
def test_plain_predictions_in_any_form(tmp_path: Path, packed: str) -> None:
    path = tmp_path / packed
    text = json.dumps(PLAIN) if packed == "rows.json" else "".join(json.dumps(row) + "\n" for row in PLAIN)
    path.write_bytes(gzip.compress(text.encode()) if packed.endswith(".gz") else text.encode())
    score = evaluation.score_files([path])[packed]
    assert (score["n"], score["em"], score["cover_em"]) == (5, 0.6, 0.6)
    assert score["f1"] == pytest.approx((2 / 3 + 3) / 5) and score["searches_per_question"] is None
    assert evaluation.table({packed: score}).splitlines()[1].split()[-2:] == ["-", "-"]


@pytest.mark.parametrize(
    ("golds", "read"),
    [({"target": ["Ada", "Penn"]}, ("Ada", "Penn")), ("['Ada', 'Penn']", ("Ada", "Penn")), ("Ada", ("Ada",))],
)
@pytest.mark.parametrize("packed", ["rows.jsonl", "rows.json", "rows.jsonl.gz"])
def test_transcripts_in_every_kind_of_file(tmp_path: Path, golds: Any, read: tuple[str, ...], packed: str) -> None:
    path, row = tmp_path / packed, {"input": "Ask.", "output": "So <answer> Penn </answer>", "gts": golds, "score": 1.0}
    text = (json.dumps([row, row]) if packed == "rows.json" else 2 * (json.dumps(row) + "\n")).encode()
    path.write_bytes(gzip.compress(text) if packed.endswith(".gz") else text)
    assert [(one.golds, one.prediction) for one in read_transcripts(path)] == [(read, "Penn")] * 2
    assert evaluation.score_files([path])[packed]["searches_per_question"] == 0


BY_ID = {"a": "Ada Penn", "b": None, "c": "1999"}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("squad.json", json.dumps(BY_ID)),
        ("hotpotqa.json", json.dumps({"answer": BY_ID, "sp": {"a": [["Ada", 0]]}}, indent=1)),
        (
            "kilt.jsonl",
            "".join(json.dumps({"id": one, "output": [{"answer": said}]}) + "\n" for one, said in BY_ID.items()),
        ),
        ("answers.jsonl", "".join(json.dumps({"_id": one, "answer": said}) + "\n" for one, said in BY_ID.items())),
        ("rows.csv", "id,prediction\n" + "".join(f"{one},{said or ''}\n" for one, said in BY_ID.items())),
    ],
)
def test_predictions_by_id_beside_the_questions(
    tmp_path: Path, name: str, given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    golds = {"c": 1999, "a": ["Penn", "Ada Penn"], "b": "Moss"}
    questions = written(tmp_path, *({"id": one, "question": f"{one}?", "answer": gold} for one, gold in golds.items()))
    path = tmp_path / name
    path.write_text(given, encoding="utf-8")
    assert evaluate_main(["score", str(path), "--questions", str(questions), "--json"]) == 0
    score = json.loads(capsys.readouterr().out)[name]
    assert (score["n"], score["em"]) == (3, 2 / 3)
    for wrong, message in (
        ({"a": "x", "z": "y"}, "1 of 2 ids are of no question with a gold answer, such as 'z'"),
        ({"a": "x"}, "2 of 3 questions have no prediction, such as 'c' (give null"),
        ({**BY_ID, "a": ["x"]}, "'a': 'prediction' must be a string, got ['x']"),
    ):
        (tmp_path / "wrong.json").write_text(json.dumps(wrong), encoding="utf-8")
        assert evaluate_main(["score", str(tmp_path / "wrong.json"), "--questions", str(questions)]) == 2
        assert message in capsys.readouterr().err


def test_predictions_that_pandas_wrote(tmp_path: Path) -> None:
    nan = float("nan")
    rows = [{"answer": "1999", "pred": 1999.0}, {"answer": "nan", "pred": nan}, {"answer": "2.5", "pred": 2.5}]
    score = evaluation.score_files([written(tmp_path, *rows)])["rows.jsonl"]
    assert (score["n"], score["em"]) == (3, 2 / 3), "a whole number is its digits, NaN no answer"


def test_golds_that_normalise_to_nothing_are_scored_exactly(tmp_path: Path) -> None:
    pairs = [("The", "The"), ("The", "the"), ("A", " A "), ("A", "B"), (")", ")"), (")", "Ada (Penn)")]
    path = written(tmp_path, *({"answer": gold, "pred": said} for gold, said in pairs))
    score = evaluation.score_files([path])["rows.jsonl"]
    assert score["num_exact_golds"] == 6
    assert [score[key] for key in ("em", "f1", "cover_em", "cover_em_contiguous")] == [0.5] * 4


def test_more_metrics_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from r1_searcher.extend import answer_metric\n\n\n@answer_metric('length')\n"
        "def length(prediction, golds):\n    return float(len(prediction or ''))\n"
    )
    path = written(tmp_path, {"answer": ["北京", "US"], "pred": "北京。"}, {"answer": "US", "pred": "U.S."})
    how = ["score", str(path), "--metric", "f1_chars", "--metric", "length", "--extension", str(own)]
    assert not evaluate_main([*how, "--json"])
    score = json.loads(capsys.readouterr().out)["rows.jsonl"]
    assert (score["em"], score["f1"]) == (0, 0)
    assert (score["em_squad"], score["f1_squad"], score["f1_chars"], score["length"]) == (0.5, 0.5, 1, 3.5)
    assert not evaluate_main(how)
    assert "em_squad  f1_squad  f1_chars" in capsys.readouterr().out
    assert evaluate_main(["score", str(path), "--metric", "f1_char"]) == 2
    assert "no answer metric 'f1_char' (known: cover_chars, cover_em, em, " in capsys.readouterr().err


def test_predictions_that_cannot_be_scored_are_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]]
    rows = [{"answer": "Ada"}, {"pred": "Ada"}, {"answer": "", "pred": "x"}, {"answer": "Ada", "pred": ["Ada"]}]
    with pytest.raises(PipelineError) as caught:
        evaluation.score_files([written(tmp_path, *rows)])
    said = str(caught.value)
    assert "rows.jsonl: 4 rows cannot be used: line 1: no column of a prediction (pred_ans, prediction, " in said
    assert "line 2: no column of gold answers (answers, " in said
    assert "line 3: 'answer' contains no answer; line 4: 'pred' must be a string, got ['Ada']" in said
    with pytest.raises(PipelineError, match="contains no predictions"):
        evaluation.score_files([written(tmp_path, "")])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"gone\.jsonl: no such file"):
        read_transcripts(tmp_path / "gone.jsonl")
    with pytest.raises(PipelineError, match="no such file"):
        read_transcripts(tmp_path)
    with pytest.raises(PipelineError, match="contains no transcripts"):
        read_transcripts(written(tmp_path, "", " "))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"answer": "Orléans"}'.encode("latin-1"))
    with pytest.raises(PipelineError, match="not UTF-8"):
        read_transcripts(latin)


def test_files_of_one_name_keep_their_paths(tmp_path: Path) -> None:
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(written(tmp_path / folder, {"answer": "x", "gen_text_store": "x"}))
    assert list(evaluation.score_files([*paths, HAND_MADE])) == [str(paths[0]), str(paths[1]), HAND_MADE.name]


# --- the command


def test_score_prints_json_in_the_files_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--set", "released-base", "--stage", "2", str(HAND_MADE), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == [HAND_MADE.name]
    rewards = [row["reward"] for row in printed[HAND_MADE.name]]
    assert rewards == pytest.approx([row["expected"]["released-base 2"][0] for row in hand_made()])
    assert printed[HAND_MADE.name][0] == {
        "reward": 1.0,
        "components": {"retrieval": 0.0, "format": 0.0, "answer": 1.0},
        "violations": [],
    }


def test_score_prints_a_summary(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good = {"answer": "Oslo", "gen_text_store": "</think><answer> Oslo </answer>"}
    path = written(tmp_path, good, {**good, "gen_text_store": "中"})
    assert main(["score", "--set", "paper", "--stage", "2", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "rows.jsonl: 2 transcripts, mean reward -0.5000, 1 without a violation"
    assert lines[1:] == ["  begin_answer_count: 1", "  cjk: 1", "  end_answer_count: 1", "  end_think_count: 1"]


def test_score_of_a_stage_that_a_set_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "--set", "released-base", "--stage", "1", str(HAND_MADE)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: the reward set released-base has no stage 1")
    assert err.count("\n") == 1
