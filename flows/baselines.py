"""Renew the baselines of the regression gates, after an intended change of protocol or recipe.

    python -m flows.baselines                      both, of the profiles laptop and smoke
    python -m flows.baselines --only recipe --seeds 24

Everything is trained through DVC in separate workspaces. Finished runs are reused, so a stopped call resumes. Commit
the files in baselines/ afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from prefect import flow

import flows
from flows.regression import EVALUATED
from flows.server import prefect_server
from flows.workspace import check_place, open_workspace, run_stages, say
from r1_searcher.errors import command
from r1_searcher.options import whole_number
from r1_searcher.regression import code, recipe
from stages.regression.present import CODE_PROFILE, RECIPE_PROFILE, profile_params

_SEEDS = 24
TRAINED = ("evaluate",)  # the stage that needs the final policy and the questions


@flow(name="baselines")
def baselines(profile: str = RECIPE_PROFILE, seeds: int = _SEEDS, only: str | None = None) -> None:
    """Renew the baselines in baselines/.

    Args:
        profile: A name in profiles/, for the recipe gate.
        seeds: How many of its seeds are trained: 0, 1, …
        only: code or recipe; both unless given.
    """
    if only in (None, "code"):
        with open_workspace(CODE_PROFILE) as place:
            run_stages(place, TRAINED)
            out = flows.ROOT / code.CODE_BASELINES
            size = code.make_code_baseline(place.folder, out, profile_params(CODE_PROFILE, flows.ROOT))
            say(f"{code.CODE_BASELINES}: {size:,} bytes")
    if only in (None, "recipe"):
        places = {}
        for seed in range(seeds):
            with open_workspace(profile, seed=seed) as place:
                check_place(place)
                run_stages(place, EVALUATED)
                places[str(seed)] = place.folder
        path = recipe.baseline_file(profile, flows.ROOT / recipe.RECIPE_BASELINES)
        runs = recipe.make_recipe_baseline(places, path)
        say(f"{recipe.RECIPE_BASELINES}/{path.name}: {len(runs)} runs")


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.baselines", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--profile", default=RECIPE_PROFILE, help=f"profile of the recipe gate's runs (default: {RECIPE_PROFILE})"
    )
    parser.add_argument(
        "--seeds", type=whole_number("--seeds", least=1), default=_SEEDS, help=f"number of seeds (default: {_SEEDS})"
    )
    parser.add_argument("--only", choices=("code", "recipe"), help="renew only this baseline")
    options = parser.parse_args(arguments)
    with prefect_server():
        baselines(options.profile, options.seeds, options.only)


if __name__ == "__main__":
    raise SystemExit(main())
