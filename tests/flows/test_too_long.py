"""A question that is too long: reported before anything is sampled, or left out without losing stored work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rooms
import pyarrow as pa
import pytest
import yaml

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_json, read_metadata, read_table, write_table
from r1_searcher.training.workbench import Workbench
from r1_searcher.types.schemas import QUESTIONS, ROLLOUTS

VALIDATION = "data/questions/validation.parquet"
TRAIN = "data/questions/train.parquet"


def segments(iterations: int) -> dict[str, Any]:
    return {"s1": {"stage": "stage1", "prev": "data/base_model", "iterations": iterations, "iteration_offset": 0}}


def train() -> None:
    from flows.train import train as flow

    flow("s1")


def change(**sections: dict[str, Any]) -> None:
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    for name, values in sections.items():
        settings[name] |= values
    Path("params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")


def lengthen(file: str, ids: set[str]) -> None:
    rows = read_table(Path(file), QUESTIONS).to_pylist()
    for row in rows:
        if row["question_id"] in ids:
            row["question"] += " really" * 100
    write_table(Path(file), pa.Table.from_pylist(rows, schema=QUESTIONS))


def asked(iteration: int) -> set[str]:
    table = read_table(Path(f"data/train/s1/rollouts/{iteration:04d}.parquet"), ROLLOUTS)
    return set(table["question_id"].to_pylist())


def test_left_out_it_costs_no_iteration_that_is_stored(
    prefect: str, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project("long", segments(2))
    third = Workbench("s1").asked._draw(2)["question_id"].to_pylist()
    lengthen(TRAIN, {third[0]})
    train()  # the first two iterations draw other questions: it is not reported
    change(train={"segments": segments(5)})
    fake_rooms.calls.clear()
    with pytest.raises(PipelineError, match=rf"1 of 12 questions leave no room.*{third[0]}.*questions.too_long: leave"):
        train()
    assert fake_rooms.calls == []

    change(questions={"too_long": "leave_out"})
    capsys.readouterr()
    train()
    assert fake_rooms.calls.count("rollout") == 3  # two of five were kept
    assert asked(2) == set(third[1:])
    assert read_metadata(Path("data/train/s1/rollouts/0002.parquet"))["left_out"] == [third[0]]
    assert "left_out" not in read_metadata(Path("data/train/s1/rollouts/0001.parquet"))
    said = [line for line in capsys.readouterr().out.splitlines() if "left out" in line]
    assert said == [
        f"warning: 1 of 12 questions in {TRAIN} leave no room in rollout.max_total_tokens 192, and are left out "
        f"(questions.too_long): {third[0]}"
    ]
    metrics = read_json(Path("metrics/train/s1.json"))
    assert metrics["num_questions_left_out"] == 1
    assert metrics["questions_left_out"] == {TRAIN: [third[0]]}


def test_of_the_watch_it_is_left_out_too(project: Callable[..., Path]) -> None:
    project("watch", segments(2))
    before = Workbench("s1")
    change(questions={"too_long": "leave_out"})
    same = Workbench("s1")
    assert same.keys == before.keys and same._watch_key(0) == before._watch_key(0)  # none is too long
    assert same.asked.left_out == {}
    lengthen(VALIDATION, {"validation1"})
    bench = Workbench("s1")
    assert bench.keys == before.keys
    assert bench.validation["question_id"].to_pylist() == ["validation0", "validation2", "validation3"]
    change(questions={"too_long": "stop"})
    assert bench._watch_key(0) != Workbench("s1")._watch_key(0)


def test_an_iteration_without_a_question_stops(project: Callable[..., Path]) -> None:
    project("all", segments(2))
    second = Workbench("s1").asked._draw(1)["question_id"].to_pylist()
    change(questions={"too_long": "leave_out"})
    lengthen(TRAIN, set(second))
    with pytest.raises(PipelineError, match=r"all questions of iteration 2 are too long, and left out"):
        Workbench("s1")


def test_of_an_evaluation_it_is_said_before_training(project: Callable[..., Path]) -> None:
    project("evaluated", segments(2))
    held_out = Path(VALIDATION).with_name("held_out.parquet")
    write_table(held_out, read_table(Path(VALIDATION), QUESTIONS))
    assert not [line for line in Workbench("s1").check_before() if "evaluation" in line]
    lengthen(str(held_out), {"validation1"})
    (line,) = [line for line in Workbench("s1").check_before() if "evaluation" in line]
    assert "held_out.parquet: the prompts of 1 of 4 questions leave no room" in line and "validation1" in line


def test_a_script_that_the_format_forbids_is_said_before_training(project: Callable[..., Path]) -> None:
    project("scripts", segments(2))
    rows = read_table(Path(TRAIN), QUESTIONS).to_pylist()
    for row in rows:
        row["answers"] = ["安徽省"]
    write_table(Path(TRAIN), pa.Table.from_pylist(rows, schema=QUESTIONS))
    (line,) = [line for line in Workbench("s1").check_before() if "reward.scripts" in line]
    assert f"questions of {TRAIN} have only gold answers in a script that reward.scripts paper forbids" in line
    change(reward={"scripts": ["Latin", "Han"]})
    assert not [line for line in Workbench("s1").check_before() if "reward.scripts" in line]
