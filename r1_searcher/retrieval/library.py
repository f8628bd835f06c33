"""Retrieval for your own program: index rows, serve a retriever from a thread, open a served one."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.files.artefacts import fingerprint
from r1_searcher.params import Index, Service, shipped
from r1_searcher.retrieval.bm25 import Bm25Retriever, open_index
from r1_searcher.retrieval.build import build_index
from r1_searcher.types.protocols import Retriever
from r1_searcher.types.retriever_kind import Identity
from r1_searcher.types.schemas import PASSAGES


def index_passages(
    passages: pa.Table | Iterable[Mapping[str, Any]], folder: Path | str, *, index: Index | None = None
) -> Bm25Retriever:
    """Index ``passages`` with BM25 into ``folder``, which is replaced whole, and open it (later: ``open_index``).

    Args:
        passages: rows with ``text`` and optionally ``title`` and ``passage_id`` (default: the row's number), or a
            table with these columns. They are held in memory; for more, ``build_index`` takes batches.
        index: BM25's parameters; None: the built-in ones.

    Raises ``PipelineError`` for a row without text, and for passages without a single word.
    """
    given = passages.to_pylist() if isinstance(passages, pa.Table) else passages
    rows = [_row(number, row) for number, row in enumerate(given)]
    table = pa.Table.from_pylist(rows, schema=PASSAGES)
    build_index(table, index or shipped().index, Path(folder), fingerprint(rows))
    return open_index(folder)


def _row(number: int, row: Mapping[str, Any]) -> dict[str, str]:
    if not isinstance(row.get("text"), str):
        raise PipelineError("has no text", where=f"passage {number}", fix="a passage is a row with `text` and `title`")
    name = row.get("passage_id")
    return {
        "passage_id": str(number if name is None else name),
        "title": row.get("title") or "",
        "text": row["text"],
        "source": row.get("source") or "",
    }


@contextlib.contextmanager
def serve_retriever(retriever: Retriever, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a retriever over HTTP from a thread for the duration of the block; yields its address.

    The service is that of ``r1-searcher index serve`` (docs/search-service.md). Port 0: any free one. Raises
    ``PipelineError`` if the address is in use.
    """
    from r1_searcher.retrieval.service import server

    with server.bind(host, port) as listener:
        bound, number = listener.getsockname()[:2]
        settings = server.Settings(hosts=server.own_hosts(host, bound))
        identity = Identity(retriever.fingerprint, "", type(retriever).__name__)
        made = server.make_server(server.make_app(retriever, identity, "library", settings), settings)
        thread = threading.Thread(
            target=made.run, kwargs={"sockets": [listener]}, name="retrieval service", daemon=True
        )
        thread.start()
        try:
            yield f"http://[{bound}]:{number}" if ":" in bound else f"http://{bound}:{number}"
        finally:
            made.should_exit = True
            thread.join()


def open_service(
    url: str,
    *,
    form: str = "own",
    name: str = "",
    fingerprint: str = "",
    key_variable: str = "",
    timeout: float = 30.0,
    wait: float = 60.0,
) -> Retriever:
    """Return the retriever of the search server at ``url``.

    Args:
        form: ``own`` for this project's service, else the form of another project's server (docs/search-service.md).
        name: what another project's server searches, in a name of your own: the retriever's fingerprint.
        fingerprint: the required retriever's, of this project's service; empty: any.
        key_variable: the environment variable with the server's token; empty: it needs none.
        timeout: seconds per request.
        wait: seconds for which to retry a service that does not answer.

    Raises ``PipelineError`` if no server answers, or one with another retriever or in another form.
    """
    given = {"form": form, "name": name, "fingerprint": fingerprint, "key_variable": key_variable}
    settings = Service.model_validate({"url": url, "timeout": timeout, "wait": wait, **given})
    if settings.form != "own":
        from r1_searcher.retrieval.remote.other_projects import OtherServiceRetriever

        return OtherServiceRetriever(settings)
    from r1_searcher.retrieval.remote.client import ServiceRetriever

    return ServiceRetriever(settings)
