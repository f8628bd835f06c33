"""Questions and rollouts in the forms of others, and back, with equal content."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from r1_searcher.cli.export import main
from r1_searcher.environments.for_verl import compute_score
from r1_searcher.errors import PipelineError
from r1_searcher.evaluation.score import score_files
from r1_searcher.files.artefacts import read_metadata, read_table, write_table, write_text
from r1_searcher.forms.dataset_folder import card
from r1_searcher.params import shipped
from r1_searcher.questions.files import read_questions
from r1_searcher.rewards.files import score_files as score_rewards
from r1_searcher.rewards.released import read_transcripts
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.transcripts import grammar
from r1_searcher.types.schemas import QUESTIONS, REWARDS, ROLLOUTS

ROWS: list[dict[str, Any]] = [
    {"question_id": "q1", "question": "Who drew “it”?", "answers": ["Mira Voss", "Voss"], "dataset": "world"},
    {"question_id": "q2", "question": "Wo\nliegt Köln? 北京", "answers": ["3"], "dataset": "world", "num_hops": 2},
    {"question_id": "q3", "question": '"a", {b}', "answers": ["yes"], "dataset": "other", "kind": "comparison"},
]
MORE = {"q2": {"difficulty": "easy", "num_rollouts": 4, "num_passes": 1, "supporting_titles": ["Köln", "A, B"]}}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    empty: dict[str, Any] = {**dict.fromkeys(QUESTIONS.names), "supporting_titles": []}
    rows = [{**empty, **row, **MORE.get(row["question_id"], {})} for row in ROWS]
    write_table(tmp_path / "questions.parquet", pa.Table.from_pylist(rows, schema=QUESTIONS))
    return tmp_path / "questions.parquet"


@pytest.fixture(autouse=True)
def outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt is then that of the built-in parameters."""
    monkeypatch.chdir(tmp_path)


def segments_of(answer: str) -> list[dict[str, str]]:
    block = "\n\n<|begin_of_documents|>\n(1)Köln\n<|end_of_documents|>\n\n"
    asked, said = "I ask <|begin_of_query|> it <|end_of_query|>", f"So</think>\n\n<answer> {answer} </answer>"
    parts = (("policy", asked), ("document", block), ("policy", said))
    return [{"source": source, "text": text} for source, text in parts]


def text_of(answer: str) -> str:
    return "".join(part["text"] for part in segments_of(answer))


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    """Two iterations, as training leaves them, with their rewards."""
    for number, answer in enumerate(("Voss", "nobody")):
        rows = []
        for row in ROWS:
            text = text_of(answer)
            rows.append(
                {
                    **{name: row[name] for name in ("question_id", "question", "answers")},
                    **{"trajectory_id": f"{row['question_id']}#{number}", "sample": number, "prompt": "Ask. <think>"},
                    **{"token_ids": [1, 2], "token_source": [0, 1], "policy_logprobs": [-0.5], "turns": []},
                    **{"segments": segments_of(answer), "text": text, "answer": answer},
                    **{"finish_reason": grammar.FINISH_ANSWER, "seed": 0},
                }
            )
        table = pa.Table.from_pylist(rows, schema=ROLLOUTS)
        write_table(tmp_path / f"rollouts/{number:04d}.parquet", table, {"key": f"k`{number}"})
        rewards = [
            {
                **{
                    field.name: 0
                    for field in REWARDS
                    if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
                },
                **{"trajectory_id": row["trajectory_id"], "question_id": row["question_id"], "violations": []},
                **{"format_right": True, "counted": True, "total": number + place / 4},
            }
            for place, row in enumerate(rows)
        ]
        write_table(tmp_path / f"rewards/{number:04d}.parquet", pa.Table.from_pylist(rewards, schema=REWARDS))
    return tmp_path / "rollouts"


