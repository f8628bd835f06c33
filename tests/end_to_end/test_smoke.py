"""The whole pipeline at its smallest (profile smoke), in its own checkout: the outputs in its workspace.

One run serves all tests here (conftest.py).
"""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scheduled import environment, run

REWARD_RISE = 0.3  # stage 1, mean of the last four iterations over the mean of the first two

pytestmark = pytest.mark.slow


def test_the_summary_names_every_policy_and_benchmark(checkout: Path) -> None:
    summary = json.loads((checkout / "metrics" / "evaluation.json").read_text(encoding="utf-8"))
    assert {"base", "stage1", "stage2", "no_search", "plain_rag"} <= summary.keys()
    wanted = {"n", "em", "f1", "cover_em", "format_rate", "searches_per_question", "search_rate"}
    for policy in ("base", "stage1", "stage2"):
        for benchmark in ("held_out", "held_out_kind"):
            assert wanted <= summary[policy][benchmark].keys(), (policy, benchmark)
    assert (checkout / "report" / "report.html").stat().st_size > 10_000


def test_stage_1_learns_to_search(checkout: Path) -> None:
    with open(checkout / "plots" / "train" / "s1-00.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    rewards = [float(row["reward"]) for row in rows]
    searched = [float(row["search_rate"]) for row in rows]
    rise = sum(rewards[-4:]) / 4 - sum(rewards[:2]) / 2
    assert rise >= REWARD_RISE, f"the reward rose by {rise:.2f}: {rewards}"
    assert searched[-1] > searched[0]


def test_nothing_is_run_twice(checkout: Path) -> None:
    again = run(checkout, "dvc", "repro")
    assert again.returncode == 0, again.stderr
    assert "Running stage" not in again.stdout
    assert "up to date" in again.stdout


def test_only_what_a_stage_uses_makes_it_stale(checkout: Path) -> None:
    """Parts that are not selected, inside and outside of the library; comments in other parts; single parameters."""
    root, train = checkout.parents[1], ["train@s1-00", "train@s2-00", "train@s2-01"]
    done = run(root, "benchmarks.extending", "--workspace", str(checkout), "--short", "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["what"], row["how"], row["stale"]) for row in rows] == [
        ("nothing", "the finished workspace", []),
        ("all five", "inside, not selected", []),
        ("all five", "outside, not selected", []),
        ("reward set", "outside, selected", ["base_metrics", "evaluate", *train]),
        ("a comment", "in `r1_searcher/retrieval/kinds/online.py`", []),
        ("a comment", "in `r1_searcher/retrieval/service/server.py`", []),
        ("a comment", "in `r1_searcher/statistics/verdict.py`", []),
        ("a comment", "in `r1_searcher/report/charts.py`", ["report"]),
        ("a comment", "in `r1_searcher/update/losses.py`", train),
        ("a comment", "in `r1_searcher/corpus/seen_ids.py`", ["corpus"]),
        ("a parameter", "of `report`", ["report"]),
        ("a parameter", "of `update`", train),
        ("a parameter", "of `train`", train[1:]),
        ("a parameter", "of `evaluate`", ["evaluate"]),
    ]


def test_a_killed_segment_continues_and_ends_in_the_same_bytes(checkout: Path) -> None:
    """Trained anew in an empty store, killed with SIGKILL midway, resumed: the checkpoint of the first run."""
    manifest = checkout / "data" / "train" / "s1-00" / "policy" / "manifest.json"
    first = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    store = {"R1SEARCHER_STORE": str(checkout / ".store-again")}
    command = [sys.executable, "-m", "flows.train", "--segment", "s1-00"]
    killed = subprocess.Popen(
        command, cwd=checkout, env=environment(checkout) | store, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    seen = 0
    for line in killed.stdout:
        seen += "reward" in line
        if seen == 4:
            break
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    killed.stdout.close()
    assert seen == 4, "the run ended before it could be killed"
    manifest.unlink()
    continued = run(checkout, "flows.train", "--segment", "s1-00", **store)
    assert continued.returncode == 0, continued.stderr
    assert json.loads(manifest.read_text(encoding="utf-8"))["sha256"] == first
    status = run(checkout, "dvc", "status", "--json")
    assert json.loads(status.stdout) == {}, "the outputs differ from the first run's"


def test_a_wrong_parameter_is_one_line_and_loses_nothing(checkout: Path) -> None:
    params = checkout / "params.yaml"
    before = params.read_text(encoding="utf-8")
    try:
        params.write_text(before.replace("  clip: 0.2\n", "  klip: 0.2\n"), encoding="utf-8")
        wrong = run(checkout, "flows.train", "--segment", "s1-00")
    finally:
        params.write_text(before, encoding="utf-8")
    assert wrong.returncode == 2
    assert wrong.stderr.strip().splitlines()[-1].startswith("error: params.yaml, update.klip: unknown parameter")
    assert (checkout / "data" / "train" / "s1-00" / "policy" / "model.safetensors").exists()
