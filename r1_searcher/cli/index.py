"""`index`: build it, `search` it, `serve` it, list the recorded searches."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from r1_searcher import params
from r1_searcher.errors import PipelineError, command
from r1_searcher.files import sums
from r1_searcher.options import HelpFormatter, add_port, examples, seconds, whole_number
from r1_searcher.shown import printable, show, show_lines
from r1_searcher.transcripts.documents import fold_space
from r1_searcher.types.protocols import Retriever, RetrieverError

if TYPE_CHECKING:
    from r1_searcher.retrieval.lucene.settings import LuceneSettings

_CORPUS = Path("data/corpus")
_INDEX = Path("data/index")


@command
def main(argv: Sequence[str] | None = None, prog: str = "r1-searcher index") -> None:
    """Read the command line and do what it says."""
    options = parser(prog).parse_args(argv)
    if options.command == "search":
        _search(options)
    elif options.command == "searches":
        _searches(options.params)
    elif options.command == "serve":
        _serve(options)
    elif options.command == "load":
        _load(options)
    elif options.command == "takeover":
        _take_over(options)
    else:
        _build(options.params, options.corpus or _CORPUS, options.index)


def parser(prog: str = "r1-searcher index") -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Index a corpus (BM25, and dense if `index.dense` names a model), or search and serve an index.",
        epilog=examples(prog, "--corpus data/corpus --index data/index", 'search "who directed Silent River" -k 3'),
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--params", type=Path, default=params.PARAMS_FILE, metavar="FILE", help="parameters (default: %(default)s)"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="FOLDER",
        help=f"folder of the passages (default: {_CORPUS}); if given, search and serve refuse another corpus' index",
    )
    parser.add_argument(
        "--index", type=Path, default=_INDEX, metavar="FOLDER", help="folder of the index (default: %(default)s)"
    )
    commands = parser.add_subparsers(
        dest="command",
        metavar="search, searches, serve, load, takeover",
        title="commands other than building the index",
    )
    with_folders = [_add_search(commands, prog)]
    commands.add_parser(
        "searches",
        help="list recorded searches (retriever.searches) by retriever",
        epilog=examples(prog, "searches"),
        formatter_class=HelpFormatter,
    )
    with_folders += [_add_serve(commands, prog), _add_load(commands, prog), _add_takeover(commands, prog)]
    for command_parser in with_folders:
        # Suppressed, or these defaults would overwrite options given before the command.
        for option, metavar, what in (
            ("--index", "FOLDER", f"folder of the index (default: {_INDEX})"),
            ("--corpus", "FOLDER", "folder of the passages; if given, an index of another corpus is refused"),
            ("--params", "FILE", f"parameters (default: {params.PARAMS_FILE})"),
        ):
            command_parser.add_argument(option, type=Path, default=argparse.SUPPRESS, metavar=metavar, help=what)
    return parser


def _add_search(commands: Any, prog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "search",
        help="print the best passages for a query",
        description="Print the best passages for a query, using the retriever that the parameters select.",
        epilog=examples(prog, 'search "who directed Silent River" -k 3', 'search --index path/to/index "Kolm"'),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("query", help="words to search for")
    parser.add_argument("-k", type=whole_number("-k"), default=5, help="number of passages (default: %(default)s)")
    return parser


def _add_serve(commands: Any, prog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "serve",
        help="serve the retriever over HTTP (docs/search-service.md)",
        description="Serve the retriever over HTTP. Only this machine can connect unless --host is given.",
        epilog=examples(prog, "serve --port 8400", "serve --index path/to/index --kind bm25"),
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    add_port(parser, 8400)
    parser.add_argument("--kind", help="kind of retriever to serve (default: retriever.kind)")
    for name, default, what in (
        ("--max-batch", 256, "queries per batch (default: %(default)s)"),
        ("--max-waiting", 8192, "queries in the queue (default: %(default)s)"),
        ("--max-queries", 4096, "queries per request (default: %(default)s)"),
    ):
        parser.add_argument(name, type=whole_number(name, 1), default=default, metavar="N", help=what)
    for name, wait, what in (
        ("--max-wait", 20.0, "longest wait in the queue (default: %(default)s)"),
        ("--grace", 30.0, "time to finish requests on shutdown (default: %(default)s)"),
    ):
        parser.add_argument(name, type=seconds(name), default=wait, metavar="SECONDS", help=what)
    return parser


def _add_load(commands: Any, prog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "load",
        help="send the passages to the server of retriever.kind opensearch or milvus (docs/backends.md)",
        description="Send the passages to the server that the parameters select. A load that was killed continues.",
        epilog=examples(prog, "load", "load --corpus path/to/corpus --index path/to/index"),
        formatter_class=HelpFormatter,
    )
    return parser


def _add_takeover(commands: Any, prog: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        "takeover",
        help="use an existing faiss or Lucene index of the corpus (docs/backends.md)",
        description="Compare an index with the corpus and use it. For a faiss index, index.dense names its model.",
        epilog=examples(prog, "takeover path/to/e5_Flat.index", "takeover --rows 1000 path/to/e5_Flat.index"),
        formatter_class=HelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="INDEX", help="a faiss index, or the folder of a Lucene index")
    parser.add_argument(
        "--rows",
        type=whole_number("--rows", 1),
        default=64,
        metavar="N",
        help="rows to compare (default: %(default)s)",
    )
    return parser


def _build(params_file: Path, corpus: Path, folder: Path) -> None:
    from r1_searcher.retrieval.make import make_index

    if folder != _INDEX:  # which is DVC's own
        sums.check_replaceable(folder)
    make_index(params.load_or_shipped(params_file), corpus, folder)


def _search(options: argparse.Namespace) -> None:
    query, k = options.query, options.k
    if k < 1:
        raise PipelineError(f"must be at least 1, got {k}", where="-k")
    if not query.strip():
        raise PipelineError("an empty query", fix='give the words to search for: search "Silent River"')
    try:
        [found] = _retriever(options.params, options.index, options.corpus).search([query], k)
    except RetrieverError as error:
        raise PipelineError(f"the search failed: {error}") from None
    if not found:
        show("nothing found: no passage matches the query")
    for rank, passage in enumerate(found, 1):
        words = f"[{passage.passage_id}] {fold_space(passage.title)}: {fold_space(passage.text)}"
        show(f"{rank}. {passage.score:.3f}  {words}")


def _retriever(params_file: Path, folder: Path, corpus: Path | None) -> Retriever:
    """As the parameters say; an index folder alone, with no parameters beside it, is searched as it is."""
    from r1_searcher.retrieval import open_index, open_retriever

    if not params_file.exists():
        return open_index(folder, corpus=corpus)
    return open_retriever(params.load(params_file), index=folder, corpus=corpus)


def _searches(params_file: Path) -> None:
    from r1_searcher.retrieval.retrievers import record_folder
    from r1_searcher.retrieval.searches import SearchRecord

    record = SearchRecord(record_folder(params.load_or_shipped(params_file)), replay=True)
    for one in record.retrievers():
        show(f"{one.fingerprint[:12]}  {one.kind}: {one.description}; {one.searches:,} searches, {one.calls:,} calls")
        for run, calls in record.runs(one.fingerprint).items():
            show(f"              {run}: {calls:,} calls")
    show(f"→ {record.path}")


def _load(options: argparse.Namespace) -> None:
    from r1_searcher.retrieval.retrievers import load_retriever

    loaded = params.load_or_shipped(options.params)
    show(f"index: {load_retriever(loaded, index=options.index, corpus=options.corpus or _CORPUS)}")


def _take_over(options: argparse.Namespace) -> None:
    from r1_searcher.retrieval.lucene.index import is_lucene, take_over_lucene

    loaded, corpus = params.load_or_shipped(options.params), options.corpus or _CORPUS
    if is_lucene(options.file):
        settings = loaded.retriever.parameters_of("kind") if loaded.retriever.kind == "lucene" else None
        if settings is None:
            raise PipelineError(
                "a Lucene index needs the retriever kind lucene",
                where="params.yaml, retriever.kind",
                fix="set it to lucene",
            )
        meta = take_over_lucene(
            options.file, corpus, cast("LuceneSettings", settings), options.index, rows=options.rows
        )
        show(f"index: {meta['num_passages']:,} documents taken over -> {options.index}/lucene")
        show(f"index: {meta['rows_compared']} of them compared with their passages")
        return
    dense = loaded.index.dense
    if dense is None or not dense.model:
        where, fix = "params.yaml, index.dense.model", "the one that made the index, e.g. intfloat/e5-base-v2"
        raise PipelineError("names no model", where=where, fix=fix)
    from r1_searcher.retrieval.dense.takeover import take_over
    from r1_searcher.retrieval.make import show_taken

    show_taken(take_over(options.file, corpus, dense, options.index, rows=options.rows), options.index)


def _serve(options: argparse.Namespace) -> None:
    settings = params.load_or_shipped(options.params)
    kind = options.kind or settings.retriever.kind
    settings = settings.model_copy(update={"retriever": settings.retriever.model_copy(update={"kind": kind})})
    from r1_searcher.retrieval.retrievers import identify, kind_property, open_retriever

    if kind_property(settings.retriever, "remote"):
        raise PipelineError(
            "a service cannot serve itself", where="params.yaml, retriever.kind", fix="name another kind: --kind bm25"
        )
    from r1_searcher.retrieval.remote.messages import Limits
    from r1_searcher.retrieval.service import server

    asked = server.Settings(
        max_batch=options.max_batch,
        max_waiting=options.max_waiting,
        max_wait=options.max_wait,
        grace=options.grace,
        limits=Limits.for_queries(options.max_queries),
    )
    with server.bind(options.host, options.port) as listener:  # first: it is the cheapest to find taken
        identity = identify(settings, index=options.index)
        retriever = open_retriever(settings, index=options.index, corpus=options.corpus)
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        show_lines(f"{printable(identity.description)}\nretriever {retriever.fingerprint}\nhttp://{shown}:{port}")
        asked = replace(asked, hosts=server.own_hosts(options.host, host))
        server.make_server(server.make_app(retriever, identity, kind, asked), asked).run(sockets=[listener])