@pytest.mark.parametrize("form", [["verl"], ["trl"], ["trl", "--conversational"]])
def test_questions_come_back_as_they_were(form: list[str], questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "out/train.parquet"
    assert main(["questions", str(questions), "--form", *form, "--out", str(out)]) == 0
    assert read_questions(out).equals(read_table(questions, QUESTIONS))


def test_the_columns_are_those_that_verl_and_trl_read(questions: Path, tmp_path: Path) -> None:
    for form in ("verl", "trl"):
        assert main(["questions", str(questions), "--form", form, "--split", "dev", "--out", str(tmp_path / form)]) == 0
    verl, trl = (pq.read_table(tmp_path / form).to_pylist() for form in ("verl", "trl"))
    assert verl[0]["data_source"] == "world" and verl[0]["ability"] == "search"
    assert verl[0]["reward_model"] == {"style": "rule", "ground_truth": {"target": ["Mira Voss", "Voss"]}}
    assert verl[1]["extra_info"] == {"split": "dev", "index": 1, "question": "Wo\nliegt Köln? 北京"}
    [message] = verl[2]["prompt"]
    assert message["role"] == "user" and message["content"] == trl[2]["prompt"]
    assert '"a", {b}' in trl[2]["prompt"] and trl[2]["prompt"].endswith("<think>")


def test_rollouts_as_verl_dumps_them_are_scored_like_ours(rollouts: Path, tmp_path: Path) -> None:
    out = tmp_path / "dump.jsonl"
    command = ["rollouts", str(rollouts), "--form", "verl", "--rewards", str(tmp_path / "rewards"), "--out", str(out)]
    assert main(command) == 0
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row["score"] for row in rows] == [0, 0.25, 0.5, 1, 1.25, 1.5] and [row["step"] for row in rows] == [
        1
    ] * 3 + [2] * 3
    ours = pa.concat_tables([read_table(file) for file in sorted(rollouts.iterdir())]).to_pylist()
    read = read_transcripts(out)
    assert [(row.transcript.text, list(row.golds), row.prediction) for row in read] == [
        (row["text"], row["answers"], row["answer"]) for row in ours
    ]
    (score,) = score_files([out]).values()
    assert score["n"] == 6 and score["em"] == pytest.approx(1 / 6) and score["searches_per_question"] == 1


def test_rollouts_as_prompts_and_completions(
    rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, chat = tmp_path / "plain.parquet", tmp_path / "chat.parquet"
    assert main(["rollouts", str(rollouts), "--form", "trl", "--out", str(plain)]) == 0
    rewards = ["--rewards", str(tmp_path / "rewards")]
    assert main(["rollouts", str(rollouts), "--form", "trl", "--conversational", *rewards, "--out", str(chat)]) == 0
    texts, messages = pq.read_table(plain).to_pylist(), pq.read_table(chat).to_pylist()
    assert [row["completion"] for row in texts] == [text_of("Voss")] * 3 + [text_of("nobody")] * 3
    assert "reward" not in texts[0] and messages[4]["reward"] == 1.25 and texts[1]["answers"] == ["3"]
    assert messages[0]["prompt"] == [{"role": "user", "content": "Ask. <think>"}]
    assert messages[0]["completion"] == [{"role": "assistant", "content": text_of("Voss")}]
    one = ["--rewards", str(tmp_path / "rewards/0000.parquet")]
    assert main(["rollouts", str(rollouts), "--form", "trl", *one, "--out", str(chat)]) == 2
    assert "no reward for 3 of 6 trajectories, such as q1#1" in capsys.readouterr().err


@pytest.mark.parametrize("form", [["trl"], ["trl", "--conversational"], ["verl"]])
@pytest.mark.parametrize("lines", [False, True], ids=["as written", "as JSON lines"])
def test_rollouts_come_back_with_equal_rewards(form: list[str], lines: bool, rollouts: Path, tmp_path: Path) -> None:
    files = sorted(rollouts.iterdir())
    ours = pa.concat_tables([read_table(file) for file in files])
    for file in files:
        write_table(tmp_path / "rewards" / file.name, reward_table(read_table(file), shipped().reward, 2))
    out = tmp_path / "exported"
    command = ["rollouts", str(rollouts), "--rewards", str(tmp_path / "rewards"), "--form", *form, "--out", str(out)]
    assert main(command) == 0
    if lines and form != ["verl"]:
        write_text(out, "".join(json.dumps(row) + "\n" for row in pq.read_table(out).to_pylist()))
    expected = reward_table(ours, shipped().reward, 2)["total"].to_pylist()
    assert len(set(expected)) > 1, "rewards that tell rows apart"
    reward = shipped().reward
    (scored,) = score_rewards([out], reward.set, 2, reward.answer_metric).values()
    assert [row["reward"] for row in scored] == expected
    read = read_transcripts(out)
    assert [(row.question, row.transcript.text, list(row.golds), row.prediction) for row in read] == [
        (row["question"].strip(), row["text"], row["answers"], row["answer"]) for row in ours.to_pylist()
    ]
    (score,) = score_files([out]).values()
    assert score["n"] == 6 and score["em"] == pytest.approx(1 / 6) and score["searches_per_question"] == 1


@pytest.mark.parametrize("golds", [list, np.array, lambda answers: {"target": answers}])
def test_verl_gives_the_reward_of_training(
    golds: Callable[[list[str]], Any], rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = pa.concat_tables([read_table(file) for file in sorted(rollouts.iterdir())])
    expected = reward_table(ours, shipped().reward, 2)["total"].to_pylist()
    monkeypatch.chdir(tmp_path)  # without a params.yaml: the defaults
    scores = [
        compute_score("world", row["text"], golds(row["answers"]), {"question": row["question"]}, stage=2)
        for row in ours.to_pylist()
    ]
    assert [score["score"] for score in scores] == expected and len(set(expected)) > 1
    assert {"format", "answer"} <= set(scores[0])
    with pytest.raises(PipelineError, match=r"world: reward_model\.ground_truth contains no answer"):
        compute_score("world", "x", {"target": []})


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"completion": [{"role": "tool", "content": "x"}], "answers": ["y"]}, "'completion' must be a text, or one"),
        ({"completion": [], "answers": ["y"]}, "'completion' must be a text, or one message of the assistant"),
        ({"completion": "x", "answers": []}, "'answer' must be a gold answer"),
        ({"completion": "x", "solution": "y"}, "'answer' is missing"),
    ],
)
def test_a_wrong_row_of_trl_is_one_line(row: dict[str, Any], fault: str, tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"prompt": "Ask. <think>", **row}])
    write_table(tmp_path / "rows.parquet", table)
    with pytest.raises(PipelineError, match=rf"rows\.parquet, row 1: {fault}"):
        score_files([tmp_path / "rows.parquet"])


