"""The training flow under a Prefect server, with quick fakes for rollout and update."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_rooms
import pytest
import yaml
from segment_runs import ONE, in_a_process, made, train

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import read_json, read_metadata, read_table, write_json, write_table
from r1_searcher.rewards.columns import read_rewards
from r1_searcher.training import figures
from r1_searcher.training.workbench import Workbench
from r1_searcher.types.schemas import ADVANTAGES, QUESTIONS, REWARDS, ROLLOUTS

STAGE2 = {"stage": "stage2", "iterations": 3, "iteration_offset": 0}


def test_a_segment_leaves_all_its_outputs(
    prefect: str, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = project("whole", ONE)
    train("s1")
    folder = place / "data/train/s1"
    for kind, schema in (("rollouts", ROLLOUTS), ("rewards", REWARDS), ("advantages", ADVANTAGES)):
        files = sorted(file.name for file in (folder / kind).glob("*.parquet"))
        assert files == [f"{iteration:04d}.parquet" for iteration in range(5)]
        assert read_table(folder / kind / files[-1], schema).num_rows == 4 * 2
    assert read_metadata(folder / "rollouts/0003.parquet")["iteration"] == 3
    assert read_json(folder / "policy/manifest.json")["step"] == 5
    assert (folder / "trainer_state/momentum.json").exists()
    rows = list(csv.DictReader((place / "plots/train/s1.csv").open(encoding="utf-8")))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [bool(row["watch_cover_em"]) for row in rows] == [False, True, False, True, True]
    summary = read_json(place / "metrics/train/s1.json")
    assert summary["last_iteration"]["reward"] == float(rows[-1]["reward"])
    assert fake_rooms.calls.count("rollout") == 5 and fake_rooms.calls.count("watch") == 4
    lines = capsys.readouterr().out.splitlines()
    assert sum("reward" in line and "tok/s" in line for line in lines) == 5
    assert "data/train/s1/policy" in lines[-1]


def test_a_segment_asks_the_questions_that_it_names_and_says_what_the_audit_found(
    prefect: str, project: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place = project("mixed", {"s1": {**ONE["s1"], "iterations": 1, "questions": "data/mixes/a.parquet"}})
    pool = read_table(place / "data/questions/train.parquet", QUESTIONS)
    write_table(place / "data/mixes/a.parquet", pool.slice(6, 4))
    write_json(place / "metrics/audit.json", {"findings": ["held_out leaks"]})
    train("s1")
    asked = read_table(place / "data/train/s1/rollouts/0000.parquet", ROLLOUTS)
    assert set(asked["question_id"].to_pylist()) == set(pool["question_id"].to_pylist()[6:10])
    assert "warning: held_out leaks (metrics/audit.json)" in capsys.readouterr().out.splitlines()
    write_table(place / "data/mixes/a.parquet", pool.slice(0, 3))
    with pytest.raises(PipelineError, match=r"data/mixes/a\.parquet: 3 training questions, but an iteration asks 4"):
        train("s1")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_busy_machine_is_said_once_where_one_thread_would_be_faster(
    threads: int,
    prefect: str,
    project: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flows.machine_load import Usage

    place = project("busy", ONE)
    text = (place / "params.yaml").read_text(encoding="utf-8")
    (place / "params.yaml").write_text(text.replace("threads: 2", f"threads: {threads}", 1), encoding="utf-8")
    looks = iter(Usage(10.0 * number, 9.0 * number, 9000 * number) for number in range(100))
    monkeypatch.setattr(Usage, "now", lambda: next(looks))
    train("s1")
    lines = capsys.readouterr().out.splitlines()
    said = [number for number, line in enumerate(lines) if "`threads: 1` would be faster" in line]
    assert len(said) == threads - 1
    assert all("3/5" in lines[number - 1] for number in said)


def test_prefect_knows_each_step_by_name(prefect: str, project: Callable[..., Path]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

    from flows.train import train as flow

    project("named", ONE)
    flow.with_options(flow_run_name="named s1")("s1")
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=["named s1"])))
        artifacts = client.read_artifacts()
    assert [run.state_name for run in runs] == ["Completed"]
    assert {f"laptop-s1-{what}" for what in ("progress", "curves")} <= {artifact.key for artifact in artifacts}


def test_table_and_file_of_curves_grow_while_training_goes_on(
    prefect: str, project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client

    from flows.log import SegmentLog
    from flows.train import train as flow

    place = project("table", ONE)
    live = Path("plots/live/s1.csv")
    files: list[list[dict[str, str]]] = []
    seen: list[list[dict[str, Any]]] = []
    say = SegmentLog.iteration

    def table() -> list[dict[str, Any]]:
        with get_client(sync_client=True) as client:
            latest = client.request("GET", "/artifacts/{key}/latest", path_params={"key": "laptop-s1-curves"}).json()
        rows: list[dict[str, Any]] = json.loads(latest["data"])
        return rows

    def look(log: SegmentLog, iteration: int, *made: Any) -> None:
        say(log, iteration, *made)
        seen.append(table())
        files.append(list(csv.DictReader(live.read_text(encoding="utf-8").splitlines())))
        if iteration == 3:
            command = f"dvc plots show {live} -x iteration -y reward"
            subprocess.run([sys.executable, "-m", *command.split()], cwd=place, check=True, capture_output=True)

    monkeypatch.setattr(SegmentLog, "iteration", look)
    flow("s1")
    assert [len(rows) for rows in seen] == [1, 2, 3, 4, 5]
    assert [row["iteration"] for row in seen[-1]] == [1, 2, 3, 4, 5]
    assert list(seen[0][0])[:6] == ["iteration", "reward", "search_rate", "format_rate", "f1", "zero_advantage_share"]
    assert (place / "dvc_plots/index.html").exists() and not live.exists()
    whole = list(csv.DictReader(Path("plots/train/s1.csv").read_text(encoding="utf-8").splitlines()))

    def trained(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [{name: cell for name, cell in row.items() if not name.startswith("watch_")} for row in rows]

    assert [trained(rows) for rows in files] == [trained(whole)[:number] for number in range(1, 6)]
    validated = [[row.get("watch_reward", "") for row in rows] for rows in files]  # that of an iteration follows it
    assert validated == [[*(row["watch_reward"] for row in whole[: number - 1]), ""] for number in range(1, 6)]
    assert any(validated[-1])
    resumed: list[list[dict[str, str]]] = []
    monkeypatch.setattr(
        SegmentLog,
        "watched",
        lambda log, done, made: resumed.append(list(csv.DictReader(live.read_text(encoding="utf-8").splitlines()))),
    )
    flow("s1")  # finished before: its table and its file have all iterations at once
    assert table() == seen[-1]
    assert [row["watch_reward"] for row in resumed[0]] == validated[-1]


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, dict[str, str]]:
    """The results of an uninterrupted run, made by the first test that needs them."""
    return {}


def expected_of(uninterrupted: dict[str, dict[str, str]], project: Callable[..., Path]) -> dict[str, str]:
    if not uninterrupted:
        whole = project("whole", ONE)
        train("s1")
        uninterrupted["s1"] = made(whole)
    return uninterrupted["s1"]


def goes_on(place: Path) -> dict[str, str]:
    """Resume the interrupted segment; no stored rollouts may be recomputed."""
    assert not (place / "data/train").exists()
    stored = len(list((place / ".store").glob("rollouts/*/*")))
    assert stored > 0
    fake_rooms.calls.clear()
    train("s1")
    assert fake_rooms.calls.count("rollout") == 5 - stored
    return made(place)


def test_a_killed_segment_goes_on_and_ends_the_same(
    prefect: str, project: Callable[..., Path], uninterrupted: dict[str, dict[str, str]]
) -> None:
    expected = expected_of(uninterrupted, project)
    place = project("killed", ONE)
    run = in_a_process(place, prefect, FAKE_KILL_AT="10")  # after the rollouts of iteration 4, before its update
    assert run.returncode == -9, run.stderr
    assert goes_on(place) == expected
    assert fake_rooms.calls[0] == "update"  # of iteration 3, replayed: the last checkpoint is of iteration 2


@pytest.mark.parametrize("call", [2, 3, 6, 14])  # rollouts, update, validation at a checkpoint, validation at the end
def test_where_an_error_cut_it_off_makes_no_difference(
    prefect: str,
    project: Callable[..., Path],
    uninterrupted: dict[str, dict[str, str]],
    call: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = expected_of(uninterrupted, project)
    place = project("cut", ONE)
    fake_rooms.calls.clear()
    monkeypatch.setenv("FAKE_RAISE_AT", str(call))
    with pytest.raises(MemoryError):
        train("s1")
    monkeypatch.delenv("FAKE_RAISE_AT")
    if call > 2:
        assert goes_on(place) == expected
    else:
        train("s1")
        assert made(place) == expected


def test_a_finished_segment_comes_back_from_the_store_without_any_model(
    prefect: str, project: Callable[..., Path]
) -> None:
    import shutil

    place = project("again", ONE)
    train("s1")
    expected = made(place)
    for part in ("data/train", "plots", "metrics"):
        shutil.rmtree(place / part)  # as DVC does before it runs a stage
    fake_rooms.calls.clear()
    train("s1")
    assert made(place) == expected
    assert fake_rooms.calls == []


def test_two_segments_of_a_stage_are_one_long_one(prefect: str, project: Callable[..., Path]) -> None:
    long = project("long", {"s2": {**STAGE2, "prev": "data/base_model", "iterations": 6}})
    train("s2")
    two = project(
        "two",
        {
            "a": {**STAGE2, "prev": "data/base_model"},
            "b": {**STAGE2, "prev": "data/train/a/policy", "iteration_offset": 3},
        },
    )
    train("a")
    train("b")
    final = "policy/model.safetensors"
    assert (two / "data/train/b" / final).read_bytes() == (long / "data/train/s2" / final).read_bytes()
    assert read_json(two / "data/train/b/policy/manifest.json")["step"] == 6


def test_each_validation_has_its_rewards_in_the_store_with_its_place(
    prefect: str, project: Callable[..., Path]
) -> None:
    place = project(
        "rewarded",
        {
            "a": {**STAGE2, "stage": "stage1", "prev": "data/base_model"},
            "b": {**STAGE2, "prev": "data/train/a/policy"},
        },
    )
    train("a")
    train("b")
    found = {}
    for path in (place / ".store").glob("rewards/*/*/rewards.parquet"):
        made_from = read_metadata(path)
        if "segment" in made_from:
            found[made_from["segment"], made_from["iteration"]] = (made_from["rollouts"], read_rewards(path))
    assert sorted(found) == [("a", 0), ("a", 2), ("a", 3), ("b", 3), ("b", 5), ("b", 6)]
    assert found["a", 3][0] == found["b", 3][0]  # one validation, rewarded by both stages
    for segment, numbers in (("a", (2, 3)), ("b", (5, 6))):
        curve = list(csv.DictReader((place / f"plots/train/{segment}.csv").read_text(encoding="utf-8").splitlines()))
        shown = {row["iteration"]: row["watch_reward"] for row in curve if row["watch_reward"]}
        means = {str(number): str(figures.means(found[segment, number][1])["reward"]) for number in numbers}
        assert shown == means


def test_a_change_of_stage_starts_a_fresh_optimizer(
    prefect: str, project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []
    load = fake_rooms.FakeTrainer.load

    def note(trainer: fake_rooms.FakeTrainer, folder: Path) -> None:
        loaded.append(folder)
        load(trainer, folder)

    monkeypatch.setattr(fake_rooms.FakeTrainer, "load", note)
    project(
        "stages",
        {
            "a": {**STAGE2, "stage": "stage1", "prev": "data/base_model"},
            "b": {**STAGE2, "prev": "data/train/a/policy"},
            "c": {**STAGE2, "prev": "data/train/b/policy", "iteration_offset": 3},
        },
    )
    for segment in "abc":
        train(segment)
    assert loaded == [Path("data/train/b/policy")]


def test_a_watch_that_ended_a_segment_is_not_made_again_by_the_next(prefect: str, project: Callable[..., Path]) -> None:
    project(
        "watches",
        {
            "a": {**STAGE2, "prev": "data/base_model"},
            "b": {**STAGE2, "prev": "data/train/a/policy", "iteration_offset": 3},
        },
    )
    train("a")
    fake_rooms.calls.clear()
    train("b")
    assert fake_rooms.calls[0] == "rollout"


def test_collapse_stops_with_one_line_and_keeps_everything(prefect: str, project: Callable[..., Path]) -> None:
    place = project("collapse", ONE, collapse={"min_format_rate": 0.5, "max_tokens_growth": 9.0, "patience": 3})
    run = in_a_process(place, prefect, FAKE_BROKEN="1")
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].startswith("error: segment s1: training stops at iteration 3")
    assert "Traceback" not in run.stderr
    assert len(list((place / ".store").glob("updates/*/*"))) == 3


def test_a_failing_retriever_stops_and_nothing_of_it_is_kept(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run after the outage must not find lost trajectories in the store."""
    place = project("errors", ONE)
    bench = Workbench("s1")
    monkeypatch.setenv("FAKE_ERRORS", "all")
    steps: list[Callable[[], object]] = [lambda: bench.watch(0), lambda: bench.rollout(0)]
    for step in steps:
        with pytest.raises(
            PipelineError, match=r"the retriever failed on \d of \d trajectories \(allowed: 20%\): gone"
        ):
            step()
    assert list((place / ".store").glob("*/??/*")) == []
    monkeypatch.delenv("FAKE_ERRORS")
    assert bench.watch(0).figures["error_share"] == 0
    assert bench.reward(0, bench.rollout(0).path).figures["error_share"] == 0


def test_a_few_lost_trajectories_are_counted_and_left_out(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project("some", ONE)
    monkeypatch.setenv("FAKE_ERRORS", "1")
    settings = yaml.safe_load(Path("params.yaml").read_text())
    settings["rollout"]["max_error_share"] = 1.0
    Path("params.yaml").write_text(yaml.safe_dump(settings))
    bench = Workbench("s1")
    rewards = bench.reward(0, bench.rollout(0).path)
    lost = read_table(rewards.path)["counted"].to_pylist().count(False)
    assert 0 < lost < 8
    assert rewards.figures["error_share"] == lost / 8
    assert f"lost {lost / 8:.1%}" in figures.line("s1", rewards.figures, tokens_per_second=None, seconds_left=None)


def test_an_unknown_segment_is_one_line(project: Callable[..., Path]) -> None:
    project("unknown", ONE)
    from flows.train import main

    assert main(["--segment", "s9"]) == 2
