"""``corpus.source: files``: the user's passages, in any known layout."""

from __future__ import annotations

from collections.abc import Iterator

from r1_searcher.corpus.source import CorpusRequest, reads_files
from r1_searcher.extend import corpus_source


@corpus_source("files")
@reads_files
def files(request: CorpusRequest, parameters: None) -> Iterator[dict[str, str]]:
    """Yield the passages of ``corpus.files``."""
    from r1_searcher.corpus.own_files import read_passages

    settings = request.settings
    return read_passages(
        request.files,
        request.counts,
        request.on_bytes,
        columns=settings.mapping,
        on_bad_row=settings.on_bad_row,
        words=settings.kilt.words,
        at=request.position,
        seen=request.seen,
    )
