"""Options of the commands that let a policy answer (``ask``, ``serve``, ``mcp``), and what they open."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.options import whole_number
from r1_searcher.params.reading import check
from r1_searcher.shown import show_piece
from r1_searcher.transcripts.grammar import Mode

if TYPE_CHECKING:
    from r1_searcher.asking.asker import Asker
    from r1_searcher.types.protocols import Passage, Retriever

_INDEX, _CORPUS = Path("data/index"), Path("data/corpus")  # of a checkout
_PATIENCE = 10.0  # seconds that a person waits for a retrieval service which does not answer


def add_policy_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a policy, a retriever and their limits."""
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument("--policy", metavar="FOLDER", help="model folder or hub name (default: the last trained one)")
    policy.add_argument("--server", metavar="URL", help="OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1")
    parser.add_argument("--model", metavar="NAME", help="with --server: the model's name there")
    parser.add_argument(
        "--key-variable", default="", metavar="NAME", help="with --server: environment variable that holds its key"
    )
    parser.add_argument("--interface", choices=("chat", "completions"), default="chat", help="with --server: its API")
    parser.add_argument(
        "--index", type=Path, default=_INDEX, metavar="FOLDER", help="index folder (default: %(default)s)"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="FOLDER",
        help="corpus of the index; an index of another corpus is refused (default: data/corpus for data/index)",
    )
    parser.add_argument("--service", metavar="URL", help="search this retrieval service instead of an index")
    parser.add_argument(
        "--k", type=whole_number("--k", least=1), metavar="N", help="passages per search (default: rollout.k)"
    )
    parser.add_argument(
        "--max-searches",
        type=whole_number("--max-searches", least=1),
        metavar="N",
        help="searches per question (default: rollout.max_searches)",
    )
    parser.add_argument(
        "--params", type=Path, default=params.PARAMS_FILE, metavar="FILE", help="parameters (default: %(default)s)"
    )


def settings_of(options: argparse.Namespace) -> params.Params:
    """Return the parameters, with what the options change."""
    settings = params.load_or_shipped(options.params)
    given = {"k": options.k, "max_searches": options.max_searches}
    changes = {name: value for name, value in given.items() if value is not None}
    changed = settings.model_dump(mode="json")
    changed["rollout"] |= changes
    if options.service:
        changed["retriever"] |= {"kind": "service"}
        service = changed["retriever"]["service"]
        service |= {"url": options.service, "wait": min(service["wait"], _PATIENCE)}
    return check(changed, where="the command line")


def corpus_of(options: argparse.Namespace) -> Path | None:
    """Return the corpus that the index must belong to; None if it is unknown, so that nothing is compared."""
    if options.corpus is not None:
        return Path(options.corpus)
    return _CORPUS if options.index == _INDEX and _CORPUS.is_dir() else None


def opened_retriever(options: argparse.Namespace, settings: params.Params) -> Retriever:
    """Open the retriever. Raises ``PipelineError``: if there is no index yet, one that says so to a newcomer."""
    from r1_searcher.retrieval import open_retriever

    try:
        return open_retriever(settings, index=options.index, corpus=corpus_of(options))
    except PipelineError as error:
        if error.where == str(_INDEX) and not _INDEX.exists():
            raise PipelineError(
                "there is no index yet",
                where=str(_INDEX),
                fix="run `make train` in a checkout, or name one with --index or --service",
            ) from None
        raise


class _NoRetriever:
    """Stands where no search is allowed, so that no index is needed."""

    fingerprint = "none"

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        raise PipelineError("a search without a retriever")


@contextlib.contextmanager
def opened_asker(
    options: argparse.Namespace,
    settings: params.Params,
    *,
    seed: int,
    greedy: bool,
    mode: Mode = "search",
    quiet: bool = False,
) -> Iterator[Asker]:
    """Load policy and retriever; unless ``quiet``, print which policy it is."""
    from r1_searcher.asking.asker import Asker

    with contextlib.ExitStack() as opened:
        unused = mode == "no_search" and not options.service and options.index == _INDEX and not _INDEX.exists()
        retriever = _NoRetriever() if unused else opened_retriever(options, settings)
        if options.server:
            from r1_searcher.evaluation.served import open_served

            if not options.model:
                raise PipelineError("a server needs the name of a model", where="--server", fix="add --model NAME")
            served = params.ServedPolicy(
                server=options.server,
                model=options.model,
                key_variable=options.key_variable,
                interface=options.interface,
            )
            engine, _ = open_served(served, settings.evaluate.served, opened)
            yield Asker(engine, retriever, settings.rollout, seed, greedy, mode)
            return
        import torch

        from r1_searcher.asking.policies import last_policy
        from r1_searcher.rollout import load_engine

        torch.set_num_threads(settings.threads)
        policy = Path(options.policy) if options.policy else last_policy(settings, options="--policy or --server")
        if not quiet:
            show_piece(f"policy: {policy}\n", style="2", file=sys.stderr)
        yield Asker(
            load_engine(options.policy or policy, settings.rollout), retriever, settings.rollout, seed, greedy, mode
        )
