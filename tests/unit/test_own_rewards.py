"""A user's reward set and answer metric: components become columns, and each fault gives one line."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import write_table
from r1_searcher.params import Reward, check
from r1_searcher.params.profiles import compose
from r1_searcher.report.trajectories import best_and_worst
from r1_searcher.rewards.columns import read_rewards
from r1_searcher.rewards.scoring import reward_table
from r1_searcher.training import chain, curves, figures, page
from r1_searcher.transcripts import grammar
from r1_searcher.types.schemas import REWARDS, ROLLOUTS
from stages.reward.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
HAND_MADE = ROOT / "tests" / "data" / "hand_made_transcripts.jsonl"
HEAD = """from pydantic import BaseModel
from r1_searcher.extend import answer_metric, reward_set
from r1_searcher.rewards.case import Score, only_stages

"""
BREVITY = """
class Brevity(BaseModel):
    words: int = 5

@reward_set("brevity", parameters=Brevity)
def brevity(case, parameters):
    shown = len(case.policy_text.split()) <= parameters.words
    return {"answer": case.answer_score(case.prediction), "brevity": 0.25 * shown, "asked": "?" in case.question}
"""
METRIC = """
@answer_metric("first_letter")
def first_letter(prediction, golds):
    return prediction is not None and prediction[0] == golds[0][0]
