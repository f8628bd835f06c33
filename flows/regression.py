"""Is a profile's policy still as good as its committed baseline? The verdict, for a schedule and for CI.

    python -m flows.regression --profile smoke --markdown verdict.md

The policies are made and evaluated through DVC in the profile's workspace; what is up to date is not made again.
They are held against baselines/PROFILE, which `python -m stages.evaluate baseline` writes. Only "worse" fails (exit
status 1): another kind of processor rounds differently, and may end in another policy that is as good.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

import flows
from flows.server import prefect_server
from flows.workspace import Workspace, check_place, open_workspace, run_stages, say, workspace_name
from stages.contract.artefacts import write_text
from stages.contract.errors import command
from stages.contract.options import whole_number
from stages.evaluate.baseline import FOLDER, against_baseline
from stages.evaluate.compare import WORSE, Comparison, warn
from stages.evaluate.verdict_page import lines, markdown

EVALUATED = "summary"  # the stage that needs every evaluation


class Worse(Exception):
    """The policy is worse than its baseline: the run fails."""


def run_name() -> str:
    """What the run is called: its profile and seed."""
    given = flow_run.parameters
    return f"{workspace_name(given['profile'], given.get('seed'))} regression"


@flow(name="regression", flow_run_name=run_name)
def regression(
    profile: str = "smoke",
    seed: int | None = None,
    changes: list[str] | None = None,
    even_so: bool = False,
    write_markdown: str | None = None,
) -> str:
    """The verdict on a profile's policies against their baseline; returns it in one line, fails where it is "worse".

    Args:
        profile: A name in profiles/.
        seed: Another seed, with a workspace and a baseline of its own.
        changes: Other values of parameters, e.g. ["train.stage2.learning_rate=2e-4"].
        even_so: Compare although the protocol differs from the baseline's.
        write_markdown: A file that gets the Markdown, too.
    """
    with open_workspace(profile, seed=seed, changes=changes or ()) as place:
        check_place(place)
        done = run_stages(place, [EVALUATED])
        create_table_artifact(done, key=place.key("regression-stages"), description=f"Stages of {place.name}")
        found = judge(place, flows.ROOT / FOLDER / place.name, even_so)
    if write_markdown is not None:
        write_text(write_markdown, markdown(found))
    if found.verdict == "worse":
        raise Worse(found.headline)
    return found.headline


@task(name="verdict", task_run_name="{place.name} verdict", cache_policy=NO_CACHE, persist_result=False)
def judge(place: Workspace, baseline: Path, even_so: bool) -> Comparison:
    """The verdict, as a Markdown artifact and as lines of the log."""
    found = against_baseline(place.folder, baseline, even_so=even_so)
    found = found.called(f"baseline of {place.name}", place.name)
    warn(found)
    create_markdown_artifact(markdown(found), key=place.key("verdict"), description=found.headline)
    for line in lines(found).splitlines():
        say(line)
    return found


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.regression", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="smoke", help="a name in profiles/ (smoke)")
    parser.add_argument(
        "--seed", type=whole_number("--seed"), help="another seed, with a workspace and a baseline of its own"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--even-so", action="store_true", help="compare although the protocol differs")
    parser.add_argument("--markdown", metavar="FILE", help="also write a summary for a pull request")
    options = parser.parse_args(arguments)
    with prefect_server():
        try:
            regression(options.profile, options.seed, options.changes, options.even_so, options.markdown)
        except Worse:  # the lines above say all
            return WORSE
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
