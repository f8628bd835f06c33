"""The command line `r1-searcher`: which sub-command runs what. Each option is defined once, beside what it is for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

# As stages/__init__.py, which says why: torch reads it when it is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "3000")


@dataclass(frozen=True)
class Library:
    """A sub-command that runs anywhere: ``main(words, prog)`` of ``module``, after the words ``first``."""

    about: str
    module: str
    first: tuple[str, ...] = ()

    def run(self, name: str, words: Sequence[str]) -> int:
        """The exit status."""
        main: Callable[..., int] = importlib.import_module(self.module).main
        return main([*self.first, *words], prog="r1-searcher" if self.first else f"r1-searcher {name}")


@dataclass(frozen=True)
class Checkout:
    """A sub-command that runs in a checkout alone: see ``checkout.run_in_checkout``."""

    about: str
    command: tuple[str, ...]
    examples: tuple[str, ...]
    variables: str = ""  # of a make target, which has no --help of its own

    def run(self, name: str, words: Sequence[str]) -> int:
        """The exit status."""
        from r1_searcher.cli.checkout import is_checkout, run_in_checkout
        from r1_searcher.errors import command
        from r1_searcher.options import examples
        from r1_searcher.shown import show_lines

        if "--help" in words or "-h" in words:
            runs = " ".join(self.command if self.command[0] == "make" else ("python -m", *self.command))
            show_lines(
                f"{self.about[0].upper()}{self.about[1:]}.\nRuns `{runs}` in the current folder, a checkout.\n"
                f"{examples(f'r1-searcher {name}', *self.examples)}\n{self.variables}"
            )
            if self.variables or not is_checkout(Path.cwd()):  # else the command itself has the options
                return 0
        return command(lambda: run_in_checkout(name, self.command, words))()


_EVALUATE, _INDEX = "r1_searcher.cli.evaluate", "r1_searcher.cli.index"
COMMANDS: dict[str, Library | Checkout] = {
    "ask": Library("ask a policy a question of your own", "r1_searcher.cli.ask"),
    "browse": Library("browse trajectories and the curves of training in a local page", "r1_searcher.cli.browse"),
    "search": Library("print the best passages for a query", _INDEX, ("search",)),
    "serve": Library("serve a policy that searches: OpenAI's API and a chat page", "r1_searcher.cli.serve"),
    "mcp": Library("serve search and a policy as tools of the Model Context Protocol", "r1_searcher.cli.mcp"),
    "index": Library("index a folder of passages", _INDEX),
    "rollout": Library("sample trajectories of a policy on questions", "r1_searcher.cli.rollout"),
    "reward": Library("reward rollouts or transcript files", "r1_searcher.cli.reward"),
    "score": Library("score the answers of transcript files", _EVALUATE, ("score",)),
    "evaluate": Library("evaluate policies and write the summary", "r1_searcher.cli.evaluate"),
    "compare": Library("test whether policy B is better or worse than A (paired verdict)", _EVALUATE, ("compare",)),
    "judge": Library("let a language model judge answers (ACC_L)", _EVALUATE, ("judge",)),
    "benchmarks": Library("list and fetch released benchmarks", "r1_searcher.cli.benchmarks"),
    "track": Library("show finished training segments in trackers (TensorBoard, …)", "r1_searcher.cli.track"),
    "export": Library(
        "export a policy with a model card, or questions and rollouts for other programs", "r1_searcher.cli.export"
    ),
    "push": Library("upload an exported folder to a hub", "r1_searcher.cli.push"),
    "verify": Library("check every stored file for damage", "r1_searcher.files.verify"),
    "store": Library("list or prune the store of results", "r1_searcher.files.store"),
    "params": Library("print the default parameters, changed by profiles or values", "r1_searcher.cli.shipped"),
    "train": Checkout(
        "run the whole pipeline: world, base model, training, evaluation, report",
        ("make", "train"),
        ("", "PROFILE=smoke", "PROFILE=qwen2.5-3b SEED=1"),
        "variables: PROFILE=NAME (in profiles/), SEED=NUMBER, HF_HUB_OFFLINE=0 (download the base model)",
    ),
    "plan": Checkout(
        "estimate the memory, time and disk that a profile needs",
        ("stages.plan",),
        ("qwen2.5-7b-base", "qwen2.5-7b-base --set update.gradient_checkpointing=false"),
    ),
    "profiles": Checkout(
        "compose a profile into params.yaml, or run it in a workspace",
        ("flows.profiles",),
        ("smoke", "smoke --workspace .workspaces/smoke --seed 1"),
    ),
    "corpus": Checkout("write the corpus that the parameters describe", ("stages.corpus",), ("--corpus my-corpus",)),
    "questions": Checkout(
        "make questions, audit them, label their difficulty, draw training mixes",
        ("stages.questions",),
        ("audit", "difficulty --help"),
    ),
    "update": Checkout(
        "update a policy once from rollouts and rewards",
        ("stages.update",),
        (
            "--policy data/base_model --rollouts rollouts.parquet --rewards rewards.parquet --stage stage1 "
            "--out new/policy --advantages new/advantages.parquet",
        ),
    ),
    "report": Checkout("write report/report.html", ("stages.report",), ("",)),
    "regression": Checkout(
        "train several seeds and compare them with the committed runs",
        ("make", "regression"),
        ("", "PROFILE=smoke SEEDS=6 MARKDOWN=verdict.md"),
        "variables: PROFILE=NAME, SEEDS=NUMBER, MARKDOWN=FILE",
    ),
    "code-gate": Checkout(
        "check that a committed policy still gives the same answers (no training)",
        ("stages.regression", "code"),
        ("", "--markdown verdict.md"),
    ),
    "ui": Checkout(
        "start the Prefect server and UI: runs, schedules, training metrics", ("make", "ui"), ("",), "variables: none"
    ),
}


class _Forwarded(TyperCommand):
    """Hands every word on as it stands, ``--help`` too: what it runs has the options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Nothing is parsed here."""
        ctx.args = list(args)
        return args

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """The options of the parser behind the name; the shell completes files itself."""
        from typer.core import CompletionItem  # type: ignore[attr-defined]  # typer says nowhere else what it wants

        found = COMMANDS[self.name or ""]
        if not isinstance(found, Library) or not hasattr(module := importlib.import_module(found.module), "parser"):
            return []
        words = _words(module.parser(), found.first)
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _words(parser: Any, first: Sequence[str]) -> list[str]:
    """The options and sub-commands of an argparse parser, or of its sub-command ``first``."""
    for action in parser._actions:
        if first and isinstance(action.choices, dict) and first[0] in action.choices:
            return _words(action.choices[first[0]], first[1:])
    options = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    names = [name for action in parser._actions if isinstance(action.choices, dict) for name in action.choices]
    return [*names, *options]


app = typer.Typer(
    name="r1-searcher",
    help="Teach a language model to search by reinforcement learning. Includes retrieval, rollouts, rewards, "
    "evaluation and paired verdicts.",
    epilog="""\b
examples:
  r1-searcher COMMAND --help
  r1-searcher index --corpus path/to/passages --index path/to/index
  r1-searcher search "who directed Silent River" --index path/to/index
  r1-searcher score transcripts.jsonl""",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich would double the time that --help takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(version("r1-searcher-pipeline"))
        except PackageNotFoundError:
            typer.echo("not installed, run from a checkout")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _add(name: str, found: Library | Checkout) -> None:
    about = found.about if isinstance(found, Library) else f"{found.about} (needs a checkout)"

    @app.command(name, cls=_Forwarded, help=about, short_help=about, add_help_option=False)
    def run(ctx: typer.Context) -> None:
        raise typer.Exit(found.run(name, ctx.args))


for _name, _found in COMMANDS.items():
    _add(_name, _found)


def main() -> None:
    """Entry of the installed command."""
    app(prog_name="r1-searcher")
