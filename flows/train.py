"""Train one segment as a Prefect flow: rollout → reward → update, and a greedy validation every n iterations.

    python -m flows.train --segment s1-00

Everything goes through the content-addressed store, so the same command resumes a killed segment. What each step does
is in stages/rollout, reward and update; how its artefacts are keyed, in stages/train. This module only says when.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows.child_flow import run_as_child
from flows.expected_errors import log_expected_errors_in_one_line
from flows.log import SegmentLog, step_name
from flows.machine import check_machine
from flows.server import despite_a_lost_server
from flows.workers import open_workers
from r1_searcher.errors import command
from r1_searcher.shown import show
from r1_searcher.training.outputs import export
from r1_searcher.training.segment import Made
from r1_searcher.training.workbench import Step, Workbench
from r1_searcher.training.workers import WorkerLost

log_expected_errors_in_one_line()

# The store is the cache: Prefect keeps no results, and its tasks pass paths and small dictionaries.
OPTIONS: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
_RETRIES = 2  # of a shard or an update whose worker was lost; nothing else is retried


def worker_was_lost(task: object, run: object, state: State[Any]) -> bool:
    """Return whether a task failed because its worker died: then another worker, or a restarted one, repeats it."""
    if not isinstance(state.data, WorkerLost):
        return False
    show(f"warning: {state.data}")
    return True


@task(name="shard", task_run_name=step_name(), retries=_RETRIES, retry_condition_fn=worker_was_lost, **OPTIONS)
def shard(bench: Workbench, step: Step, number: int, shard: int) -> None:
    """Sample one shard of a rollout or validation on whichever engine is free."""
    bench.sample(step, number, shard)


@task(name="rollout", task_run_name=step_name("rollout"), **OPTIONS)
def rollout(bench: Workbench, iteration: int, sampled: bool = False) -> Made:
    """Sample trajectories with the current policy; ``sampled``: only join the shards that were sampled."""
    return bench.rollout(iteration, sampled=sampled)


@task(name="reward", task_run_name=step_name("reward"), **OPTIONS)
def reward(bench: Workbench, iteration: int, rollouts: Made) -> Made:
    """Reward the trajectories."""
    return bench.reward(iteration, rollouts.path)


@task(
    name="update",
    task_run_name=step_name("update"),
    retries=_RETRIES,
    retry_condition_fn=worker_was_lost,
    **OPTIONS,
)
def update(bench: Workbench, iteration: int, rollouts: Made, rewards: Made) -> Made:
    """Update the policy with the rewarded trajectories."""
    return bench.update(iteration, rollouts.path, rewards.path)


@task(name="watch", task_run_name=step_name("watch"), **OPTIONS)
def watch(bench: Workbench, done: int, sampled: bool = False) -> Made:
    """Validate the policy greedily on validation questions."""
    return bench.watch(done, sampled=sampled)


def start_shards(bench: Workbench, step: Step, number: int) -> list[PrefectFuture[None]]:
    """Start sampling a step's missing shards on the engines, one task per shard; none if the engine is in this process,
    where the step's own task samples."""
    if bench.workers.inside:
        return []
    missing = bench.missing(step, number)
    if missing:
        bench.hand_over(step, number)
    return [shard.submit(bench, step, number, place) for place in missing]


def wait_for_shards(shards: Sequence[PrefectFuture[None]]) -> bool:
    """Wait for shards; return whether there were any. Raises the first final failure."""
    for one in shards:
        one.result()
    return bool(shards)


@flow(name="train-segment", validate_parameters=False)
def train(segment: str) -> dict[str, Any]:
    """Train one segment of params.yaml and write its outputs; returns its summary."""
    bench = _open_bench(segment)
    with open_workers(bench):
        return _train(bench)


def _open_bench(segment: str) -> Workbench:
    """Return the segment's workbench. Raises ``PipelineError`` for a wrong parameter, a missing file or GPU, before
    anything starts."""
    bench = Workbench(segment)
    check_machine(bench.params, bench.start)  # too little disk was reported before the first stage
    return bench


def _train(bench: Workbench) -> dict[str, Any]:
    first = bench.resume_point()
    log = SegmentLog(bench, first)
    for line in bench.check_before():
        log.say(f"warning: {line}")
    overlap = bench.params.train.overlap
    if bench.is_watched(first):
        _watch(bench, log, first)

    ahead = start_shards(bench, "rollout", first) if first < bench.length else []
    for iteration in range(first, bench.length):
        more = iteration + 1 < bench.length
        with log.during("rollout", iteration + 1):
            rollouts = rollout(bench, iteration, wait_for_shards(ahead))
        ahead = start_shards(bench, "rollout", iteration + 1) if more and overlap else []
        rewards = reward(bench, iteration, rollouts)
        bench.check_retriever(rewards)
        with log.during("update", iteration + 1):
            updated = update(bench, iteration, rollouts, rewards)
        log.iteration(iteration, rollouts, rewards, updated)
        if bench.is_watched(iteration + 1):
            with log.during("rollout", iteration + 2):
                wait_for_shards(ahead)  # engines hold one policy at a time
            _watch(bench, log, iteration + 1)
        bench.check_collapse(iteration)
        if more and not overlap:
            ahead = start_shards(bench, "rollout", iteration + 1)

    with log.during("outputs", bench.length):
        summary = export(bench, Path())
    bench.tidy()
    log.finished(summary)
    return summary


def _watch(bench: Workbench, log: SegmentLog, done: int) -> None:
    with log.during("watch", done):
        seen = watch(bench, done, wait_for_shards(start_shards(bench, "watch", done)))
    log.watched(done, seen)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; the Prefect server starts while the models' libraries load."""
    parser = argparse.ArgumentParser(prog="python -m flows.train", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--segment", required=True, metavar="NAME", help="key of train.segments in params.yaml")
    segment = parser.parse_args(arguments).segment
    bench = _open_bench(segment)
    # One shard per engine at a time.
    threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=bench.params.workers.engines)
    run = train.with_options(
        flow_run_name=f"{bench.params.profile} {segment}",
        task_runner=threads,  # type: ignore[arg-type]  # it wants the base class, invariantly
    )
    despite_a_lost_server(lambda: run_as_child(run, segment=segment), meanwhile=bench.prepare)


if __name__ == "__main__":
    raise SystemExit(main())
