"""``corpus.source: hotpotqa_abstracts``: HotpotQA's Wikipedia abstracts."""

from __future__ import annotations

from collections.abc import Iterator

from r1_searcher.corpus.source import CorpusRequest, reads_files
from r1_searcher.extend import corpus_source


@corpus_source("hotpotqa_abstracts")
@reads_files
def hotpotqa_abstracts(request: CorpusRequest, parameters: None) -> Iterator[dict[str, str]]:
    """Yield the abstracts, one passage per article."""
    from r1_searcher.corpus.abstracts import read_abstracts

    return read_abstracts(request.files, request.counts, request.on_bytes)
