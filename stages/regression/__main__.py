"""Run the regression gates on finished runs; `make regression` also trains the runs that the recipe gate needs.

python -m stages.regression code
python -m stages.regression recipe .workspaces/smoke-seed0 .workspaces/smoke-seed1 .workspaces/smoke-seed2
python -m stages.regression renew-code .workspaces/laptop
python -m stages.regression renew-recipe .workspaces/smoke-seed*
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.errors import Refused, command
from r1_searcher.options import whole_number
from r1_searcher.regression import STATUS_HELP
from r1_searcher.shown import show, show_lines

# Each command imports only what it needs.


def _code(options: argparse.Namespace) -> int:
    from r1_searcher.files.artefacts import write_text
    from r1_searcher.regression.code import check_code
    from r1_searcher.regression.page import code_lines, code_markdown, exit_status
    from r1_searcher.statistics.verdict_page import no_verdict
    from stages.regression.present import CODE_PROFILE, profile_params

    try:
        found = check_code(options.baseline, profile_params(CODE_PROFILE), limit=options.limit)
    except Refused as refused:
        if options.markdown is not None:
            write_text(options.markdown, no_verdict("Code gate", "refused", str(refused)))
        raise
    if options.markdown is not None:
        write_text(options.markdown, code_markdown(found))
    show_lines(code_lines(found))
    return exit_status([found.verdict])


def _recipe(options: argparse.Namespace) -> int:
    from r1_searcher.regression.page import exit_status, recipe_lines
    from r1_searcher.regression.recipe import baseline_file, check_recipe, read_recipe_baseline
    from stages.regression.present import profile_params

    committed = read_recipe_baseline(baseline_file(options.profile), profile_params(options.profile))
    found = check_recipe(committed, _runs(options.workspaces))
    show_lines(recipe_lines(found))
    return exit_status([found.verdict])


def _renew_code(options: argparse.Namespace) -> None:
    from r1_searcher.regression.code import make_code_baseline
    from stages.regression.present import CODE_PROFILE, profile_params

    size = make_code_baseline(options.workspace, options.baseline, profile_params(CODE_PROFILE))
    show(f"{options.baseline}: {size:,} bytes")


def _renew_recipe(options: argparse.Namespace) -> None:
    from r1_searcher.regression.recipe import baseline_file, make_recipe_baseline

    places = _by_seed(options.workspaces)
    path = baseline_file(options.profile)
    show(f"{path}: {len(make_recipe_baseline(places, path))} runs")


def _runs(workspaces: Sequence[Path]) -> dict[str, dict[str, float]]:
    from r1_searcher.regression.figures import read_figures

    return {seed: read_figures(place) for seed, place in _by_seed(workspaces).items()}


def _by_seed(workspaces: Sequence[Path]) -> dict[str, Path]:
    from r1_searcher import params as contract
    from r1_searcher.errors import PipelineError

    found: dict[str, Path] = {}
    for place in workspaces:
        seed = str(contract.load(place / contract.PARAMS_FILE).seed)
        if seed in found:
            raise PipelineError(
                f"has seed {seed}, the same as {found[seed]}", where=str(place), fix="name each seed once"
            )
        found[seed] = place
    return dict(sorted(found.items(), key=lambda pair: int(pair[0])))


def _parser() -> argparse.ArgumentParser:
    from stages.regression.present import RECIPE_PROFILE

    parser = argparse.ArgumentParser(
        prog="python -m stages.regression",
        description=__doc__,
        epilog=STATUS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    code = commands.add_parser("code", help="check that the committed policy still gives the same answers")
    code.add_argument(
        "--limit", type=whole_number("--limit", least=1), metavar="N", help="only the first N questions per benchmark"
    )
    code.add_argument("--markdown", type=Path, metavar="FILE", help="also write a summary for a pull request")
    code.set_defaults(run=_code)
    recipe = commands.add_parser("recipe", help="test whether finished runs are as good as the committed ones")
    renew_code = commands.add_parser("renew-code", help="write the code gate's baseline from a finished run")
    renew_code.add_argument("workspace", type=Path)
    renew_code.set_defaults(run=_renew_code)
    renew_recipe = commands.add_parser("renew-recipe", help="write the recipe gate's baseline from finished runs")
    for parser_of, run in ((recipe, _recipe), (renew_recipe, _renew_recipe)):
        parser_of.add_argument("workspaces", type=Path, nargs="+", metavar="WORKSPACE", help="one per seed")
        parser_of.add_argument(
            "--profile", default=RECIPE_PROFILE, help=f"profile of these runs (default: {RECIPE_PROFILE})"
        )
        parser_of.set_defaults(run=run)
    for parser_of in (code, renew_code):
        parser_of.add_argument("--baseline", type=Path, default=Path("baselines/code"), metavar="FOLDER")
    return parser


@command
def main(arguments: Sequence[str] | None = None) -> int | None:
    """Entry of ``python -m stages.regression``."""
    options = _parser().parse_args(arguments)
    status: int | None = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
