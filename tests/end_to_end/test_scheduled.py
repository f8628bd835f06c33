"""The scheduled smoke run: its server's records, what Ctrl-C left, and how the second run continued."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from scheduled import Scheduled, modified

pytestmark = pytest.mark.slow

ITERATIONS = {"s1-00": 16, "s2-00": 2, "s2-01": 2}


def test_ctrl_c_ends_everything_and_is_no_error(scheduled: Scheduled) -> None:
    assert scheduled.survivors == []
    assert scheduled.ended == [0, 0]


def test_a_server_that_is_killed_under_a_run_is_one_line(scheduled: Scheduled) -> None:
    """And the run goes on: it was two iterations further when it was stopped."""
    assert scheduled.said.count("restarting it; runs continue") == 1, scheduled.said
    for noise in ("Traceback", "Error logging", "| ERROR"):
        assert noise not in scheduled.said, scheduled.said


def test_a_run_that_was_stopped_is_not_running_for_ever(scheduled: Scheduled) -> None:
    states = {run["name"]: run["state_type"] for run in scheduled.stopped if run["state_type"] != "SCHEDULED"}
    assert states.keys() == {"smoke pipeline", "smoke s1-00"}
    assert set(states.values()) <= {"CRASHED", "CANCELLED", "FAILED"}, states
    assert states["smoke s1-00"] == "CANCELLED"


def test_the_second_run_makes_nothing_again_that_is_stored(scheduled: Scheduled) -> None:
    assert len(scheduled.stored) >= 3
    now = modified(scheduled.workspace.parents[1] / ".store" / "rollouts")
    assert scheduled.stored.items() <= now.items()


def test_the_page_is_there(scheduled: Scheduled) -> None:
    assert "<title>Prefect" in scheduled.page


def test_runs_say_profile_segment_and_iteration(scheduled: Scheduled) -> None:
    completed = {run["name"] for run in scheduled.flow_runs if run["state_type"] == "COMPLETED"}
    assert completed == {"smoke pipeline", "smoke regression", *(f"smoke {segment}" for segment in ITERATIONS)}
    names = {run["name"] for run in scheduled.task_runs if run["state_type"] == "COMPLETED"}
    for segment, length in ITERATIONS.items():
        for iteration in range(1, length + 1):
            for step in ("rollout", "reward", "update"):
                assert f"smoke {segment} {step} {iteration}/{length}" in names
        assert f"smoke {segment} watch {length}/{length}" in names
    for stage in ("corpus", "base_model", "train@s1-00", "evaluate", "report"):
        assert f"smoke {stage}" in names


def test_segments_are_the_pipelines_children(scheduled: Scheduled) -> None:
    runs = {run["name"]: run for run in scheduled.flow_runs if run["state_type"] == "COMPLETED"}
    places = {run["id"]: run["flow_run_id"] for run in scheduled.task_runs}
    for segment in ITERATIONS:
        assert places[runs[f"smoke {segment}"]["parent_task_run_id"]] == runs["smoke pipeline"]["id"]


def test_watching_shows_the_runs_lines(scheduled: Scheduled) -> None:
    assert re.search(r"s2-01 2/2 +reward", scheduled.watched)


def test_the_run_was_the_workers(scheduled: Scheduled) -> None:
    runs = {run["name"]: run for run in scheduled.flow_runs if run["state_type"] == "COMPLETED"}
    assert runs["smoke pipeline"]["work_pool_name"] == "local"
    assert runs["smoke pipeline"]["parameters"]["profile"] == "smoke"
    assert "Completed" in scheduled.watched


def by_key(scheduled: Scheduled) -> dict[str, dict[str, Any]]:
    """Return the latest artifact of each key."""
    return {found["key"]: found for found in sorted(scheduled.artifacts, key=lambda found: found["created"])}


def test_progress_and_a_table_a_segment(scheduled: Scheduled) -> None:
    latest = by_key(scheduled)
    for segment, length in ITERATIONS.items():
        progress = latest[f"smoke-{segment}-progress"]
        assert (progress["type"], progress["data"]) == ("progress", 100)
        rows = json.loads(latest[f"smoke-{segment}-curves"]["data"])
        assert [row["iteration"] for row in rows] == list(range(rows[0]["iteration"], rows[0]["iteration"] + length))
        assert all(0 <= row["search_rate"] <= 1 for row in rows)
    assert latest["smoke-stages-progress"]["data"] == 100
    outcomes = {row["stage"]: row["outcome"] for row in json.loads(latest["smoke-stages"]["data"])}
    assert (outcomes["base_model"], outcomes["train@s1-00"], outcomes["report"]) == ("unchanged", "ran", "ran")
    evaluation = json.loads(latest["smoke-evaluation"]["data"])
    assert ("stage2", "held_out") in {(row["policy"], row["benchmark"]) for row in evaluation}


def test_the_verdicts_of_both_gates(scheduled: Scheduled) -> None:
    """One seed, made by the pipeline: its figures may be the committed ones; otherwise one seed proves nothing."""
    code, recipe = (by_key(scheduled)[f"smoke-{gate}-verdict"] for gate in ("code", "recipe"))
    assert code["type"] == recipe["type"] == "markdown"
    assert re.match("## Code gate: ✅ (same|not worse)\n", code["data"])
    assert re.match("## Recipe gate: (✅ same|❔ too few seeds)\n", recipe["data"])
    stages = json.loads(by_key(scheduled)["smoke-seed0-regression-stages"]["data"])
    assert {row["outcome"] for row in stages} <= {"from the cache", "unchanged"}, "the pipeline's run had made them"


def test_the_lines_of_training_are_on_the_runs_page(scheduled: Scheduled) -> None:
    runs = {run["name"]: run["id"] for run in scheduled.flow_runs if run["state_type"] == "COMPLETED"}
    for name in ("smoke pipeline", "smoke s1-00"):
        said = [log["message"] for log in scheduled.logs if log["flow_run_id"] == runs[name]]
        assert any(re.match(r"s1-00 16/16 +reward", line) for line in said), name
