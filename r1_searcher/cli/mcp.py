"""`mcp`: search and a policy as tools of the Model Context Protocol."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence

from r1_searcher.cli.policy_options import add_policy_options, opened_asker, opened_retriever, settings_of
from r1_searcher.errors import PipelineError, command
from r1_searcher.options import HelpFormatter, add_port, examples
from r1_searcher.shown import show


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher mcp") -> None:
    """Parse the command line and serve until the client leaves, or until SIGTERM with --http."""
    options = parser(prog).parse_args(arguments)
    try:
        from r1_searcher.serving.mcp_server import make_mcp_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise PipelineError(
            "the package `mcp` is not installed", fix="make setup-doors, or: pip install 'r1-searcher-pipeline[mcp]'"
        ) from None
    from r1_searcher.serving.answerer import Answerer
    from r1_searcher.serving.shared_retriever import SharedRetriever

    settings = settings_of(options)
    with contextlib.ExitStack() as opened:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is the protocol's
            if options.no_ask:
                found = SharedRetriever(opened_retriever(options, settings))
                server = make_mcp_server(found)
            else:
                asker = opened.enter_context(opened_asker(options, settings, seed=settings.seed, greedy=True))
                answerer = Answerer.of(asker)
                opened.callback(answerer.close)
                server = make_mcp_server(answerer.retriever, answerer)
        if not options.http:
            server.run("stdio")
            return
        from r1_searcher.retrieval.service import server as service

        with service.bind("127.0.0.1", options.port) as listener:
            port = listener.getsockname()[1]
            chosen = service.Settings(hosts=service.own_hosts("127.0.0.1", "127.0.0.1"))
            show(f"http://127.0.0.1:{port}/mcp")
            service.make_server(server.streamable_http_app(), chosen).run(sockets=[listener])


def parser(prog: str = "r1-searcher mcp") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve the tools search, open and ask of the Model Context Protocol over stdin and stdout, or over "
        "HTTP for programs of this machine.",
        epilog=examples(prog, "", "--http --port 8501", "--no-ask --index path/to/index"),
        formatter_class=HelpFormatter,
    )
    add_policy_options(parser)
    parser.add_argument("--no-ask", action="store_true", help="offer only search and open, and load no policy")
    parser.add_argument(
        "--http", action="store_true", help="serve streamable HTTP on 127.0.0.1 instead of stdin and stdout"
    )
    add_port(parser, 8501, "port of --http")
    return parser
