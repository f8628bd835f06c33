"""Make only a profile's corpus and index, through DVC; for schedules.

    python -m flows.index --profile smoke

A later run of the pipeline takes both from DVC's cache.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run

from flows import names
from flows.server import prefect_server
from flows.workspace import open_workspace, run_stages
from r1_searcher.errors import command
from r1_searcher.options import whole_number
from r1_searcher.shown import show


def run_name() -> str:
    """Return the run's name."""
    return names.run_name("index", flow_run.parameters)


@flow(name="index", flow_run_name=run_name)
def index(profile: str = "laptop", seed: int | None = None, changes: list[str] | None = None) -> str:
    """Bring a profile's index, and what it needs, up to date; returns the workspace's folder.

    Args:
        profile: A name in profiles/.
        seed: Another seed, with its own workspace.
        changes: Other parameter values, e.g. ["index.k1=1.2"].
    """
    with open_workspace(profile, seed=seed, changes=changes or ()) as place:
        done = run_stages(place, ["index"])
        create_table_artifact(done, key=place.key("index-stages"), description=f"Index of {place.name}")
        return str(place.folder)


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.index", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--profile", default="laptop", help="profile in profiles/ (default: laptop)")
    parser.add_argument("--seed", type=whole_number("--seed"), help="override the seed; uses its own workspace")
    options = parser.parse_args(arguments)
    with prefect_server():
        workspace = index(options.profile, options.seed)
    show(f"done: {workspace}/data/index")


if __name__ == "__main__":
    raise SystemExit(main())
