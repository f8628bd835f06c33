"""A path inside a stage's output is refused, because DVC would empty it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from r1_searcher.cli.benchmarks import main as benchmarks
from r1_searcher.errors import PipelineError
from r1_searcher.files.stage_outputs import free_place, stage_outputs
from stages.base_model.__main__ import main as base_model
from stages.evaluate.__main__ import main as evaluate
from stages.questions.__main__ import main as questions

ROOT = Path(__file__).resolve().parents[2]
_Main = Callable[[list[str]], int]


@pytest.mark.parametrize(
    "place",
    [
        "data/evaluation/mine",
        "./data/corpus/../evaluation/mine/x.parquet",
        "data/train/s9-99/rollouts/mine.parquet",
        "data/benchmark_evaluation/hotpotqa/stage2/mine",
    ],
)
def test_inside_an_output(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(PipelineError, match=r"lies inside an output of the stage .*\(choose another place, e\.g\."):
        free_place(place)


@pytest.mark.parametrize(
    "place",
    [
        "evaluations/mine",
        "data/evaluation",
        "data/difficulty/hard.parquet",
        "data/mine",
        "data/evaluation_of_mine/x",
        "/tmp/x",
        "rollouts.parquet",
    ],
)
def test_elsewhere(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert free_place(place) == Path(place)


def test_every_output_is_known() -> None:
    found = dict.fromkeys(path for _, path in stage_outputs(yaml.safe_load((ROOT / "dvc.yaml").read_text())))
    assert r"data/evaluation" in found and r"data/train/[^/]+/policy" in found


def test_the_command_says_it_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert evaluate(["run", "--name", "mine", "--policy", "nowhere", "--out", "data/evaluation/mine"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: data/evaluation/mine: lies inside an output of the stage evaluate")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (base_model, ["make", "--out", "data/corpus/model"]),
        (questions, ["difficulty", "--policy", "nowhere", "--out", "data/questions/hard.parquet"]),
        (questions, ["mix", "hard", "--out", "data/questions/hard.parquet"]),
        (evaluate, ["gather", "data/evaluation/base", "--out", "data/evaluation/summary.json"]),
        (benchmarks, ["fetch", "--out", "data/evaluation/files"]),
    ],
)
def test_every_command_refuses_a_place_that_dvc_empties(
    main: _Main, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 2
    assert "lies inside an output of the stage" in capsys.readouterr().err


@pytest.mark.parametrize(("main", "option"), [(base_model, "--out"), (questions, "--questions")])
def test_a_folder_of_the_users_is_not_replaced(
    main: _Main, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main([option, str(tmp_path), "--params", str(ROOT / "r1_searcher/params/defaults.yaml")]) == 2
    assert "a folder with other files, which would be replaced" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_no_page_tells_to_write_where_dvc_empties(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {page.name: re.findall(r"--out[ =](\S+)", page.read_text(encoding="utf-8")) for page in pages}
    assert "evaluations/again" in named["remotes.md"]
    for place in (place for places in named.values() for place in places):
        free_place(place.strip("`.,;)"))
