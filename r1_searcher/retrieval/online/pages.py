"""Web pages: fetched within limits, reduced to their main text, cut into passages, the best passage selected.

An unreadable page does not fail the search: its hit keeps the engine's snippet. robots.txt is not checked; a page is
read at most once per process, as by a person who follows the link.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import httpx
import numpy as np

from r1_searcher.net.replies import encoding
from r1_searcher.params import Online
from r1_searcher.retrieval.online import bounded
from r1_searcher.retrieval.online.guard import GuardedNetwork
from r1_searcher.retrieval.tokenizer import Tokenizer

_TYPES = ("text/html", "application/xhtml+xml", "text/plain")
_MAX_PASSAGES = 200  # per page
_KEPT_PAGES = 512
_K1, _B, _METHOD = 1.5, 0.75, "lucene"


class Pages:
    """Reads pages; threads may share it. No connection outlives its page."""

    def __init__(self, settings: Online) -> None:
        self._settings = settings
        self._network = GuardedNetwork(public_only=not settings.allow_private_addresses)
        self._context = httpx.create_ssl_context()
        self.passages = functools.lru_cache(_KEPT_PAGES)(self._passages)

    def _passages(self, url: str) -> tuple[str, ...]:
        """Return a page's passages in order; empty if it is unreadable or has no text."""
        try:
            found = bounded.get(
                url,
                headers={"User-Agent": self._settings.user_agent, "Accept": ", ".join(_TYPES)},
                network=self._network,
                context=self._context,
                seconds=self._settings.timeout,
                most=self._settings.max_page_bytes,
                wanted=_TYPES,
            )
        except bounded.Unreadable:
            return ()
        if not found.content:
            return ()
        if found.content_type.strip().lower().startswith("text/plain"):
            text = found.content.decode(encoding(found.content_type), "replace")
        else:
            text = main_text(found.content, url)
        return tuple(cut(text, self._settings.passage_words)[:_MAX_PASSAGES])


def main_text(content: bytes, url: str) -> str:
    """Return a page's main text without menus, comments and imprint (trafilatura; Barbaresi, ACL 2021), or ""."""
    import trafilatura

    return trafilatura.extract(content, url=url, include_comments=False, include_tables=True) or ""


def cut(text: str, words: int) -> list[str]:
    """Return consecutive passages of ``words`` words, white space folded; the last may be shorter."""
    found = text.split()
    return [" ".join(found[start : start + words]) for start in range(0, len(found), words)]


def best_passages(query: str, pages: Sequence[Sequence[str]]) -> list[int]:
    """Return, for each page (its passages, at least one), the number of the passage that answers ``query`` best.

    BM25 with the statistics of all these pages together; the first passage if no word of the query occurs.
    """
    if all(len(page) == 1 for page in pages):
        return [0] * len(pages)
    import bm25s

    tokenizer = Tokenizer(folding="case", kind="characters")  # other words would need another _FORM of the retriever
    vocabulary: dict[str, int] = {}
    ids = [
        [vocabulary.setdefault(word, len(vocabulary)) for word in tokenizer(text)] for page in pages for text in page
    ]
    asked = sorted({vocabulary[word] for word in tokenizer(query) if word in vocabulary})
    if not asked:
        return [0] * len(pages)
    scorer = bm25s.BM25(k1=_K1, b=_B, method=_METHOD, backend="numpy", csc_backend="numpy")
    scorer.index((ids, vocabulary), create_empty_token=False, show_progress=False)
    scores = np.asarray(scorer.get_scores_from_ids(asked))
    ends = np.cumsum([len(page) for page in pages])
    return [int(part.argmax()) for part in np.split(scores, ends[:-1])]
