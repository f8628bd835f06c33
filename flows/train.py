"""A segment of training as a Prefect flow: rollout → reward → update, and every n iterations a greedy watch.

    python -m flows.train --segment s1-00

Everything goes through the content-addressed store, so that the same command continues a killed
segment where it stopped. What each step does is in the rooms (stages/rollout, reward, update); how its
artefacts are keyed, in stages/train. This page says only when.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.log import Log, step_name
from flows.server import prefect_server
from stages.contract.errors import command
from stages.train.outputs import export
from stages.train.segment import Made
from stages.train.workbench import Workbench

# The store is the cache: Prefect keeps no results, and its tasks pass paths and small dictionaries.


@task(name="rollout", task_run_name=step_name("rollout"), cache_policy=NO_CACHE, persist_result=False)
def rollout(bench: Workbench, iteration: int) -> Made:
    """Sample trajectories with the present policy."""
    return bench.rollout(iteration)


@task(name="reward", task_run_name=step_name("reward"), cache_policy=NO_CACHE, persist_result=False)
def reward(bench: Workbench, iteration: int, rollouts: Made) -> Made:
    """Reward them."""
    return bench.reward(iteration, rollouts.path)


@task(name="update", task_run_name=step_name("update"), cache_policy=NO_CACHE, persist_result=False)
def update(bench: Workbench, iteration: int, rollouts: Made, rewards: Made) -> Made:
    """Improve the policy on them."""
    return bench.update(iteration, rollouts.path, rewards.path)


@task(name="watch", task_run_name=step_name("watch"), cache_policy=NO_CACHE, persist_result=False)
def watch(bench: Workbench, done: int) -> Made:
    """Look at the policy, greedy, on validation questions."""
    return bench.watch(done)


@flow(name="train-segment", validate_parameters=False)
def train(segment: str) -> dict[str, Any]:
    """Train one segment of params.yaml and write its outputs; returns its summary."""
    bench = Workbench(segment)
    first = bench.resume_point()
    log = Log(bench, first)
    if bench.is_watched(first):
        log.watched(first, watch(bench, first))

    for iteration in range(first, bench.length):
        rollouts = rollout(bench, iteration)
        rewards = reward(bench, iteration, rollouts)
        bench.check_retriever(rewards)
        updated = update(bench, iteration, rollouts, rewards)
        log.iteration(iteration, rollouts, rewards, updated)
        if bench.is_watched(iteration + 1):
            log.watched(iteration + 1, watch(bench, iteration + 1))
        bench.check_collapse(iteration)

    summary = export(bench, Path())
    log.finished(summary)
    return summary


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; the Prefect server starts while the models' libraries load."""
    parser = argparse.ArgumentParser(prog="python -m flows.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segment", required=True, metavar="NAME", help="a key of train.segments in params.yaml")
    segment = parser.parse_args(arguments).segment
    bench = Workbench(segment)  # a wrong parameter or a missing file stops here, before anything starts
    with prefect_server(meanwhile=bench.workers.prepare):
        train.with_options(flow_run_name=f"{bench.params.profile} {segment}")(segment)


if __name__ == "__main__":
    raise SystemExit(main())
