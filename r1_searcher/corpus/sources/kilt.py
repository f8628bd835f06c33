"""``corpus.source: kilt``: KILT's knowledge source."""

from __future__ import annotations

from collections.abc import Iterator

from r1_searcher.corpus.source import CorpusRequest, reads_files
from r1_searcher.extend import corpus_source


@corpus_source("kilt")
@reads_files
def kilt(request: CorpusRequest, parameters: None) -> Iterator[dict[str, str]]:
    """Yield KILT's pages in passages of ``corpus.kilt.words`` words."""
    from r1_searcher.corpus.kilt import read_kilt

    settings, at, seen = request.settings, request.position, request.seen
    return read_kilt(
        request.files,
        request.counts,
        settings.kilt.words,
        request.on_bytes,
        at=at,
        seen=seen,
        on_bad_row=settings.on_bad_row,
    )
