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

    words, at, seen = request.settings.kilt.words, request.position, request.seen
    return read_kilt(request.files, request.counts, words, request.on_bytes, at=at, seen=seen)