def test_predictions_beside_prompts_stay_predictions(tmp_path: Path) -> None:
    row = {"prompt": "Ask.", "completion": "I think it is Bergen.", "prediction": "Oslo", "answer": "Oslo"}
    write_table(tmp_path / "rows.parquet", pa.Table.from_pylist([row]))
    write_text(tmp_path / "rows.jsonl", json.dumps(row))
    for score in score_files([tmp_path / "rows.parquet", tmp_path / "rows.jsonl"]).values():
        assert score["em"] == 1 and score["searches_per_question"] is None


def test_a_dataset_folder_has_the_files_and_a_card(rollouts: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    assert main(["rollouts", str(rollouts), "--form", "hub", "--out", str(out)]) == 0
    for number in (0, 1):
        copied, ours = out / f"data/train-{number:04d}.parquet", rollouts / f"{number:04d}.parquet"
        assert pq.read_table(copied).equals(read_table(ours))
    header, text = (out / "README.md").read_text(encoding="utf-8").removeprefix("---\n").split("\n---\n", 1)
    (config,) = yaml.safe_load(header)["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    assert "6 rows" in text and "| `token_ids` | `list<" in text and '"key": "k`0"' in text
    assert main(["questions", str(questions), "--form", "hub", "--split", "dev", "--out", str(tmp_path / "q")]) == 0
    assert read_questions(tmp_path / "q/data/dev-0000.parquet").equals(read_table(questions, QUESTIONS))
    assert read_metadata(out / "data/train-0001.parquet") == {"key": "k`1"}
    assert "````json" in card("questions", "train", 1, QUESTIONS, {"a": "```"})


def test_a_dataset_folder_is_replaced_whole_or_not_at_all(
    rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, first = tmp_path / "hub", rollouts / "0000.parquet"
    for files in (rollouts, first):
        assert main(["rollouts", str(files), "--form", "hub", "--out", str(out)]) == 0
    assert [file.name for file in (out / "data").iterdir()] == ["train-0000.parquet"], "none of the earlier export"
    (own := tmp_path / "own").mkdir()
    (own / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["rollouts", str(first), "--form", "hub", "--out", str(own)]) == 2
    assert "a folder with other files" in capsys.readouterr().err
    assert [file.name for file in own.iterdir()] == ["notes.txt"]


def test_what_is_not_there_is_one_line(rollouts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["rollouts", str(tmp_path / "empty"), "--form", "trl", "--out", str(tmp_path / "out")]) == 2
    assert "empty: no *.parquet in this folder" in capsys.readouterr().err
    command = ["rollouts", str(rollouts), "--form", "hub", "--rewards", str(tmp_path / "rewards")]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2 and not (tmp_path / "out").exists()
    assert (
        "--rewards: with --form hub the files are copied unchanged, so rewards cannot be added"
        in capsys.readouterr().err
    )