"""


def written(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(HEAD + text, encoding="utf-8")
    return str(path)


def reward(*files: str, **given: Any) -> Reward:
    return Reward.model_validate({"set": "brevity", "answer_metric": "f1", **given, "extensions": files})


def rollouts(*texts: str) -> pa.Table:
    rows = [
        {
            "trajectory_id": f"q{number}#0",
            "question_id": f"q{number}",
            "question": "Which lake?",
            "answers": ["Mjøsa"],
            "token_ids": [1, 2, 3],
            "token_source": [grammar.PROMPT, grammar.POLICY, grammar.POLICY],
            "turns": [],
            "segments": [{"source": "policy", "text": text}],
            "finish_reason": grammar.FINISH_ANSWER,
        }
        for number, text in enumerate(texts)
    ]
    return pa.Table.from_pylist(rows, schema=ROLLOUTS)


SHORT = "</think> <answer> Mjøsa </answer>"
LONG = f"I think and I think and I think. {SHORT}"


# --- what it returns


def test_components_are_columns_behind_those_of_every_set(tmp_path: Path) -> None:
    table = reward_table(rollouts(SHORT, LONG), reward(written(tmp_path, BREVITY)), 2)
    assert table.column_names == [*REWARDS.names, "component_brevity", "component_asked"]
    found = table.select(["total", "retrieval", "format", "answer", "component_brevity", "component_asked"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [(2.25, 0, 0, 1, 0.25, 1), (2.0, 0, 0, 1, 0, 1)]
    write_table(tmp_path / "rewards.parquet", table, {})
    assert read_rewards(tmp_path / "rewards.parquet").column_names == table.column_names


def test_a_shipped_set_has_no_further_columns() -> None:
    assert reward_table(rollouts(SHORT), reward(set="paper"), 2).schema == REWARDS


def test_own_parameters_and_an_own_metric(tmp_path: Path) -> None:
    files = (written(tmp_path, BREVITY), written(tmp_path, METRIC, "metric.py"))
    table = reward_table(rollouts(LONG, SHORT.replace("Mj", "M")), reward(*files, brevity={"words": 50}), 1)
    assert table["component_brevity"].to_pylist() == [0.25, 0.25]
    table = reward_table(rollouts(LONG, SHORT.replace("Mj", "M")), reward(*files, answer_metric="first_letter"), 2)
    assert table["answer"].to_pylist() == [1, 1]
    assert table["f1"].to_pylist() == [1, 0]  # what is measured stays the same


def test_further_components_are_in_curves_and_on_pages_by_themselves(tmp_path: Path) -> None:
    table = reward_table(rollouts(SHORT, LONG), reward(written(tmp_path, BREVITY)), 2)
    means = figures.means(table)
    assert means["component_brevity"] == 0.125
    none = table.set_column(table.column_names.index("counted"), "counted", pa.array([False, False]))
    assert figures.means(none)["component_brevity"] == 0.0
    row = {"iteration": 1, "stage": "stage2", "segment": "s", **means}
    text = curves.curves_csv([row], {1: means})
    (found,) = csv.DictReader(io.StringIO(text))
    assert found["component_brevity"] == found["watch_component_brevity"] == "0.125"
    (cells,) = page.page_rows([{**row, "num_groups": 0.0}])
    assert cells["component_brevity"] == 0.125


def test_further_components_are_on_a_trajectorys_card(tmp_path: Path) -> None:
    from r1_searcher.report.inputs import Moment

    table = reward_table(rollouts(SHORT, LONG), reward(written(tmp_path, BREVITY)), 2)
    rows = [
        {**row, "question_id": "q", "reward": scored, "advantages": None}
        for row, scored in zip(rollouts(SHORT, LONG).to_pylist(), table.to_pylist(), strict=True)
    ]
    best, worst = best_and_worst(Moment("s", "stage2", "0000", rows), 1)
    assert (best["components"], worst["components"]) == (
        [("brevity", 0.25), ("asked", 1.0)],
        [("brevity", 0.0), ("asked", 1.0)],
    )


def test_further_components_have_charts_in_the_report() -> None:
    from types import SimpleNamespace

    from r1_searcher.report.inputs import IterationFigures
    from r1_searcher.report.page import _curve_charts

    own = {"component_brevity": 0.5, "watch_component_brevity": 0.25}
    rows = [IterationFigures(1, "stage1", {"reward": 1.0}), IterationFigures(2, "stage2", {"reward": 1.0, **own})]
    found: Any = SimpleNamespace(curves=rows)
    assert [chart["title"] for chart in _curve_charts(found)] == ["Reward", "Component brevity"]


def test_violations_of_ones_own(tmp_path: Path) -> None:
    text = '@reward_set("strict")\ndef strict(case):\n    return Score({"answer": 0.5}, ("too_plain",))\n'
    table = reward_table(rollouts(SHORT), reward(written(tmp_path, text), set="strict"), 1)
    assert table.select(["total", "violations"]).to_pylist() == [{"total": 0.5, "violations": ["too_plain"]}]


def test_a_set_without_a_stage_says_why_before_anything_is_scored(tmp_path: Path) -> None:
    text = '@reward_set("late")\n@only_stages(2, why="nothing to say before")\ndef late(case):\n    return {"x": 1}\n'
    late = reward(written(tmp_path, text), set="late")
    with pytest.raises(PipelineError, match="the reward set late has no stage 1: nothing to say before"):
        reward_table(rollouts(), late, 1)
    assert reward_table(rollouts(SHORT), late, None)["total"].to_pylist() == [1]  # the stage that the set has


# --- what is wrong


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('return {"x": float("nan")}', "line 6, trajectory q0#0: the reward set 'bad' returned nan as component 'x'"),
        ('return {"x": -float("inf")}', "returned -inf as component 'x': a finite number is needed"),
        ('return {"x": 10**400}', "as component 'x': a finite number is needed"),
        ('return {"x": "0.5"}', "returned '0.5' as component 'x'"),
        ('return {"x": None}', "returned None as component 'x'"),
        ('return {"x y": 1.0}', "returned a component called 'x y'"),
        ("return {}", "returned no component"),
        ("return None", "returned None, not components by name"),
        ("return 0.5", "returned 0.5, not components by name"),
        ('return Score({"x": 1.0}, ("a", 3))', "violations that are not a tuple of names"),
        ("return {}['gone']", "line 8, trajectory q0#0: the reward set 'bad' raised KeyError: 'gone'"),
        ("raise SystemExit(0)", "line 8, trajectory q0#0: the reward set 'bad' raised SystemExit: 0"),
        ("return case.nothing", "line 8, trajectory q0#0: the reward set 'bad' raised AttributeError"),
    ],
)
def test_a_bad_set_is_one_line_with_file_line_and_trajectory(body: str, said: str, tmp_path: Path) -> None:
    text = f'\n@reward_set("bad")\ndef bad(case):\n    {body}\n'
    with pytest.raises(PipelineError) as raised:
        reward_table(rollouts(SHORT), reward(written(tmp_path, text), set="bad"), 1)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"{tmp_path}/mine.py, line ")


def test_a_set_that_takes_no_case_is_one_line(tmp_path: Path) -> None:
    text = '@reward_set("bad")\ndef bad():\n    return {"x": 1}\n'
    with pytest.raises(
        PipelineError, match=r"mine\.py, line 5, trajectory q0#0: the reward set 'bad' raised TypeError"
    ):
        reward_table(rollouts(SHORT), reward(written(tmp_path, text), set="bad"), 1)


@pytest.mark.parametrize(
    ("first", "other", "said"),
    [
        ({"x": 1, "y": 1}, {"x": 1}, "returned no component 'y', which it returned for rows before"),
        ({"x": 1}, {"x": 1, "y": 1}, "returned a component 'y', which it did not return for rows before"),
    ],
)
def test_a_component_that_is_missing_for_a_row(first: Any, other: Any, said: str, tmp_path: Path) -> None:
    text = f'@reward_set("holes")\ndef holes(case):\n    return {first} if "I think" in case.policy_text else {other}\n'
    with pytest.raises(PipelineError) as raised:
        reward_table(rollouts(LONG, LONG, SHORT), reward(written(tmp_path, text), set="holes"), 1)
    assert f"mine.py, line 5, trajectory q2#0: the reward set 'holes' {said}" in str(raised.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return 1 / 0", "line 7, trajectory q0#0: the answer metric 'bad' raised ZeroDivisionError"),
        ('return "yes"', "line 5, trajectory q0#0: the answer metric 'bad' returned 'yes': a finite number is needed"),
    ],
)
def test_a_bad_metric_in_a_shipped_set(body: str, said: str, tmp_path: Path) -> None:
    text = f'@answer_metric("bad")\ndef bad(prediction, golds):\n    {body}\n'
    with pytest.raises(PipelineError) as raised:
        reward_table(rollouts(SHORT), reward(written(tmp_path, text), set="paper", answer_metric="bad"), 2)
    assert said in str(raised.value)


def test_a_taken_name_and_wrong_parameters_stop_before_anything(tmp_path: Path) -> None:
    taken = written(tmp_path, '@reward_set("paper")\ndef paper(case): ...\n')
    with pytest.raises(PipelineError, match=r"mine\.py: the reward set 'paper' is registered already, in r1_searcher/"):
        reward(taken, set="paper")
    mine = written(tmp_path, BREVITY)
    with pytest.raises(PipelineError, match=r"reward\.brevity\.words: .*integer"):
        reward(mine, brevity={"words": "many"})
    with pytest.raises(PipelineError, match=r"reward\.brevity\.word: "):
        reward(mine, brevity={"word": 3})
    with pytest.raises(
        PipelineError, match=r"reward\.set: no reward set 'brevety' \(known: .*brevity, .*paper, .*released-"
    ):
        reward(mine, set="brevety")
    with pytest.raises(
        PipelineError, match=r"reward\.answer_metric: no answer metric 'f2' \(known: .*cover_em, .*em, .*f1"
    ):
        reward(mine, answer_metric="f2")


# --- keys and commands


def keys(files: list[str], name: str) -> list[chain.IterationKeys]:
    base = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    settings = check(compose(base, {"extensions": files, "reward": {"set": name}}))
    segment = next(iter(settings.train.segments.values()))
    return chain.chain_keys(settings, segment, chain.Roots("p", None, "i", "q"), chain.room_code())


def test_the_content_of_the_chosen_file_is_in_the_keys_and_no_others(tmp_path: Path) -> None:
    mine = written(tmp_path, BREVITY)
    shipped, own = keys([mine], "paper"), keys([mine], "brevity")
    written(tmp_path, BREVITY.replace("0.25", "0.5"))
    assert keys([mine], "paper") == shipped
    changed = keys([mine], "brevity")
    assert changed[0].rollouts == own[0].rollouts  # what was sampled is kept
    assert changed[0].rewards != own[0].rewards and changed[1].rollouts != own[1].rollouts


def test_kept_answers_of_an_evaluation_know_the_content_too(tmp_path: Path) -> None:
    from r1_searcher.evaluation.answer_store import AnswerStore
    from r1_searcher.files.store import Store

    base = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))

    def protocol(name: str) -> str:
        settings = check(compose(base, {"extensions": [mine], "reward": {"set": name}}))
        how: dict[str, Any] = {"mode": "search", "rollout": settings.rollout, "retriever": "r", "params": settings}
        return AnswerStore(Store(tmp_path / "store"), identity={"policy_sha256": "p"}, **how)._protocol

    mine = written(tmp_path, BREVITY)
    shipped, own = protocol("paper"), protocol("brevity")
    written(tmp_path, BREVITY + "# changed\n")
    assert protocol("paper") == shipped and protocol("brevity") != own


def test_the_command_scores_files_by_a_set_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = written(tmp_path, BREVITY)
    command = ["score", "--set", "brevity", "--stage", "2", str(HAND_MADE), "--json", "--extension", mine]
    assert main([*command, "--parameters", '{"words": 1000}']) == 0
    (rows,) = json.loads(capsys.readouterr().out).values()
    assert list(rows[0]["components"]) == ["retrieval", "format", "answer", "brevity", "asked"]
    assert {row["components"]["brevity"] for row in rows} == {0.25}
    for more, said in (
        (["--parameters", '{"words": []}'], "error: reward.brevity.words: "),
        (["--parameters", "{"], "error: --parameters: not JSON"),
        (["--answer-metric", "f2"], "error: reward.answer_metric: no answer metric 'f2'"),
    ):
        assert main([*command, *more]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(said) and err.count("\n") == 1


def test_the_command_names_the_line_of_a_transcript_that_a_set_fails_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = written(tmp_path, '@reward_set("picky")\ndef picky(case):\n    return {"x": 1 / len(case.policy_text)}\n')
    lines = [{"answer": "x", "gen_text_store": text} for text in ("a", "")]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert main(["score", "--set", "picky", "--stage", "1", str(file), "--extension", mine]) == 2
    said = f"error: {mine}, line 7, {file}, line 3: the reward set 'picky' raised ZeroDivisionError: division by zero\n"
    assert capsys.readouterr().err == said


def test_the_command_rewards_rollouts_by_a_set_of_ones_own(tmp_path: Path) -> None:
    mine = written(tmp_path, BREVITY)
    base = yaml.safe_load((ROOT / "r1_searcher/params/defaults.yaml").read_text(encoding="utf-8"))
    settings = compose(base, {"extensions": [mine], "reward": {"set": "brevity", "brevity": {"words": 50}}})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    write_table(tmp_path / "rollouts.parquet", rollouts(LONG), {})
    places = [
        f"--{name}={tmp_path / file}" for name, file in (("rollouts", "rollouts.parquet"), ("out", "out.parquet"))
    ]
    assert main([*places, "--stage", "2", f"--params={tmp_path / 'params.yaml'}"]) == 0
    assert read_rewards(tmp_path / "out.parquet")["component_brevity"].to_pylist() == [0.25]


def test_the_set_in_the_docs_works_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    pages = {name: (ROOT / f"docs/{name}.md").read_text(encoding="utf-8") for name in ("extending", "recipe")}
    (selection,) = re.findall(
        r"^```yaml\n(extensions:.*own_reward.*?)^```", pages["extending"], re.MULTILINE | re.DOTALL
    )
    chosen = yaml.safe_load(selection)
    table = reward_table(rollouts(SHORT), reward(*chosen["extensions"], **chosen["reward"]), 2)
    assert table["total"].to_pylist() == [pytest.approx(1.0 - 0.02 * len(SHORT.split()))]
    (command,) = re.findall(r"^    python -m stages\.reward (score --set brevity .*)$", pages["recipe"], re.MULTILINE)
    assert main(command.split()) == 0
    assert "16 transcripts" in capsys.readouterr().out
