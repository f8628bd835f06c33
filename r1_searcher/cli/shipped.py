"""`params`: print the built-in parameters with their comments, changed by the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.errors import command
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.shown import show_lines


def parser(prog: str = "r1-searcher params") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Print the default parameters, changed by the given profiles and values. Without changes they are "
        "those used if there is no params.yaml; with changes, pass them to other commands as --params.",
        epilog=examples(
            prog,
            "> params.yaml",
            "examples/own_retriever/profile.yaml > own.yaml",
            "--set rollout.k=4 --set retriever.kind=hybrid > own.yaml",
        ),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("profiles", nargs="*", type=Path, metavar="FILE", help="a profile: some parameters, as YAML")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a parameter (repeatable)"
    )
    return parser


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher params") -> None:
    """Read the command line and print."""
    options = parser(prog).parse_args(arguments)
    from r1_searcher.params import SHIPPED
    from r1_searcher.params.profiles import assignment, composed, read_overlay

    text = SHIPPED.read_text(encoding="utf-8")
    parts = [(str(path), read_overlay(path)) for path in options.profiles]
    parts += [(f"--set {change}", assignment(change)) for change in options.set]
    show_lines((composed(text, parts, where="built-in parameters") if parts else text).rstrip("\n"))
