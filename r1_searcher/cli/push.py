"""`push`: upload an exported folder to a hub. Nothing else in this project uploads anything."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.errors import command
from r1_searcher.options import HelpFormatter, examples
from r1_searcher.shown import show


def parser(prog: str = "r1-searcher push") -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog=prog,
        description="Upload an exported folder to the Hugging Face hub, or to the hub that HF_ENDPOINT names. The "
        "token comes from HF_TOKEN. A new repository is private unless you add --public.",
        epilog=examples(prog, "exports/my-agent me/my-agent", "exports/my-rollouts me/my-rollouts --dataset --public"),
        formatter_class=HelpFormatter,
    )
    top.add_argument("folder", type=Path, help="what `r1-searcher export` wrote")
    top.add_argument("repository", help="OWNER/NAME")
    top.add_argument("--dataset", action="store_true", help="upload to a dataset repository, not to a model repository")
    top.add_argument("--public", action="store_true", help="make a new repository public")
    return top


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher push") -> None:
    """Parse the command line; upload."""
    options = parser(prog).parse_args(arguments)
    from r1_searcher.exporting.hub import push_folder

    address = push_folder(
        options.folder,
        options.repository,
        kind="dataset" if options.dataset else "model",
        private=not options.public,
    )
    show(f"{options.folder} → {address}")
