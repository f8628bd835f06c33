"""`params`: print the parameters that ship with the library, with their comments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from r1_searcher.errors import command
from r1_searcher.options import examples
from r1_searcher.shown import show_lines


def parser(prog: str = "r1-searcher params") -> argparse.ArgumentParser:
    """The command line."""
    return argparse.ArgumentParser(
        prog=prog,
        description="Print the default parameters, which are used if there is no params.yaml.",
        epilog=examples(prog, "> params.yaml"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher params") -> None:
    """Read the command line and print."""
    parser(prog).parse_args(arguments)
    from r1_searcher.params import SHIPPED

    show_lines(SHIPPED.read_text(encoding="utf-8").rstrip("\n"))
