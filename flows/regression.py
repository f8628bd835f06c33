"""Run both regression gates: the code must give the same answers, and the recipe must train as well as before.

    python -m flows.regression --markdown verdict.md

The code gate evaluates a committed policy with the current code. The recipe gate trains several seeds of a profile
through DVC in separate workspaces (finished runs are reused) and compares them with the committed runs. See
docs/regression.md for what each gate detects, and for the exit statuses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

import flows
from flows import names
from flows.server import prefect_server
from flows.workspace import check_place, open_workspace, run_stages, say
from r1_searcher.errors import PipelineError, Refused, command
from r1_searcher.files.artefacts import write_text
from r1_searcher.options import whole_number
from r1_searcher.regression import STATUS_HELP, code, page, recipe
from r1_searcher.regression.figures import read_figures
from r1_searcher.shown import markdown
from r1_searcher.statistics.verdict_page import no_verdict
from stages.regression.present import CODE_PROFILE, RECIPE_PROFILE, profile_params

EVALUATED = ("base_metrics", "summary")  # the stages whose figures are compared
_SEEDS = 6
CODE, RECIPE = "Code gate", "Recipe gate"


@dataclass(frozen=True)
class GateVerdict:
    """One gate's verdict: the word, one line, and the page's Markdown."""

    word: str
    headline: str
    markdown: str


class Failed(PipelineError):
    """A gate did not pass: the run fails. ``status`` is the command's exit status."""

    def __init__(self, verdicts: Sequence[GateVerdict]) -> None:
        self.status = page.exit_status([verdict.word for verdict in verdicts])
        super().__init__("; ".join(verdict.headline for verdict in verdicts if verdict.word in page.EXIT_STATUSES))


def run_name() -> str:
    """Return the run's name."""
    return names.run_name("regression", flow_run.parameters)


@flow(name="regression", flow_run_name=run_name)
def regression(
    profile: str = RECIPE_PROFILE,
    seeds: int = _SEEDS,
    changes: list[str] | None = None,
    write_markdown: str | None = None,
) -> str:
    """The verdicts of both gates, a line each; fails where one is "worse" or "changed", or was refused.

    Args:
        profile: A name in profiles/ whose runs are committed, for the recipe gate.
        seeds: How many seeds the recipe gate trains: 0, 1, …
        changes: Other values of parameters for its runs, e.g. ["train.stage2.learning_rate=2e-4"].
        write_markdown: A file that gets the Markdown, too.
    """
    verdicts = [judge_code(profile), judge_recipe(profile, seeds, changes or [])]
    if write_markdown is not None:
        write_text(write_markdown, "\n".join(verdict.markdown for verdict in verdicts))
    if page.exit_status([verdict.word for verdict in verdicts]):
        raise Failed(verdicts)
    return "\n".join(verdict.headline for verdict in verdicts)


@task(name="code gate", task_run_name="code gate", cache_policy=NO_CACHE, persist_result=False)
def judge_code(profile: str) -> GateVerdict:
    """Run the code gate; report it as a Markdown artifact and as log lines."""

    def judge() -> tuple[GateVerdict, str]:
        found = code.check_code(flows.ROOT / code.CODE_BASELINES, profile_params(CODE_PROFILE, flows.ROOT))
        return GateVerdict(found.verdict, page.code_headline(found), page.code_markdown(found)), page.code_lines(found)

    return _shown(CODE, f"{profile}-code-verdict", judge)


def judge_recipe(profile: str, seeds: int, changes: Sequence[str]) -> GateVerdict:
    """Run the recipe gate; whether it can be judged is checked before anything is trained."""

    def judge() -> tuple[GateVerdict, str]:
        if seeds < 1:
            raise PipelineError("at least 1", where="seeds")
        path = recipe.baseline_file(profile, flows.ROOT / recipe.RECIPE_BASELINES)
        committed = recipe.read_recipe_baseline(path, profile_params(profile, flows.ROOT))
        runs = {str(seed): train(profile, seed, changes) for seed in range(seeds)}
        found = recipe.check_recipe(committed, runs)
        return (
            GateVerdict(found.verdict, page.recipe_headline(found), page.recipe_markdown(found)),
            page.recipe_lines(found),
        )

    return _shown(RECIPE, f"{profile}-recipe-verdict", judge)


def train(profile: str, seed: int, changes: Sequence[str] = ()) -> dict[str, float]:
    """Return the figures of a profile's run with a seed, made in its workspace if not up to date."""
    with open_workspace(profile, seed=seed, changes=changes) as place:
        check_place(place)
        try:
            done = run_stages(place, EVALUATED)
        except PipelineError as error:  # collapsed training too: no figures to compare, and no pass
            raise PipelineError(f"the run with seed {seed} did not finish: {error}") from error
        create_table_artifact(done, key=place.key("regression-stages"), description=f"Stages of {place.name}")
        return read_figures(place.folder)


def _shown(gate: str, key: str, judge: Callable[[], tuple[GateVerdict, str]]) -> GateVerdict:
    """Show a gate's verdict on the run's page and in its log, or why there is none."""
    try:
        verdict, lines = judge()
    except PipelineError as error:
        word = "refused" if isinstance(error, Refused) else "error"
        lines = page.unasked_line(gate, word, str(error))
        verdict = GateVerdict(word, lines, no_verdict(gate, word, str(error)))
    create_markdown_artifact(verdict.markdown, key=_key(key), description=markdown(verdict.headline, longest=None))
    for line in lines.splitlines():
        say(line)
    return verdict


def _key(text: str) -> str:
    """Return an artifact's key: lower case, digits and dashes."""
    return "".join(letter if letter.isalnum() else "-" for letter in text).lower()


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.regression",
        description=(__doc__ or "").splitlines()[0],
        epilog=STATUS_HELP,
    )
    parser.add_argument(
        "--profile", default=RECIPE_PROFILE, help=f"profile of the recipe gate's runs (default: {RECIPE_PROFILE})"
    )
    parser.add_argument(
        "--seeds", type=whole_number("--seeds", least=1), default=_SEEDS, help=f"number of seeds (default: {_SEEDS})"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="override a parameter"
    )
    parser.add_argument("--markdown", metavar="FILE", help="also write a summary for a pull request")
    options = parser.parse_args(arguments)
    with prefect_server():
        try:
            regression(options.profile, options.seeds, options.changes, options.markdown)
        except Failed as failed:  # the lines above say everything
            return failed.status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
