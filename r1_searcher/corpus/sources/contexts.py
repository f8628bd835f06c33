"""``corpus.source: contexts``: the paragraphs that come with the questions of HotpotQA, 2Wiki and MuSiQue."""

from __future__ import annotations

from collections.abc import Iterator

from r1_searcher.corpus.source import CorpusRequest, reads_files
from r1_searcher.extend import corpus_source


@corpus_source("contexts")
@reads_files
def contexts(request: CorpusRequest, parameters: None) -> Iterator[dict[str, str]]:
    """Yield each distinct paragraph once."""
    from r1_searcher.corpus.contexts import read_contexts

    return read_contexts(request.files, request.counts, request.on_bytes)
