"""The scheduled run: the stages of dvc.yaml as the tasks of a Prefect flow, in a workspace of its own.

    python -m flows.pipeline --profile smoke

It runs the same stages through DVC as `dvc repro` does, so that there is one cache. The checkout is not
disturbed, and what was made before comes back from the cache. Deployments are in prefect.yaml.
"""

from __future__ import annotations

import argparse
import collections
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

import flows
from flows.server import prefect_server
from stages.contract import profiles
from stages.contract.artefacts import read_json
from stages.contract.errors import PipelineError, command

LAST_LINES = 20  # of a failing stage, shown with the error
WORKSPACES = flows.ROOT / ".workspaces"


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, workspace: Path, environment: dict[str, str]) -> dict[str, Any]:
    """`dvc repro` of one stage, whose lines go to the log; the error of a failing stage shows its last lines."""
    began = time.monotonic()
    log = get_run_logger()
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage],
        cwd=workspace,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            last.append(line.rstrip())
            print(line.rstrip(), flush=True)
            log.info(line.rstrip())
    if process.wait() != 0:
        shown = "\n".join(last)
        create_markdown_artifact(f"### {stage} failed\n\n```\n{shown}\n```", key="failed-stage")
        raise PipelineError(f"the stage failed; its last lines:\n{shown}", where=stage)
    changed = not any("didn't change" in line for line in last)
    return {"stage": stage, "ran": changed, "seconds": round(time.monotonic() - began, 1)}


@flow(name="pipeline", flow_run_name="{profile} pipeline")
def pipeline(profile: str = "laptop", seed: int | None = None, changes: list[str] | None = None) -> str:
    """Run every stage of ``profile`` in its workspace; returns the workspace's folder."""
    workspace = WORKSPACES / (profile if seed is None else f"{profile}-seed{seed}")
    parts = list(profiles.overlays(profile, seed=seed, changes=changes or (), root=flows.ROOT))
    text = profiles.composed(profiles.base_text(flows.ROOT), parts)
    profiles.prepare_workspace(workspace, text, flows.ROOT)
    environment = profiles.workspace_environment(flows.ROOT)
    done = [run_stage(stage, workspace, environment) for stage in stages_in_order(workspace, environment)]
    create_table_artifact(done, key="stages", description=f"Stages of {profile}: which ran, and for how long")
    create_table_artifact(evaluation_rows(workspace), key="evaluation", description=f"Evaluation of {profile}")
    return str(workspace)


def stages_in_order(workspace: Path, environment: dict[str, str]) -> list[str]:
    """Names of the workspace's stages, each after those that it needs."""
    listed = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--dot"],
        cwd=workspace,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        last = (listed.stderr.strip().splitlines() or ["no message"])[-1]
        raise PipelineError(f"dvc dag failed: {last}", where=str(workspace))
    return order(listed.stdout)


def order(dot: str) -> list[str]:
    """Nodes of a DOT graph, topologically sorted, ties by name. Lines are ``"a";`` and ``"a" -> "b";``."""
    needs: dict[str, set[str]] = {}
    for line in dot.splitlines():
        names = line.split('"')[1::2]
        for name in names:
            needs.setdefault(name, set())
        if "->" in line:
            needs[names[1]].add(names[0])
    found: list[str] = []
    while needs:
        ready = sorted(name for name, before in needs.items() if not before)
        if not ready:
            raise PipelineError(f"stages need each other: {', '.join(sorted(needs))}", where="dvc.yaml")
        found += ready
        needs = {name: before - set(ready) for name, before in needs.items() if name not in ready}
    return found


def evaluation_rows(workspace: Path) -> list[dict[str, Any]]:
    """metrics/evaluation.json as a table: a row a policy and benchmark."""
    summary = read_json(workspace / "metrics" / "evaluation.json")
    return [
        {"policy": policy, "benchmark": benchmark}
        | {name: round(value, 3) for name, value in values.items() if isinstance(value, int | float)}
        for policy, benchmarks in summary.items()
        for benchmark, values in benchmarks.items()
    ]


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="laptop")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    options = parser.parse_args(arguments)
    with prefect_server():
        workspace = pipeline(options.profile, options.seed, options.changes)
    print(f"done: {workspace}/report/report.html, {workspace}/metrics/evaluation.json")


if __name__ == "__main__":
    raise SystemExit(main())
