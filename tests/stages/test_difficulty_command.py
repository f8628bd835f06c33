"""Difficulty and closed-book answers of a real, random policy: from files to files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from tiny_policy import params_with, questions_table, rollout_params, write_policy

from r1_searcher import params
from r1_searcher.corpus.world import make_world
from r1_searcher.files import artefacts, sums
from r1_searcher.retrieval import build_index
from r1_searcher.types import schemas
from stages.questions.__main__ import main


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a random policy, an index, questions and parameters."""
    monkeypatch.chdir(tmp_path)
    settings = params_with(
        threads=torch.get_num_threads(),
        rollout=rollout_params(max_total_tokens=120).model_dump(),
        difficulty__samples=4,
        difficulty__medium_up_to=4,
        difficulty__easy_below=2,
        difficulty__questions_a_chunk=2,
    )
    Path("params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")), encoding="utf-8")
    write_policy(tmp_path / "policy")
    passages = make_world(params.WorldSize(people=20, films=8, books=8, cities=5), 0).passages()
    build_index(passages, settings.index, tmp_path / "data/index", "test")
    artefacts.write_table("data/questions/train.parquet", questions_table(["Who was Ada?", "Where is Trabo?", "x"]))
    artefacts.write_table("data/questions/held_out.parquet", questions_table(["Who made Silent Harbor?"]))
    return tmp_path


def test_difficulty(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["difficulty", "--policy=policy", "--out"]
    assert main([*command, "one.parquet"]) == 0
    assert main([*command, "two.parquet"]) == 0
    out = capsys.readouterr().out
    assert out.count("difficulty: 3 of 3 questions") == 2 and out.count("(stored)") == 2
    assert Path("one.parquet").read_bytes() == Path("two.parquet").read_bytes()
    assert sums.check_single(Path("one.parquet"))
    labelled = artefacts.read_table("one.parquet", schemas.QUESTIONS)
    assert labelled["num_rollouts"].to_pylist() == [4, 4, 4]
    assert labelled["difficulty"].null_count == 0
    about = artefacts.read_metadata("one.parquet")
    assert (about["samples"], about["medium_up_to"], about["metric"]) == (4, 4, "cover_em")
    assert about["policy"] == artefacts.sha256_tree("policy")


def test_a_question_that_is_too_long_has_no_label_or_stops(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["difficulty", "--policy=policy", "--out=out.parquet"]
    questions = questions_table(["Who was Ada?", "Where is Trabo?", "x" + " really" * 200])
    artefacts.write_table("data/questions/train.parquet", questions)
    assert main(command) == 2
    assert "the prompt of question q2 has" in capsys.readouterr().err
    raw = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    raw["questions"]["too_long"] = "leave_out"
    Path("params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "2 of 3 questions (stored)" in out and "1 unknown" in out  # the first chunk is kept
    labelled = artefacts.read_table("out.parquet", schemas.QUESTIONS)
    assert labelled["num_rollouts"].to_pylist() == [4, 4, 0] and labelled["difficulty"].to_pylist()[2] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy=nowhere"], "nowhere: no such model folder"),
        (["--policy=policy", "--samples=3"], "--samples: 3 rollouts cannot tell medium (up to 4) from difficult"),
        (["--policy=policy", "--questions=nowhere.parquet"], "nowhere.parquet: no such file"),
        (["--policy=policy", "--index=policy"], "policy: no index here"),
    ],
)
def test_faults_of_difficulty(
    project: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["difficulty", *options, "--out=out.parquet"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"error: {message}")
    assert not Path("out.parquet").exists()


def test_closed_book(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--policy=policy"]) == 0
    found = artefacts.read_json("data/audit/closed_book.json")
    assert {name: figures["num_questions"] for name, figures in found.items()} == {"train": 3, "held_out": 1}
    assert all(0 <= figures["em"] <= figures["cover_em"] <= 1 for figures in found.values())
    assert "train: of 3 questions" in capsys.readouterr().out
    assert not Path("metrics").exists() and not Path("data/audit/verdict.json").exists()
