"""`export`: hand on what was made, in a form that others open without this project."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from r1_searcher import params
from r1_searcher.cli.export_data import DATA_EXPORTS
from r1_searcher.errors import PipelineError, command
from r1_searcher.files import sums
from r1_searcher.files.stage_outputs import free_place
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.shown import show

_NAME = re.compile(r"\w[\w.-]*", re.ASCII)  # as a hub's, and part of a file's
_GGUF = ("F32", "F16", "BF16", "Q8_0")


def parser(prog: str = "r1-searcher export") -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog=prog,
        description="Export a policy with a model card, into a folder that works without this project; or export "
        "questions and rollouts for other programs.",
        epilog=examples(
            prog,
            "policy --out exports/my-agent",
            "policy --policy data/train/s1-00/policy --gguf Q8_0 --licence apache-2.0 --out exports/my-agent",
            *(f"{name} {export.example}" for name, export in DATA_EXPORTS.items()),
        ),
        formatter_class=HelpFormatter,
    )
    kinds = top.add_subparsers(dest="kind", metavar="KIND", required=True)
    policy = kinds.add_parser(
        "policy",
        help="write a policy with its tokenizer, a model card, its curves, and a script that asks it",
        epilog=examples(prog, "policy --gguf F16 --out exports/my-agent"),
        formatter_class=HelpFormatter,
    )
    policy.add_argument("--policy", type=Path, metavar="FOLDER", help="policy folder (default: the last trained one)")
    policy.add_argument("--out", type=free_place, required=True, metavar="FOLDER", help="folder to write")
    policy.add_argument("--name", help="the model's name (default: the folder's)")
    policy.add_argument(
        "--licence", default="", metavar="ID", help="the licence to state, e.g. apache-2.0 (default: none is stated)"
    )
    policy.add_argument("--gguf", choices=_GGUF, help="also write a GGUF file, for llama.cpp and Ollama")
    policy.add_argument(
        "--params",
        type=Path,
        default=params.PARAMS_FILE,
        metavar="FILE",
        help="the parameters it was trained with (default: %(default)s)",
    )
    for name, export in DATA_EXPORTS.items():
        part = kinds.add_parser(
            name,
            help=export.about,
            epilog=examples(prog, f"{name} {export.example}"),
            formatter_class=HelpFormatter,
        )
        export.add(part)
    return top


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher export") -> None:
    """Parse the command line; write the export."""
    options = parser(prog).parse_args(arguments)
    if options.kind in DATA_EXPORTS:
        DATA_EXPORTS[options.kind].run(options)
    else:
        _policy(options)


def _policy(options: argparse.Namespace) -> None:
    from r1_searcher.asking.policies import last_policy
    from r1_searcher.exporting.facts import gather
    from r1_searcher.exporting.policy import export_policy

    settings = params.load_or_shipped(options.params)
    policy = options.policy or last_policy(settings)
    if options.out.resolve() == policy.resolve() or options.out.resolve() in policy.resolve().parents:
        raise PipelineError("would replace the policy itself", where=str(options.out), fix="choose another folder")
    sums.check_replaceable(options.out)
    name = options.name or options.out.resolve().name
    if not _NAME.fullmatch(name):
        raise PipelineError(
            f"{name!r} is not a model's name: letters, digits, _, - and dots", where="--name", fix="give --name"
        )
    facts = gather(policy, settings, params_file=options.params, known=options.params != params.PARAMS_FILE)
    written = export_policy(facts, options.out, name=name, licence=options.licence, gguf=options.gguf)
    show(f"{policy} → {options.out}: {', '.join(written)}")
