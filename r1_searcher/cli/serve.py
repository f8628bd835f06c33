"""`serve`: a policy that searches behind OpenAI's API, with a chat page."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from r1_searcher.cli.policy_options import add_policy_options, opened_asker, settings_of
from r1_searcher.errors import command
from r1_searcher.options import HelpFormatter, add_port, examples, seconds, whole_number
from r1_searcher.shown import show


@command
def main(arguments: Sequence[str] | None = None, prog: str = "r1-searcher serve") -> None:
    """Parse the command line and serve until SIGTERM or Ctrl-C."""
    options = parser(prog).parse_args(arguments)
    from r1_searcher.retrieval.service import server as service
    from r1_searcher.serving.access import read_token

    settings = settings_of(options)
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(service.bind(options.host, options.port))  # the cheapest to find taken
        host, port = listener.getsockname()[:2]
        hosts = service.own_hosts(options.host, host)
        token = read_token(options.token_file, loopback=bool(hosts))
        asker = opened.enter_context(opened_asker(options, settings, seed=settings.seed, greedy=not options.sample))
        from r1_searcher.asking.policies import questions_to_try
        from r1_searcher.serving.answerer import Answerer
        from r1_searcher.serving.server import ServeSettings, make_policy_app

        chosen = ServeSettings(
            model=options.name,
            running=options.max_running,
            waiting=options.max_waiting,
            token=token,
            hosts=hosts,
            grace=options.grace,
            tries=tuple([] if options.policy or options.server else questions_to_try()),
        )
        app = make_policy_app(Answerer.of(asker), chosen, policy=str(options.policy or options.model or "the last one"))
        server = service.make_server(app, chosen.transport())
        shown = f"[{host}]" if ":" in host else host
        show(f"chat: http://{shown}:{port}/")
        show(f"API:  http://{shown}:{port}/v1 (model {options.name}{', with the token' if token else ''})")
        server.run(sockets=[listener])


def parser(prog: str = "r1-searcher serve") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Serve a policy that searches: OpenAI's API (chat completions, completions, models) and a chat "
        "page. Without --host, only this machine can connect; with it, a token is required.",
        epilog=examples(prog, "", "--port 8500 --sample", "--policy path/to/model --index path/to/index"),
        formatter_class=HelpFormatter,
    )
    add_policy_options(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add_port(parser, 8500)
    parser.add_argument("--name", default="r1-searcher", help="name of the model in the API (default: %(default)s)")
    parser.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="file that contains the token (default: the variable R1_SEARCHER_TOKEN)",
    )
    parser.add_argument(
        "--sample", action="store_true", help="sample at rollout.temperature if a request names no temperature"
    )
    for name, default, what in (
        ("--max-running", 32, "questions that are answered at the same time (default: %(default)s)"),
        ("--max-waiting", 64, "questions that may wait; further ones get status 429 (default: %(default)s)"),
    ):
        parser.add_argument(name, type=whole_number(name, 1), default=default, metavar="N", help=what)
    parser.add_argument(
        "--grace",
        type=seconds("--grace"),
        default=30.0,
        metavar="SECONDS",
        help="on shutdown, time for running answers to finish (default: %(default)s)",
    )
    return parser
