"""`browse`: a local page over rollouts, rewards, advantages, evaluations and curves."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.errors import PipelineError, command
from r1_searcher.options import HelpFormatter, add_port, examples
from r1_searcher.shown import show, show_lines


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher browse") -> None:
    """Parse the command line; serve the page until Ctrl-C."""
    options = parser(prog).parse_args(arguments)
    _serve(options)


def parser(prog: str = "r1-searcher browse") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Browse trajectories in a local page: filter, search, compare policies and iterations, see each "
        "token's log-probability and advantage, and the curves of training while it goes on.",
        epilog=examples(prog, "", "data .store", ".workspaces/smoke", "rollouts.parquet --port 8500", ". --price 2.5"),
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[Path()],
        metavar="FOLDER",
        help="folder or Parquet file: a checkout, a workspace, data/, .store, an evaluation (default: this folder)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add_port(parser, 8410)
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        help="tokenizer.json of the policy (default: the one in these folders)",
    )
    parser.add_argument(
        "--price", type=_price, metavar="AMOUNT", help="price of a machine hour; the curves then show the cost so far"
    )
    parser.add_argument(
        "--keep-index",
        type=Path,
        metavar="FOLDER",
        help="keep the index in this folder, so that the next start is quick",
    )
    return parser


def _price(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise PipelineError(f"must be an amount of money, 0 or more, got {text!r}", where="--price")
    return value


def _serve(options: argparse.Namespace) -> None:
    for folder in options.folders:
        if not folder.exists():
            raise PipelineError("no such file or folder", where=str(folder), fix="give a folder of a run, e.g. data")
    if options.tokenizer is not None and not options.tokenizer.is_file():
        raise PipelineError("no such file", where=f"--tokenizer {options.tokenizer}", fix="give a tokenizer.json")
    from r1_searcher.browsing.folders import Folders, check_something
    from r1_searcher.browsing.index import TrajectoryIndex
    from r1_searcher.browsing.server import PageSettings, make_app
    from r1_searcher.browsing.tokens import Tokenizers
    from r1_searcher.retrieval.service import server

    folders = Folders(options.folders)
    check_something(folders)
    with server.bind(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        address = f"[{host}]" if ":" in host else host
        index = TrajectoryIndex(folders, options.keep_index)
        try:
            token = secrets.token_urlsafe(18)
            settings = PageSettings(token, server.own_hosts(options.host, host), options.price)
            app = make_app(index, Tokenizers(options.folders, options.tokenizer), settings)
            show_lines(f"http://{address}:{port}/?token={token}")
            show("Ctrl-C ends.")
            server.make_server(app, server.Settings(grace=2.0)).run(sockets=[listener])
        finally:
            index.close()
