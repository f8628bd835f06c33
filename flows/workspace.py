"""DVC's stages under Prefect: a workspace per profile, and each stage as a task of the flow that runs in it.

Stages go through DVC as in `dvc repro`, so that there is one cache. The checkout is not disturbed, earlier results come
from the cache, and an interrupted run continues when it is run again.
"""

from __future__ import annotations

import collections
import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

import flows
from flows import access, dvc_files, follow, stage_code, worktrees
from flows.child_flow import parent_environment
from flows.dag import order, read_graph
from flows.expected_errors import log_expected_errors_in_one_line
from flows.machine import check_machine
from flows.names import workspace_name
from flows.processes import end_tree
from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.params import profiles
from r1_searcher.params.segments import with_iterations
from r1_searcher.shown import fenced, markdown, printable, show

log_expected_errors_in_one_line()

LAST_LINES = 20  # of a failing stage, shown with the error
WORKSPACES = flows.ROOT / ".workspaces"
# DVC's words about a stage that it did not run, and the word for it in the table of stages.
NOT_RUN = {"didn't change": "unchanged", "is cached - skipping run": "from the cache"}


@dataclass(frozen=True)
class Workspace:
    """A prepared workspace. ``lock``: an open file that marks it as in use; the stages inherit it."""

    name: str
    folder: Path
    environment: dict[str, str]
    lock: int | None = None

    def key(self, what: str) -> str:
        """Return the key of an artifact of this workspace: lower case, digits and dashes."""
        return "".join(letter if letter.isalnum() else "-" for letter in f"{self.name}-{what}").lower()


@contextlib.contextmanager
def open_workspace(
    profile: str,
    *,
    seed: int | None = None,
    changes: Sequence[str] = (),
    iterations: Mapping[str, int] | None = None,
) -> Iterator[Workspace]:
    """Open a workspace with the checkout's files and the parameters of ``profile``, exclusively.

    ``iterations``: other lengths of segments. Waits while another run uses the same workspace.
    """
    parts = list(profiles.overlays(profile, seed=seed, changes=changes, root=flows.ROOT))
    base = profiles.base_text(flows.ROOT)
    text = profiles.composed(base, parts)
    if iterations:
        longer = with_iterations(contract.parse(text).train.segments, iterations)
        text = profiles.composed(base, [*parts, ("iterations", longer)])
    name = workspace_name(profile, seed)
    folder = WORKSPACES / name
    with worktrees.workspace_lock(folder, say=say) as lock:
        worktrees.prepare_workspace(folder, text, flows.ROOT)
        stage_code.write(folder)
        yield Workspace(name, folder, stage_environment(), lock)


def check_place(place: Workspace) -> None:
    """Check that this machine can train with a workspace's parameters: ``flows.machine.check_machine``."""
    params = contract.load(place.folder / contract.PARAMS_FILE)
    model = place.folder / params.base_model.source
    if warning := check_machine(params, model if model.is_dir() else None):
        say(f"warning: {warning}")


def stage_environment() -> dict[str, str]:
    """Return the stages' environment: their own Prefect runs go to this run's server, as separate runs."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

    own = worktrees.workspace_environment(flows.ROOT)
    kept = {name: value for name, value in own.items() if not name.startswith("PREFECT__")}  # this run's identity
    server = {"PREFECT_API_URL": PREFECT_API_URL.value(), access.CLIENTS: PREFECT_API_AUTH_STRING.value()}
    return kept | {name: value for name, value in server.items() if value}


def say(line: str) -> None:
    """Print a line on the terminal and log it on the run's page."""
    line = printable(line.expandtabs())
    show(line)
    get_run_logger().info(line)


def run_stages(place: Workspace, targets: Collection[str] = ()) -> list[dict[str, Any]]:
    """Bring the stages that ``targets`` need (none: all) up to date, in order; return each one's outcome and
    seconds."""
    stages = stages_in_order(place, targets)
    progress = create_progress_artifact(
        0.0, key=place.key("stages-progress"), description=f"{place.name}: {len(stages)} stages"
    )
    assert isinstance(progress, UUID), "no event loop runs here, so it is no coroutine"
    done: list[dict[str, Any]] = []
    for number, stage in enumerate(stages, start=1):
        done.append(run_stage(stage, place))
        update_progress_artifact(progress, progress=100 * number / len(stages))
    return done


@task(name="stage", task_run_name="{place.name} {stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, place: Workspace) -> dict[str, Any]:
    """Run `dvc repro` of one stage, logging its lines; a failing stage's error shows the last ones.

    The stage ends with this task, also if the run is cancelled.
    """
    began = time.monotonic()
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)
    outcome = "ran"
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage],
        cwd=place.folder,
        env=place.environment | parent_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=() if place.lock is None else (place.lock,),
        text=True,
        errors="replace",
    )
    try:
        assert process.stdout is not None
        for line in map(str.rstrip, follow.without_advice(process.stdout)):
            if line:
                last.append(line)
                say(line)
                outcome = next((word for said, word in NOT_RUN.items() if said in line), outcome)
        process.wait()
    finally:
        end_tree(process)
    dvc_files.keep(place.folder)
    if process.returncode != 0:
        shown = "\n".join(last)
        title = markdown(f"{place.name} {stage} failed")
        create_markdown_artifact(f"### {title}\n\n{fenced(shown)}", key=place.key("failed-stage"))
        why = reason(list(last), process.returncode)
        raise PipelineError(f"the stage failed: {why}", where=stage, fix="see its lines in the log above")
    return {"stage": stage, "outcome": outcome, "seconds": round(time.monotonic() - began, 1)}


# How this project's commands report an error, and how Python reports a bug.
OWN_WORDS = re.compile(r"(error|refused): .|([A-Za-z_]\w*\.)*[A-Z]\w*(Error|Exception|Exit|Interrupt)\b")


def reason(lines: Sequence[str], status: int) -> str:
    """Return why a stage failed, from its last lines: its own message, or else the last line, which is DVC's with the
    status."""
    own = [line for line in lines if OWN_WORDS.match(line)]
    return (own or lines or [f"exit status {status}"])[-1]


def stages_in_order(place: Workspace, targets: Collection[str] = ()) -> list[str]:
    """Return the names of the workspace's stages that ``targets`` need, in order of dependency."""
    return order(read_graph(place.folder, place.environment), targets)
