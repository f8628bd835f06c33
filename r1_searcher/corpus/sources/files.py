"""``corpus.source: files``: passages with title and text."""

from __future__ import annotations

from collections.abc import Iterator

from r1_searcher.corpus.source import CorpusRequest, reads_files
from r1_searcher.extend import corpus_source


@corpus_source("files")
@reads_files
def files(request: CorpusRequest, parameters: None) -> Iterator[dict[str, str]]:
    """Yield the passages of ``corpus.files``."""
    from r1_searcher.corpus.files import read_passages

    return read_passages(request.files, request.counts, request.on_bytes, at=request.position, seen=request.seen)
